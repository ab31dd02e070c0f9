"""The view of ``ingest/``: transactions as append-only files, by name and by inode.

Whatever comes after a close on the same ref waits for that close's work (`_after_close`), and
whatever needs the ref's lock gives other processes a moment to let go of it (`_patiently`).
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FUSEError

from fusefs.handles import Handle
from fusefs.ingestlisting import IngestListing
from fusefs.inodes import INGEST
from fusefs.late import thread_group
from fusefs.nodes import LIVE, IngestNode, IngestNodes
from fusefs.offload import in_thread
from fusefs.writing import OpenIngest
from store import Busy, Digest, NotFound, Ref, Rejected, Writer

if TYPE_CHECKING:
    from fusefs.attributes import Look
    from fusefs.reading import FileReader
    from store import Store

__all__ = ["IngestView"]

_log = logging.getLogger(__name__)

# For another process to let go of a ref.
_PATIENCE: Final = 0.25
_PATIENCE_STEP: Final = 0.01

_Args = TypeVarTuple("_Args")
_Result = TypeVar("_Result")


class IngestReader(Handle):
    """An ingest that is open for reading, with the bytes that it has at each moment."""

    def __init__(self, node: IngestNode, fd: int) -> None:
        self._node = node
        self._fd = fd
        node.readers.append(fd)

    async def read(self, reader: FileReader, offset: int, size: int) -> bytes | memoryview:
        """Bytes so far."""
        return await reader.read(self._fd, offset, size, os.fstat(self._fd).st_size)

    async def release(self) -> None:
        """Close it."""
        self._node.readers.remove(self._fd)
        os.close(self._fd)


class IngestView:
    """Ingests by name and by inode.

    Attributes:
        nodes: those that the kernel knows.
    """

    def __init__(self, store: Store, look: Look) -> None:
        self._store = store
        self._look = look
        self.nodes = IngestNodes()

    # ------------------------------------------------------------------------------ by name: look

    async def lookup(self, name: bytes, pid: int) -> EntryAttributes:
        """The ingest of a name, or the finished file for who wrote it; counted as looked up."""
        ref = Ref.from_file_name(name)
        await self._after_close(ref, changing=False)
        node = self.nodes.of(ref)
        found = node.writer.stat() if node is not None and node.writer is not None else None
        try:
            found = found or self._store.ingests.stat(ref)
        except NotFound:
            node = self.nodes.late.find(ref, pid)
            if node is None:
                raise
            self.nodes.again(node)
            node.lookups += 1
            return self._show(node, None)
        node = self.nodes.live(ref, found)
        node.lookups += 1
        return self._look.ingest(node.inode, found)

    def list(self) -> IngestListing:
        """The folder, open."""
        return IngestListing(self._store, self._look, self.nodes)

    # ----------------------------------------------------------------------------- by inode: look

    async def getattr(self, inode: int) -> EntryAttributes:
        """The attributes of an ingest, or of what it has become."""
        node = await self.at_rest(inode)
        return self.look(node)

    async def at_rest(self, inode: int) -> IngestNode:
        """The node of a number, when a close that came before has done its work."""
        node = self.nodes.at(inode)
        if node.state == LIVE:
            await self._after_close(node.ref, changing=False)
        return node

    def look(self, node: IngestNode) -> EntryAttributes:
        """The attributes of a node at this moment."""
        found = node.writer.stat() if node.writer is not None else None
        if found is None and node.state == LIVE:
            try:
                found = self._store.ingests.stat(node.ref)
            except NotFound:
                found = None
            if found is not None and (found.st_dev, found.st_ino) != node.data:
                found = None
        return self._show(node, found)

    def _show(self, node: IngestNode, found: os.stat_result | None) -> EntryAttributes:
        if node.found is not None:
            return self._look.finished(node.inode, node.found)
        if found is None and node.readers:
            found = os.fstat(node.readers[0])
        if found is None:
            raise FUSEError(errno.ESTALE)
        return self._look.ingest(node.inode, found)

    async def open_to_read(self, inode: int) -> IngestReader:
        """Open what is there so far, or what it has become."""
        node = self.nodes.at(inode)
        try:
            try:
                fd = self._open(node)
            except NotFound:
                await self.settled(node)
                fd = self._open(node)
        except NotFound:
            raise FUSEError(errno.ESTALE) from None
        return IngestReader(node, fd)

    def _open(self, node: IngestNode) -> int:
        if node.digest is not None:
            return self._store.blobs.open(node.digest)
        return self._store.ingests.open_data(self.nodes.live_at(node.inode).ref)

    @staticmethod
    async def settled(node: IngestNode) -> None:
        """Wait for what its writer is about: a commit has removed the data before we know of it."""
        if node.writer is not None:
            async with node.writer.turn:
                pass

    # ------------------------------------------------------------------------- beginning to write

    async def create(self, name: bytes, flags: int, pid: int) -> tuple[OpenIngest, EntryAttributes]:
        """Begin an ingest, or resume it where it has come to be meanwhile."""
        ref = Ref.from_file_name(name)
        await self._after_close(ref, changing=True)
        if flags & os.O_EXCL and self._exists(ref):
            raise FUSEError(errno.EEXIST)
        writer = await self._begin(ref, create=True)
        node = self.nodes.live(ref, os.fstat(writer.fileno()))
        handle = await self._opened(node, writer, flags, pid)
        node.lookups += 1
        return handle, self.look(node)

    async def open_to_write(self, inode: int, flags: int, pid: int) -> OpenIngest:
        """Resume an ingest; under a late name, begin a new one."""
        node = self.nodes.at(inode)
        if node.state == LIVE:
            try:
                writer = await self._begin(node.ref, create=False)
            except NotFound:
                raise FUSEError(errno.ESTALE) from None
            found = os.fstat(writer.fileno())
            if self.nodes.live(node.ref, found) is not node:
                # Another ingest has come to stand under the ref: to be looked up anew.
                writer.close()
                raise FUSEError(errno.ESTALE)
        else:
            if self.nodes.late.find(node.ref, pid) is node:
                # A new file with a number of its own, which the kernel finds when it looks again.
                # Under the present number O_APPEND would go on where the finished file ends.
                await in_thread((await self._begin(node.ref, create=True)).close)
                self.nodes.late.drop(node.ref)
            raise FUSEError(errno.ESTALE)
        return await self._opened(node, writer, flags, pid)

    async def make(self, name: bytes, pid: int) -> EntryAttributes:
        """Mknod: begin an ingest and leave it; where nothing is expected of it, it is done."""
        ref = Ref.from_file_name(name)
        await self._after_close(ref, changing=True)
        if self._exists(ref):
            raise FUSEError(errno.EEXIST)
        begun = time.monotonic()
        writer = await self._begin(ref, create=True)
        node = self.nodes.live(ref, os.fstat(writer.fileno()))
        self._committed(node, await in_thread(_commit_or_close, writer), pid, begun)
        node.lookups += 1
        return self.look(node)

    def _exists(self, ref: Ref) -> bool:
        try:
            self._store.ingests.stat(ref)
        except NotFound:
            return False
        return True

    async def _begin(self, ref: Ref, *, create: bool) -> Writer:
        return await self._patiently((ref,), partial(self._store.writer, ref, create=create))

    async def _opened(self, node: IngestNode, writer: Writer, flags: int, pid: int) -> OpenIngest:
        handle = OpenIngest(self._store, self.nodes, node, writer, flags)
        node.writer = handle
        node.processes.add(thread_group(pid))
        held = writer.offset
        try:
            if flags & os.O_TRUNC:
                await handle.truncate(0)
        except BaseException:
            # The kernel will not send a RELEASE for what it has not opened.
            await handle.release()
            raise
        if held:
            done = "started over, dropping" if flags & os.O_TRUNC else "resumed, at"
            _log.info("ingest %s: %s %d bytes", node.ref, done, held)
        return handle

    # ------------------------------------------------------------------------------ by name: change

    async def unlink(self, name: bytes, pid: int) -> None:
        """Abort an ingest; a late name is left as it is."""
        ref = Ref.from_file_name(name)
        try:
            await self._patiently((ref,), self._store.abort, ref)
        except NotFound:
            if self.nodes.late.find(ref, pid) is None:
                raise
            return
        self.nodes.aborted(ref)
        _log.info("ingest %s: aborted", ref)

    async def rename(self, name: bytes, new_name: bytes, *, replace: bool, pid: int) -> None:
        """Give an ingest another ref; a late name is left as it is."""
        old, new = Ref.from_file_name(name), Ref.from_file_name(new_name)
        await self._after_close(new, changing=True)
        if not replace and self._exists(new):
            raise FUSEError(errno.EEXIST)
        begun = time.monotonic()
        try:
            digest = await self._patiently((old, new), self._store.rename, old, new)
        except NotFound:
            if self.nodes.late.find(old, pid) is None:
                raise
            return
        except Rejected as verdict:
            _log.warning("refused to rename to %s: %s", new, verdict)
            raise
        if old != new:
            self.nodes.renamed(old, new)
            _log.info("ingest %s: renamed to %s", old, new)
        node = self.nodes.of(new)
        if node is not None:
            self._committed(node, digest, pid, begun)

    # ----------------------------------------------------------------------------- by inode: change

    async def truncate(self, inode: int, size: int, pid: int) -> None:
        """Truncate by path: as by a handle that is open for this call alone."""
        node = self.nodes.at(inode)
        if node.found is not None:
            if node.found.st_size != size:
                raise FUSEError(errno.EPERM)
            return
        node = self.nodes.live_at(inode)
        await self._after_close(node.ref, changing=True)
        if node.writer is not None:
            await node.writer.truncate(size)
            return

        def change() -> Digest | None:
            writer = self._store.writer(node.ref, create=False)
            try:
                writer.truncate(size)
            except BaseException:
                writer.close()
                raise
            return _commit_or_close(writer)

        begun = time.monotonic()
        try:
            self._committed(node, await self._patiently((node.ref,), change), pid, begun)
        except NotFound:
            raise FUSEError(errno.ESTALE) from None
        except Rejected as verdict:
            _log.warning("refused %s", verdict)
            raise

    async def expect(self, inode: int, change: Callable[[Ref], None], pid: int) -> None:
        """Change what is expected of an ingest, and commit it if that makes it complete.

        Raises:
            Rejected: it is complete, and is not that.  What is expected is written down anyway.
        """
        node = self.nodes.live_at(inode)
        await self._after_close(node.ref, changing=True)
        if node.writer is not None:
            await node.writer.expect(change)
            return

        def set_and_settle() -> Digest | None:
            change(node.ref)
            try:
                return self._store.settle(node.ref)
            except Busy:
                # A writer of another process holds it, whose close will see to it.
                return None

        begun = time.monotonic()
        try:
            self._committed(node, await in_thread(set_and_settle), pid, begun)
        except NotFound:
            raise FUSEError(errno.ESTALE) from None
        except Rejected as verdict:
            _log.warning("refused %s", verdict)
            raise

    async def digest(self, node: IngestNode) -> Digest:
        """The digest of the bytes so far."""
        if node.digest is not None:
            return node.digest
        found = None if node.writer is None else await node.writer.digest()
        if found is None:
            found = await in_thread(self._store.digest_so_far, node.ref)
        return found

    def _committed(self, node: IngestNode, digest: Digest | None, pid: int, begun: float) -> None:
        if digest is None:
            return
        try:
            found = self._store.blobs.stat(digest)
        except NotFound:
            # Deleted as soon as it was there.
            self.nodes.aborted(node.ref)
            return
        node.processes.add(thread_group(pid))
        self.nodes.committed(node, digest, found)
        _log.info(
            "committed %s, %d bytes, from ingest %s in %.3f s",
            digest, found.st_size, node.ref, time.monotonic() - begun,
        )  # fmt: skip

    def let_go(self) -> None:
        """Have the kernel forget the names of past commits: it and we would keep 2 KiB of each."""
        for ref in self.nodes.late.over():
            pyfuse3.invalidate_entry_async(INGEST, ref.file_name, ignore_enoent=True)

    # ------------------------------------------------------------------------------------ waiting

    async def _after_close(self, ref: Ref, *, changing: bool) -> None:
        """Wait for the work of a close that came before, if one did; see `OpenIngest.closed`."""
        node = self.nodes.of(ref)
        if node is not None and node.writer is not None:
            await node.writer.closed(changing=changing)

    async def _patiently(
        self, refs: Sequence[Ref], function: Callable[[*_Args], _Result], *args: *_Args
    ) -> _Result:
        """Run what needs the locks of some refs, in a thread.

        Raises:
            Busy: a handle of this mount holds one, or for a quarter of a second another process.
        """
        deadline = trio.current_time() + _PATIENCE
        while True:
            for ref in refs:
                await self._after_close(ref, changing=True)
                node = self.nodes.of(ref)
                if node is not None and node.writer is not None:
                    raise Busy(ref.text, os.getpid())
            try:
                return await in_thread(function, *args)
            except Busy:
                if trio.current_time() >= deadline:
                    raise
            await trio.sleep(_PATIENCE_STEP)


def _commit_or_close(writer: Writer) -> Digest | None:
    with writer:
        return writer.commit() if writer.is_complete() else None
