"""Bytes of a file for the kernel: from the page cache at once, from the disk in a thread."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from typing import Final

from fusefs.offload import in_thread

__all__ = ["FileReader"]

# The largest READ that the kernel sends (max_pages).
_LARGEST: Final = 1024 * 1024
_HUGE_PAGE: Final = 2 * 1024 * 1024
# What pread says when it would have to wait, and what a file system says that cannot tell.
_WOULD_WAIT: Final = errno.EAGAIN
_CANNOT_TELL: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class FileReader:
    """Reads files on the event loop without waiting for a disk.

    One buffer serves all: pyfuse3 sends a reply before it lets anything else run, so the view that
    `read` returns need only last until its caller's next await.  To make a bytes object of each
    MiB would halve the throughput.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = memoryview(_huge_page())[:_LARGEST]

    async def read(self, fd: int, offset: int, size: int, file_size: int) -> bytes | memoryview:
        """Exactly the bytes asked for, or all that there are.

        Anything less would be the end of the file to the kernel.

        Args:
            fd: the file.
            offset: where to begin, in bytes.
            size: how many bytes at the most.
            file_size: how many bytes the file has.

        Raises:
            OSError: they cannot be read; EIO where the file is shorter than ``file_size``.
        """
        wanted = min(size, file_size - offset)
        if wanted <= 0:
            return b""
        if wanted > _LARGEST:
            return await in_thread(_read_all, fd, offset, wanted)
        view = self._buffer[:wanted]
        try:
            got = os.preadv(fd, [view], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == _WOULD_WAIT:
                return await in_thread(_read_all, fd, offset, wanted)
            if error.errno not in _CANNOT_TELL:
                raise
            # tmpfs and others: they are in memory, or we cannot know better.
            got = os.preadv(fd, [view], offset)
        if got < wanted:
            return await in_thread(_read_all, fd, offset, wanted)
        return view


def _huge_page() -> mmap.mmap:
    """Memory in one huge page, if the kernel has one for us (transparent_hugepage is not never).

    A copy into and out of 256 pages of their own takes a virtual machine twice as long, since for
    each the processor walks through the tables of two kernels.
    """
    # Of this size, so that Linux 6.7 and later begin it where a huge page can.
    area = mmap.mmap(-1, _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        area.madvise(mmap.MADV_HUGEPAGE)
    return area


def _read_all(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset)
    if len(data) == size:
        return data
    parts = [data]
    got = len(data)
    while got < size:
        part = os.pread(fd, size - got, offset + got)
        if not part:
            raise OSError(errno.EIO, "a file in the store is shorter than it was")
        parts.append(part)
        got += len(part)
    return b"".join(parts)
