"""The view of ``blobs/``: a folder for each algorithm, and the blobs in it as read-only files."""

from __future__ import annotations

import errno
import logging
import os
import stat
from typing import TYPE_CHECKING

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError

from fusefs.attributes import Look
from fusefs.bloblisting import BlobListing
from fusefs.handles import Handle
from fusefs.inodes import FIRST_ALGORITHM, BlobInodes
from fusefs.offload import in_thread
from fusefs.peeking import peek
from fusefs.watching import BlobWatch
from store import Digest, InvalidDigest, NotFound, Store

if TYPE_CHECKING:
    from fusefs.reading import FileReader

_log = logging.getLogger(__name__)

__all__ = ["BlobView", "OpenBlob", "stat_or_root"]


def stat_or_root(store: Store, folder: str) -> os.stat_result:
    """The stat of a folder of the store, or of its root while nobody has needed the folder."""
    try:
        return os.stat(folder)
    except FileNotFoundError:
        return os.stat(store.root)


class OpenBlob(Handle):
    """A blob that a client has open."""

    keep_cache = True

    def __init__(self, view: BlobView, inode: int, fd: int) -> None:
        self._view = view
        self._inode = inode
        # It stays readable when the blob is deleted.
        self._fd = fd
        self._size = os.fstat(fd).st_size

    async def read(self, reader: FileReader, offset: int, size: int) -> bytes | memoryview:
        """Bytes of the blob."""
        return await reader.read(self._fd, offset, size, self._size)

    async def release(self) -> None:
        """Close it."""
        self._view.closed(self._inode, self._fd)
        os.close(self._fd)


class BlobView:
    """Blobs by name and by inode."""

    def __init__(self, store: Store, look: Look) -> None:
        self._store = store
        self._look = look
        self._inodes = BlobInodes()
        # How a deleted blob still answers fstat(2): the kernel asks by inode, not by handle.
        self._open: dict[int, list[int]] = {}
        self._algorithms: list[str] = []
        self._watch = BlobWatch(store.layout, self._gone, self._all_gone)

    async def watch(self) -> None:
        """Tell the kernel of the blobs that go behind the mount, until cancelled."""
        await self._watch.run()

    def _gone(self, algorithm: str, name: str) -> None:
        try:
            key = self._inodes.key(Digest(algorithm, name))
        except InvalidDigest:
            return
        if self._inodes.number(key) in self._inodes:
            self._invalidate(algorithm, name)

    def _all_gone(self) -> None:
        for digest in self._inodes.digests():
            self._invalidate(digest.algorithm, digest.hex)

    def _invalidate(self, algorithm: str, name: str) -> None:
        # Through pyfuse3's own thread: it waits for whoever is looking into the folder.
        parent = self.algorithm_inode(algorithm)
        pyfuse3.invalidate_entry_async(parent, name.encode(), ignore_enoent=True)

    # -------------------------------------------------------------------------------- algorithms

    def algorithm_inode(self, name: str) -> int:
        """The number of an algorithm's folder; each keeps its own."""
        if name not in self._algorithms:
            self._algorithms.append(name)
        return FIRST_ALGORITHM + self._algorithms.index(name)

    def algorithm(self, inode: int) -> str | None:
        """The algorithm whose folder a number stands for."""
        place = inode - FIRST_ALGORITHM
        return self._algorithms[place] if 0 <= place < len(self._algorithms) else None

    def algorithm_look(self, name: str) -> EntryAttributes:
        """The attributes of an algorithm's folder, which need not be on disk yet."""
        found = stat_or_root(self._store, self._store.layout.algorithm(name))
        return self._look.directory(self.algorithm_inode(name), found, writable=False)

    async def algorithms(self) -> list[str]:
        """The algorithms that have a folder."""
        return await in_thread(self._store.blobs.algorithms)

    # ------------------------------------------------------------------------------------- blobs

    async def lookup(self, algorithm: str, name: bytes) -> EntryAttributes:
        """The blob of a name, counted as looked up.

        Raises:
            NotFound: there is none, or it is no digest's name.
        """
        digest = self._named(algorithm, name)
        found, fresh = await self._stat(digest)
        number = self._inodes.count(self._inodes.key(digest))
        return self._look.blob(number, found, lasting=fresh and self._watch.covers(algorithm))

    async def _stat(self, digest: Digest) -> tuple[os.stat_result, bool]:
        """The stat of a blob, and whether it is of this very moment: nothing was awaited since."""
        path = self._store.layout.blob(digest)
        found = _peek_file(path)
        if found is not None:
            return found, True
        found = await in_thread(self._store.blobs.stat, digest)
        now = _peek_file(path)
        return now or found, now is not None

    def forget(self, inode: int, lookups: int) -> None:
        """The kernel lets go of a blob."""
        self._inodes.forget(inode, lookups)

    def digest(self, inode: int) -> Digest:
        """The blob that a number stands for.

        Raises:
            FUSEError: ESTALE; the kernel then looks the name up again by itself.
        """
        digest = self._inodes.digest(inode)
        if digest is None:
            raise FUSEError(errno.ESTALE)
        return digest

    async def getattr(self, inode: int) -> EntryAttributes:
        """The attributes of a blob, also of one that is deleted while somebody has it open."""
        try:
            found, _ = await self._stat(self.digest(inode))
        except NotFound:
            if inode not in self._open:
                raise FUSEError(errno.ESTALE) from None
            found = os.fstat(self._open[inode][0])
        return self._look.blob(inode, found, lasting=False)

    def open(self, inode: int) -> OpenBlob:
        """Open a blob for reading."""
        try:
            fd = self._store.blobs.open(self.digest(inode))
        except NotFound:
            raise FUSEError(errno.ESTALE) from None
        self._open.setdefault(inode, []).append(fd)
        return OpenBlob(self, inode, fd)

    def closed(self, inode: int, fd: int) -> None:
        """What `open` has opened is about to be closed."""
        fds = self._open[inode]
        fds.remove(fd)
        if not fds:
            del self._open[inode]

    async def delete(self, algorithm: str, name: bytes) -> None:
        """Delete a blob; those who have it open can read on."""
        digest = self._named(algorithm, name)
        await in_thread(self._store.delete, digest)
        _log.info("deleted %s", digest)

    @staticmethod
    def _named(algorithm: str, name: bytes) -> Digest:
        try:
            return Digest(algorithm, name.decode("ascii", "replace"))
        except InvalidDigest:
            raise NotFound("blob", f"{algorithm}/{name!r}") from None

    def list(self, algorithm: str) -> BlobListing:
        """An algorithm's folder, open."""
        return BlobListing(algorithm, self._store, self._look, self._inodes, self._watch)


def _peek_file(path: str) -> os.stat_result | None:
    try:
        found = peek(path)
    except FileNotFoundError:
        return None
    return found if found is not None and stat.S_ISREG(found.st_mode) else None
