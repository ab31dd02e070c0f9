"""The store: blobs, and the ingests that become blobs, under one root.  Decides nothing."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING, BinaryIO

from store import disk
from store.blobs import Blobs, Info
from store.digest import CANONICAL, Digest
from store.errors import Busy, NotFound, ReadOnly
from store.hashing import HashCache
from store.ingest import Status
from store.ingests import Ingests
from store.layout import DATA, Layout
from store.refs import Ref
from store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Store"]

_PATIENCE_STEP = 0.02


class Store:
    """A content store in a folder.  Safe from many threads and processes.

    Nothing is made in the folder before the first change, and a folder that is not there lists
    as nothing.  Digests and refs may be given as text; text that is malformed raises `Invalid`
    before it touches a path.

    Attributes:
        root: the folder, absolute.
        read_only: whether changes are refused with `ReadOnly`.
        blobs: the blobs, for callers who want more than the methods here.
        ingests: the ingests, likewise.
    """

    def __init__(self, root: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.root = os.path.abspath(root)
        self.read_only = read_only
        self.layout = Layout(self.root)
        self.blobs = Blobs(self.layout)
        self.ingests = Ingests(self.layout)
        self._hashes = HashCache()

    # ------------------------------------------------------------------------------------ blobs

    def info(self, digest: Digest | str) -> Info:
        """What is known of a blob.

        Raises:
            NotFound: it is not there.
        """
        name = _digest(digest)
        found = self.blobs.stat(name)
        return Info(name, found.st_size, found.st_mtime_ns)

    def exists(self, digest: Digest | str) -> bool:
        """Whether the blob is there."""
        try:
            self.blobs.stat(_digest(digest))
        except NotFound:
            return False
        return True

    def path(self, digest: Digest | str) -> str:
        """The absolute path of a blob's file, to read and never to change.

        Raises:
            NotFound: it is not there.
        """
        name = _digest(digest)
        self.blobs.stat(name)
        return self.layout.blob(name)

    def open(self, digest: Digest | str) -> BinaryIO:
        """A blob's bytes, as a file open for reading.

        Raises:
            NotFound: it is not there.
            NotRegular: what stands there is no file.
        """
        return io.open(self.blobs.open(_digest(digest)), "rb")  # noqa: UP020 - `open` is this method

    def digests(self, prefix: str = "") -> Iterator[Digest]:
        """The digests of all blobs whose text begins with ``prefix``, sorted."""
        return self.blobs.digests(prefix)

    def walk(self, prefix: str = "") -> Iterator[Info]:
        """All blobs whose digest's text begins with ``prefix``, sorted by digest."""
        return self.blobs.walk(prefix)

    def delete(self, digest: Digest | str) -> None:
        """Remove a blob; those who have it open can read on.

        Raises:
            NotFound: it is not there.
            ReadOnly: the store was opened to look only.
        """
        self._must_be_writable()
        self.blobs.delete(_digest(digest))

    # ---------------------------------------------------------------------------------- ingests

    def writer(
        self,
        ref: Ref | str,
        *,
        size: int | None = None,
        expected: Digest | str | None = None,
        timeout: float = 0.0,
        create: bool = True,
    ) -> Writer:
        """Begin an ingest, or resume it at the bytes that it holds.

        Args:
            ref: its key.
            size: the size that it must have in the end, in bytes; written down, None: unchanged.
            expected: the digest that it must have in the end; written down, None: unchanged.
            timeout: how long to wait for a writer that holds it, in seconds.
            create: False to resume only.

        Returns:
            Its only writer; close it.

        Raises:
            Busy: another writer holds it, in this process or another.
            NotFound: ``create`` is False and there is no ingest.
            NotRegular: something else stands where a file or folder of the ingest should be.
            ReadOnly: the store was opened to look only.
        """
        self._must_be_writable()
        key = _ref(ref)
        digest = None if expected is None else _digest(expected)
        deadline = time.monotonic() + timeout
        while True:
            try:
                held = self.ingests.hold(key, create=create)
                break
            except Busy:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_PATIENCE_STEP)
        try:
            if size is not None:
                held.ingest.set_total(size)
            if digest is not None:
                held.ingest.set_expected(digest)
            return Writer(held, self.ingests, self.blobs, self._hashes)
        except BaseException:
            self.ingests.give_up(held)
            raise

    def status(self, ref: Ref | str) -> Status:
        """What is known of an ingest.

        Raises:
            NotFound: there is none.
        """
        return self.ingests.status(_ref(ref))

    def active(self) -> Iterator[Status]:
        """What is known of every ingest, sorted by ref."""
        return iter(sorted(self.ingests.all(), key=lambda status: status.ref.text))

    def digest_so_far(self, ref: Ref | str) -> Digest:
        """The digest of the bytes that an ingest holds, in the expected algorithm, else in sha256.

        Raises:
            NotFound: there is none.
            OSError: the bytes cannot be read.
        """
        key = _ref(ref)
        ingest = self.ingests.open(key)
        try:
            expected = ingest.expected()
            fd = disk.open_regular(DATA, os.O_RDONLY, dir_fd=ingest.fd)
        except FileNotFoundError:
            raise NotFound("ingest", key.text) from None
        finally:
            ingest.close()
        try:
            algorithm = CANONICAL if expected is None else expected.algorithm
            return self._hashes.digest(ingest.path, fd, algorithm)
        finally:
            os.close(fd)

    def expect_digest(self, ref: Ref | str, digest: Digest | str | None) -> None:
        """Set the digest that is expected of an ingest, or None for none; commits nothing.

        A writer may hold the ingest meanwhile: it reads what is expected when it commits.

        Raises:
            NotFound: there is no such ingest.
            ReadOnly: the store was opened to look only.
        """
        self._must_be_writable()
        expected = None if digest is None else _digest(digest)
        ingest = self.ingests.open(_ref(ref))
        try:
            ingest.set_expected(expected)
        except FileNotFoundError:
            raise NotFound("ingest", ingest.ref.text) from None
        finally:
            ingest.close()

    def expect_size(self, ref: Ref | str, size: int | None) -> None:
        """Set the size that is expected of an ingest, in bytes, or None for none; commits nothing.

        Raises:
            NotFound: there is no such ingest.
            ReadOnly: the store was opened to look only.
        """
        self._must_be_writable()
        ingest = self.ingests.open(_ref(ref))
        try:
            ingest.set_total(size)
        except FileNotFoundError:
            raise NotFound("ingest", ingest.ref.text) from None
        finally:
            ingest.close()

    def settle(self, ref: Ref | str) -> Digest | None:
        """Commit an ingest if it is complete and a digest is expected of it.

        Returns:
            The digest of the blob that it became; None if it is not complete.

        Raises:
            NotFound: there is no such ingest.
            Busy: a writer holds it, and will see to it.
            Rejected: it is complete, and is not what was expected.
        """
        with self.writer(ref, create=False) as writer:
            return writer.commit() if writer.is_complete() else None

    def abort(self, ref: Ref | str) -> None:
        """Remove an ingest and its bytes.

        Raises:
            NotFound: there is none.
            Busy: a writer holds it.
            ReadOnly: the store was opened to look only.
        """
        self._must_be_writable()
        self.ingests.abort(_ref(ref))

    def rename(self, old: Ref | str, new: Ref | str) -> Digest | None:
        """Give an ingest another ref, in one step; what stands under the new one is replaced.

        Where that changes the digest that is expected of a complete ingest, it is judged before
        it is moved, and committed after.

        Returns:
            The digest of the blob that it became, if it became one.

        Raises:
            NotFound: there is no ingest ``old``.
            Busy: a writer holds either.
            Rejected: it is complete, and is not what would be expected of it: not moved.
            ReadOnly: the store was opened to look only.
            OSError: both are as they were.
        """
        self._must_be_writable()
        source, target = _ref(old), _ref(new)
        if source == target:
            self.ingests.stat(source)
            return None
        with self.writer(source, create=False) as writer:
            judged = writer.judge_as(target)
            writer.move(target)
            return writer.commit() if judged else None

    # ----------------------------------------------------------------------------------- itself

    def _must_be_writable(self) -> None:
        if self.read_only:
            raise ReadOnly(self.root)


def _digest(digest: Digest | str) -> Digest:
    return digest if isinstance(digest, Digest) else Digest.parse(digest)


def _ref(ref: Ref | str) -> Ref:
    return ref if isinstance(ref, Ref) else Ref(ref)
