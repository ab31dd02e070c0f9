"""An ingest that a client has open for writing, and when it becomes a blob.

close(2) reaches us as FLUSH, once for each copy of the descriptor, and as RELEASE, after the last,
whose answer nobody sees.  A shell makes a FLUSH before it has written anything (``> file``), and
one in mid-stream for each program in a group.  So (contract, "When a commit happens"):

* A FLUSH that finds what is expected commits there and then: it cannot be mistaken.
* A FLUSH that finds it not says so only where bytes came since the last one, and where the ingest
  is not known to be short.
* The RELEASE decides what is left, or the end of the mount, since the kernel drops RELEASEs at
  umount.

What may interleave: `OpenIngest.turn` is held across every await that uses the writer, so one
request of a handle is served after another; `_still` is what others see of it meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import time
from typing import TYPE_CHECKING, Final

import trio
from pyfuse3 import FUSEError

from fusefs.handles import Handle
from fusefs.offload import in_thread
from fusefs.turn import Turn
from store import Digest, NotFound, Rejected, StoreError, Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from fusefs.nodes import IngestNode, IngestNodes
    from fusefs.reading import FileReader
    from store import Ref, Store

__all__ = ["OpenIngest"]

_log = logging.getLogger(__name__)

_SYNCHRONOUS: Final = os.O_SYNC | os.O_DSYNC
# For the RELEASE that follows what looks like the last close.  It comes within milliseconds; all
# of this is waited only right after the close of a copy of a descriptor that stays open.
_RELEASE_PATIENCE: Final = 0.5
# What is hashed in less than a millisecond.
_LITTLE: Final = 1024 * 1024


class OpenIngest(Handle):
    """A writer in a client's hands.

    Attributes:
        node: the ingest.
        turn: who uses the writer; see the module.
        flushed: when a FLUSH was answered, by trio's clock, if no write came since: it may have
            been the last close.
        undecided: such a FLUSH left the verdict to the RELEASE.
        releasing: the RELEASE has come.
        decided: set when it is known whether that makes it a blob.
        ended: set when its work is done.
    """

    direct_io = True

    def __init__(
        self, store: Store, nodes: IngestNodes, node: IngestNode, writer: Writer, flags: int
    ) -> None:
        self.node = node
        self.turn = Turn()
        self.flushed = -math.inf
        self.undecided = False
        self.releasing = False
        self.decided = trio.Event()
        self.ended = trio.Event()
        self._store = store
        self._nodes = nodes
        # None once the ingest is a blob.  Guarded by: `turn`.
        self._writer: Writer | None = writer
        self._digest: Digest | None = None
        self._blob: int | None = None
        self._synchronous = bool(flags & _SYNCHRONOUS)
        self._readable = flags & os.O_ACCMODE == os.O_RDWR
        self._dirty = False
        self._unsynced = False
        # What the last verdict of no was about, for as long as nothing of it has changed.
        self._refused: tuple[int, Digest | None, int | None] | None = None
        # The data's stat while a thread has the writer, whose descriptor may go any moment.
        self._still: os.stat_result | None = None

    # ---------------------------------------------------------------------------------- looking

    @property
    def is_blob(self) -> bool:
        """Whether it was committed, and nothing is left to decide."""
        return self._writer is None

    def stat(self) -> os.stat_result | None:
        """The stat of the data at this moment; None once it is a blob."""
        if self._still is not None:
            return self._still
        return None if self._writer is None else os.fstat(self._writer.fileno())

    async def read(self, reader: FileReader, offset: int, size: int) -> bytes | memoryview:
        """Bytes so far; after the commit, of the blob."""
        async with self.turn:
            if self._writer is not None:
                fd = self._writer.fileno()
            elif self._blob is not None:
                fd = self._blob
            else:
                raise FUSEError(errno.EBADF)
            return await reader.read(fd, offset, size, os.fstat(fd).st_size)

    async def digest(self) -> Digest | None:
        """The digest of the bytes so far; None where it was closed before they were asked for."""
        async with self.turn:
            if self._writer is None:
                return self._digest
            return await in_thread(self._writer.digest)

    # --------------------------------------------------------------------------------- changing

    async def write(self, offset: int, data: bytes) -> int:
        """Append; before the end is EPERM, and so is everything after the commit."""
        async with self.turn:
            if self._writer is None:
                raise FUSEError(errno.EPERM)
            with _naming(self.node):
                count = self._writer.write(data, offset)
            self._changed()
            if self._synchronous:
                # Under direct_io the kernel sends no FSYNC for O_SYNC and O_DSYNC.
                await self._sync()
        return count

    async def truncate(self, size: int) -> None:
        """To nothing, to the present size, or to more."""
        async with self.turn:
            if self._writer is None:
                if self.node.found is None or self.node.found.st_size != size:
                    raise FUSEError(errno.EPERM)
            elif size != self._writer.offset:
                with _naming(self.node):
                    self._writer.truncate(size)
                self._changed()

    def _changed(self) -> None:
        self._dirty = self._unsynced = True
        self._refused = None
        self.flushed, self.undecided = -math.inf, False

    async def sync(self) -> None:
        """Make the bytes so far durable; a blob is."""
        async with self.turn:
            if self._writer is not None:
                await self._sync()

    async def _sync(self) -> None:
        if self._writer is None:
            return
        self._still = os.fstat(self._writer.fileno())
        try:
            with _naming(self.node):
                await in_thread(self._writer.sync)
        finally:
            self._still = None
        self._unsynced = False

    async def expect(self, change: Callable[[Ref], None]) -> None:
        """Change what is expected: writes are held against it from now on; of a blob, nothing."""
        async with self.turn:
            if self._writer is not None:
                await in_thread(change, self.node.ref)
                self._writer.refresh()
                # Also where it is again as it was at the last verdict, whose note is gone.
                self._refused = None

    # ------------------------------------------------------------------------------- committing

    async def flush(self) -> None:
        """One of the descriptors was closed.

        Raises:
            Rejected: the ingest is complete, and not what is expected.
            OSError: a step of the commit failed.
        """
        async with self.turn:
            wrote, self._dirty = self._dirty, False
            try:
                await self._judge(wrote=wrote)
            finally:
                self.flushed = trio.current_time()

    async def _judge(self, *, wrote: bool) -> None:
        writer = self._writer
        if writer is None or not self._is_to_be_judged(writer):
            return
        if not wrote and writer.lag > _LITTLE:
            # `>>` flushes at once: that must not hash all that an earlier mount has left.
            writer.catch_up()
            self.undecided = True
            return
        try:
            await self._commit(writer)
        except Rejected:
            if wrote:
                raise

    async def closed(self, *, changing: bool) -> None:
        """Wait for the work of the last close, if it looks as if that had come.

        Between its FLUSH and its RELEASE nothing tells that it was the last.

        Args:
            changing: whether to wait for all of it.  Who only looks waits for the verdict: for
                what changes nothing that can be seen, such as a sync, a LOOKUP would hold up
                all others in the folder, since libfuse 3.14 leaves FUSE_PARALLEL_DIROPS off.
        """
        if not self.releasing and (changing or self.undecided):
            until = self.flushed + _RELEASE_PATIENCE
            if trio.current_time() < until:
                with trio.move_on_at(until):
                    await self.ended.wait()
        if self.releasing:
            await (self.ended if changing else self.decided).wait()

    async def release(self) -> None:
        """The last of the descriptors was closed: decide, and let go of the ref."""
        self.releasing = True
        async with self.turn:
            if self.ended.is_set():
                return
            if self._writer is not None:
                try:
                    await self._put_down(self._writer)
                except Exception:  # noqa: BLE001 - whatever it was, the others must not wait for ever
                    _log.exception("a fault in closing ingest %s", self.node.ref)
            # Not reached when the mount's end cancels us: then this is called once more.
            if self.node.writer is self:
                self.node.writer = None
            self.decided.set()
            self.ended.set()
            if self._blob is not None:
                os.close(self._blob)
            # The kernel may have let go of it meanwhile.
            self._nodes.forget(self.node.inode, 0)

    async def _put_down(self, writer: Writer) -> None:
        try:
            if self._is_to_be_judged(writer):
                await self._commit(writer)
                return
        except Rejected:
            pass  # Said where it was found; the bytes stay.
        except (OSError, StoreError) as error:
            _log.error("ingest %s: cannot be committed: %s", self.node.ref, error)
        except Exception:  # noqa: BLE001 - a fault of ours must not keep the ref for ever
            _log.exception("a fault in committing ingest %s", self.node.ref)
        self._still = os.fstat(writer.fileno())
        self.decided.set()
        try:
            await in_thread(_close, writer, self._unsynced)
        except (OSError, StoreError) as error:
            _log.error("ingest %s: may not survive a power loss: %s", self.node.ref, error)
        finally:
            self._writer = self._still = None

    def _is_to_be_judged(self, writer: Writer) -> bool:
        return writer.is_complete() and self._refused != _subject(writer)

    async def _commit(self, writer: Writer) -> None:
        begun = time.monotonic()
        self._still = found = os.fstat(writer.fileno())
        # Who may read goes on to, even where the blob is deleted the moment that it is there.
        blob = _opened_again(writer.fileno()) if self._readable else None
        try:
            with _naming(self.node):
                digest = await in_thread(writer.commit)
        except BaseException as error:
            if blob is not None:
                os.close(blob)
            if isinstance(error, Rejected):
                self._refused = _subject(writer)
                _log.warning("refused %s", error)
            raise
        finally:
            self._still = None
        self._writer, self._digest, self._blob = None, digest, blob
        with contextlib.suppress(NotFound):
            found = self._store.blobs.stat(digest)
        self._nodes.committed(self.node, digest, found)
        _log.info(
            "committed %s, %d bytes, from ingest %s in %.3f s",
            digest, found.st_size, self.node.ref, time.monotonic() - begun,
        )  # fmt: skip


class _naming:  # noqa: N801 - reads as the `with` statement that it is for
    """Has an error of the disk say which ingest it was about; cheap, since each write is in it."""

    __slots__ = ("_node",)

    def __init__(self, node: IngestNode) -> None:
        self._node = node

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Name the ingest where the error names nothing."""
        if isinstance(error, OSError) and error.filename is None:
            error.filename = f"ingest {self._node.ref}"


def _subject(writer: Writer) -> tuple[int, Digest | None, int | None]:
    return writer.offset, writer.expected, writer.total


def _opened_again(fd: int) -> int:
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)


def _close(writer: Writer, sync: bool) -> None:  # noqa: FBT001 - a thread's arguments have no names
    try:
        if sync:
            writer.sync()
    finally:
        writer.close()
