"""The files that clients have open, by the numbers that the kernel has for them."""

from __future__ import annotations

import contextlib
import errno
import itertools
from typing import TYPE_CHECKING, Final

import trio
from pyfuse3 import FileInfo, FUSEError

from fusefs.errors import answering
from fusefs.offload import in_background
from fusefs.writing import OpenIngest

if TYPE_CHECKING:
    from fusefs.handles import Handle

__all__ = ["OpenFiles"]

# Not more, or calls that somebody waits for would not get a thread.
_CLOSING: Final = 16


class OpenFiles:
    """All open files of a mount."""

    def __init__(self) -> None:
        # Our own numbers: a descriptor's would be given out again while its close is under way.
        self._numbers = itertools.count(1)
        self._handles: dict[int, Handle] = {}
        self._closing = trio.Semaphore(_CLOSING)

    def keep(self, handle: Handle) -> FileInfo:
        """Give an open file a number."""
        number = next(self._numbers)
        self._handles[number] = handle
        return FileInfo(fh=number, direct_io=handle.direct_io, keep_cache=handle.keep_cache)

    def __getitem__(self, fh: int) -> Handle:
        """The file of a number."""
        return self._handles[fh]

    def writer(self, fh: int) -> OpenIngest:
        """The ingest that is open for writing.

        Raises:
            FUSEError: EBADF for any other file.
        """
        handle = self._handles[fh]
        if not isinstance(handle, OpenIngest):
            raise FUSEError(errno.EBADF)
        return handle

    async def release(self, fh: int) -> None:
        """Close a file, at once or, where there is work left to do, in a task of its own.

        A RELEASE is answered before that work is done: no more than twelve are under way at a
        time, and an open that follows a close, and waits for its work, must not have to wait for
        the work of others before we even know that it was the last.
        """
        handle = self._handles[fh]
        if isinstance(handle, OpenIngest):
            handle.releasing = True
            if not handle.is_blob:
                in_background(self._put_down, fh)
                return
        await self._release(fh)

    async def _put_down(self, fh: int) -> None:
        with contextlib.suppress(FUSEError):
            async with self._closing:
                await self._release(fh)

    @answering
    async def _release(self, fh: int) -> None:
        handle = self._handles.get(fh)
        if handle is not None:
            # Kept until it is done: what the mount's end cancels is called once more.
            await handle.release()
            self._handles.pop(fh, None)

    async def drain(self) -> None:
        """Finish every file whose RELEASE never came: the kernel drops them at umount."""
        for fh in list(self._handles):
            with contextlib.suppress(FUSEError):
                await self._release(fh)
