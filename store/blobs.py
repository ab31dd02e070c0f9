"""The blobs of a store: found, listed, opened, deleted, and the folders they are published to."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from store import disk
from store.digest import KNOWN, Digest, algorithms, hex_length
from store.errors import NotFound, NotRegular, UnsupportedAlgorithm
from store.names import sorted_names
from store.sharedsync import SharedSync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from store.layout import Layout

__all__ = ["Blobs", "Info"]


class Info(NamedTuple):
    """What is known of a blob.

    Attributes:
        digest: its name.
        size: its size in bytes.
        created_ns: when it was committed, in nanoseconds since the epoch.
    """

    digest: Digest
    size: int
    created_ns: int


class Blobs:
    """The blobs of one store.  Safe from many threads."""

    __slots__ = ("_durable", "_layout", "_syncs")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # Guarded by: the interpreter lock.  An algorithm is here once its folder is durable.
        self._durable: set[str] = set()
        self._syncs: dict[str, SharedSync] = {}

    # ---------------------------------------------------------------------------------- looking

    def stat(self, digest: Digest) -> os.stat_result:
        """The stat of a blob's file.

        Raises:
            NotFound: there is no regular file of that name.
        """
        try:
            found = os.lstat(self._path(digest))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("blob", str(digest)) from None
        if not stat.S_ISREG(found.st_mode):
            raise NotFound("blob", str(digest))
        return found

    def _path(self, digest: Digest) -> str:
        """The path of a blob, which leads through no symlink below the folder of all blobs."""
        if not _is_folder(self._layout.algorithm(digest.algorithm)):
            raise NotFound("blob", str(digest))
        return self._layout.blob(digest)

    def open(self, digest: Digest) -> int:
        """A descriptor for reading a blob.

        Raises:
            NotFound: there is nothing of that name.
            NotRegular: what stands there is no file.
        """
        try:
            return disk.open_regular(self._path(digest), os.O_RDONLY)
        except FileNotFoundError:
            raise NotFound("blob", str(digest)) from None

    def holds(self, digest: Digest) -> bool:
        """Whether the blob is there, and no fsync of it has failed here.

        Raises:
            NotRegular: something that is no file stands in its place.
        """
        path = self._layout.blob(digest)
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(found.st_mode):
            raise NotRegular(path)
        return not disk.is_doubtful(found)

    def algorithms(self) -> list[str]:
        """The algorithms that are available, and those of which blobs lie here, sorted."""
        try:
            with os.scandir(self._layout.blobs) as entries:
                on_disk = {
                    entry.name
                    for entry in entries
                    if entry.name in KNOWN and entry.is_dir(follow_symlinks=False)
                }
        except (FileNotFoundError, NotADirectoryError):
            on_disk = set()
        return sorted(on_disk.union(algorithms()))

    def scan(self, algorithm: str) -> Iterator[os.DirEntry[str]]:
        """The entries of an algorithm's folder as they come, odd ones too; close the iterator.

        What an entry is asked for, such as its stat, has to be asked before the next is taken.
        """
        folder = self._layout.algorithm(algorithm)
        if not _is_folder(folder):
            return
        try:
            # By descriptor, so that a stat does not walk the whole path for each of a million.
            fd = disk.open_dir(folder)
        except (FileNotFoundError, NotRegular):
            return
        try:
            with os.scandir(fd) as entries:
                yield from entries
        finally:
            os.close(fd)

    def names(self, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
        """As `digests`, but in parts: an algorithm, and some of its hex, sorted.

        For who handles a million of them and needs no objects.
        """
        for algorithm in self.algorithms():
            wanted = _name_prefix(prefix, algorithm)
            if wanted is None:
                continue
            try:
                length = hex_length(algorithm)
            except UnsupportedAlgorithm:
                continue
            for names in sorted_names(self.scan(algorithm), length, wanted):
                yield algorithm, names

    def digests(self, prefix: str = "") -> Iterator[Digest]:
        """The digests of all blobs whose text begins with ``prefix``, sorted."""
        for algorithm, names in self.names(prefix):
            for name in names:
                yield Digest(algorithm, name)

    def walk(self, prefix: str = "") -> Iterator[Info]:
        """All blobs whose digest's text begins with ``prefix``, sorted by digest.

        A blob that goes while the walk is under way is passed over.
        """
        for digest in self.digests(prefix):
            try:
                found = self.stat(digest)
            except NotFound:
                continue
            yield Info(digest, found.st_size, found.st_mtime_ns)

    # --------------------------------------------------------------------------------- changing

    def delete(self, digest: Digest) -> None:
        """Remove a blob; those who have it open can read on.

        Not synced: after a power loss the blob may be there again, whole.

        Raises:
            NotFound: it is not there.
        """
        self.stat(digest)
        if not disk.unlink(self._layout.blob(digest)):
            raise NotFound("blob", str(digest))

    def prepare(self, algorithm: str) -> None:
        """Have the algorithm's folder there, durably, so that a blob can be linked into it.

        Raises:
            NotRegular: something that is no folder stands in its place.
            OSError: it cannot be made.
        """
        path = self._layout.algorithm(algorithm)
        if not _is_folder(path):
            self._durable.discard(algorithm)
            for folder in (self._layout.root, self._layout.blobs, path):
                disk.make_dir(folder)
            if not _is_folder(path):
                raise NotRegular(path)
        # Another process may have made the folders and not have synced them yet.
        if algorithm not in self._durable:
            disk.fsync_root(self._layout.root)
            disk.fsync_dir(self._layout.blobs)
            self._durable.add(algorithm)

    def link(self, name: str, dir_fd: int, digest: Digest) -> bool:
        """Give the file ``name`` in an ingest's folder its blob's name; False where it is taken.

        A blob whose fsync failed may never become durable, so the same bytes written anew take
        its place.
        """
        path = self._layout.blob(digest)
        linked = disk.link(name, dir_fd, path)
        if not linked and not self.holds(digest):
            linked = disk.supersede(name, dir_fd, path)
        return linked

    def sync(self, digest: Digest, *, contents: bool) -> None:
        """Make a blob's name durable, and its contents where they may not be.

        Args:
            digest: a blob that is there.
            contents: whether it was somebody else who wrote it.

        Raises:
            NotFound: it has been deleted meanwhile.
            OSError: it may not survive a power loss.
        """
        folder = self._layout.algorithm(digest.algorithm)
        if contents:
            fd = self.open(digest)
            try:
                disk.fsync(fd)
            finally:
                os.close(fd)
        self._syncs.setdefault(digest.algorithm, SharedSync(folder))()


def _is_folder(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _name_prefix(prefix: str, algorithm: str) -> str | None:
    """How a file name must begin for its digest to begin with ``prefix``; None if none can."""
    head = f"{algorithm}:"
    if head.startswith(prefix):
        return ""
    return prefix[len(head) :] if prefix.startswith(head) else None
