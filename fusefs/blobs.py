"""The view of ``blobs/``: a folder for each algorithm, and the blobs in it as read-only files."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError

from fusefs.attributes import Look
from fusefs.handles import Handle
from fusefs.inodes import FIRST_ALGORITHM, BlobInodes
from fusefs.listing import Listing
from fusefs.offload import in_thread
from fusefs.peeking import peek
from fusefs.watching import BlobWatch
from store import Digest, InvalidDigest, NotFound, Store, algorithms
from store.digest import hex_length

if TYPE_CHECKING:
    from fusefs.reading import FileReader

_log = logging.getLogger(__name__)

__all__ = ["BlobListing", "BlobView", "OpenBlob", "stat_or_root"]

# Stats of so many entries take a thread about two milliseconds.
_BATCH: Final = 512

# A blob in a listing: its name, its key in the table of inodes, its stat.
_Entry = tuple[bytes, bytes, os.stat_result]


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
        key = self._inodes.key(digest)
        number = self._inodes.number(key)
        self._inodes.count(number, key)
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


class BlobListing(Listing[_Entry]):
    """The blobs of one algorithm, in whatever order the disk has them.

    What is done for each of a million entries is done here with the least that will do: no
    `Digest`, and one object for all attributes, which pyfuse3 copies into its reply.
    """

    def __init__(
        self, algorithm: str, store: Store, look: Look, inodes: BlobInodes, watch: BlobWatch
    ) -> None:
        self._algorithm = algorithm
        self._store = store
        self._inodes = inodes
        self._watch = watch
        # How many blobs had gone before the batch was read; None where nobody counts.
        self._departures: int | None = None
        self._prefix = inodes.prefix(algorithm)
        self._shared = look.shared_blob()
        self._number = 0
        self._entries: Iterator[_Entry] = iter(())
        # The batch at hand, and the place of its first entry.
        self._batch: Sequence[_Entry] = ()
        self._start = 0

    async def batch(self, place: int) -> Sequence[_Entry]:
        """Some blobs from the ``place``-th on.

        The kernel goes forward, and back by the entries that did not fit; a seekdir(3) to anywhere
        else reads the folder from its beginning.
        """
        end = self._start + len(self._batch)
        if place in (0, end) or not self._start <= place <= end:
            covered = self._watch.covers(self._algorithm)
            self._departures = self._watch.departures if covered else None
        if place == 0 or not self._start <= place <= end:
            self._entries = self._scan()
            self._batch = await in_thread(self._take, place)
            self._start = place
        elif place == end:
            self._batch = await in_thread(self._take, 0)
            self._start = end
        return self._batch[place - self._start :]

    def show(self, entry: _Entry) -> tuple[bytes, EntryAttributes]:
        """A blob's name and attributes."""
        name, key, found = entry
        self._number = self._inodes.number(key)
        return name, self._shared(self._number, found, self._departures == self._watch.departures)

    def given(self, entry: _Entry) -> None:
        """Count the lookup of what was shown last."""
        self._inodes.count(self._number, entry[1])

    def _take(self, skip: int) -> Sequence[_Entry]:
        return list(islice(self._entries, skip, skip + _BATCH))

    def _scan(self) -> Iterator[_Entry]:
        if self._algorithm not in algorithms():
            return
        length = hex_length(self._algorithm)
        for entry in self._store.blobs.scan(self._algorithm):
            name = entry.name
            try:
                raw = bytes.fromhex(name)
            except ValueError:
                continue
            if len(name) != length or raw.hex() != name:
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield name.encode(), self._prefix + raw, found
