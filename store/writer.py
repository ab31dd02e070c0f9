"""A writer: one ingest transaction in somebody's hands, from its first byte to the blob.

::

              write, truncate, sync, digest
                 ┌────┐
                 │    ▼          commit            finish
    Store.writer └─ open ───────────────▶ published ──────▶ closed
                     │  ◀── Rejected, OSError                  ▲
                     └──────────── close, abort ───────────────┘

A writer holds its ref's lock until it is closed.  Leaving its ``with`` block closes it, and never
commits: the bytes wait under the ref for the next writer.

The commit sequence, and what a crash right after each step leaves:

=================  ==============================================================================
step               a crash after it leaves
=================  ==============================================================================
1 verify           the ingest, as it was (nothing was changed)
2 chmod, mtime     the ingest; the next writer makes its data writable again
3 fsync data       the ingest, its bytes durable
4 link             the blob, whole; or still the ingest, whole (the folder is not yet synced)
5 fsync folder     the blob, durable; the ingest's data is the same file, so it counts as gone
6 unlink data      the blob; a folder without data, which is no ingest
7 the other files  the blob; the rest of a folder, lock last
=================  ==============================================================================
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Final, Self

from store import disk
from store.data import Data
from store.digest import CANONICAL, Digest
from store.errors import (
    BeyondSize,
    Closed,
    DigestMismatch,
    NotAppend,
    NotFound,
    NotRegular,
    SizeMismatch,
)
from store.layout import EXPECTED, REF, TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

    from store.blobs import Blobs
    from store.hashing import HashCache
    from store.ingest import Ingest
    from store.ingests import Held, Ingests
    from store.refs import Ref

__all__ = ["Writer"]

_OPEN: Final = "open"
_PUBLISHED: Final = "published"
_CLOSED: Final = "closed"


class Writer:
    """The one writer of an ingest.  One thread at a time may use it.

    Attributes:
        ref: the ingest's key.
        total: the expected size in bytes as last read, or None.
        expected: the expected digest as last read, or None.
    """

    __slots__ = ("__weakref__", "_blobs", "_data", "_hashes", "_held", "_ingests", "_judged_no",
                 "_state", "_synced", "expected", "ref", "total")  # fmt: skip

    def __init__(self, held: Held, ingests: Ingests, blobs: Blobs, hashes: HashCache) -> None:
        """Go on with an ingest whose lock is held; `Store.writer` is the way to get one.

        Raises:
            NotRegular: its data is no file.
            OSError: its files cannot be made or read.
        """
        self._state = _CLOSED
        self._held = held
        self._ingests = ingests
        self._blobs = blobs
        self._hashes = hashes
        ingest = held.ingest
        self.ref: Ref = ingest.ref
        ingest.prepare()
        self.total = ingest.total()
        self.expected = ingest.expected()
        self._judged_no = ingest.error() is not None
        # What of the description is durable: its files' names, inodes and times.
        self._synced: set[tuple[str, int, int]] = set()
        self._data = Data(ingest, hashes, self._algorithm)
        self._state = _OPEN

    # ---------------------------------------------------------------------------------- looking

    @property
    def closed(self) -> bool:
        """Whether the writer has ended: committed, aborted or closed."""
        return self._state == _CLOSED

    @property
    def offset(self) -> int:
        """The bytes that the ingest holds, which is where the next write goes."""
        return self._data.size

    @property
    def lag(self) -> int:
        """How many bytes are written and not yet hashed; a digest has to wait for them."""
        return self._data.lag

    def fileno(self) -> int:
        """The descriptor of the data, for reading; the writer keeps it."""
        self._must_be(_OPEN, _PUBLISHED)
        return self._data.fd

    def refresh(self) -> None:
        """Read the expectations afresh: anyone may have set them meanwhile."""
        self.total = self._ingest.total()
        self.expected = self._ingest.expected()

    def is_complete(self) -> bool:
        """Whether the ingest, once nobody holds it, is to be committed: see the contract.

        It is expected to have a digest, it is not empty (but where nothing is expected), and it
        is not shorter than its expected size.  Reads the expectations afresh.
        """
        self.refresh()
        return self._is_complete_for(self.expected)

    def judge_as(self, ref: Ref) -> bool:
        """Say whether to be renamed to ``ref`` would have the ingest judged, and that it passes.

        Raises:
            Rejected: it would not.  It is noted as the verdict on the ingest.
        """
        self.refresh()
        expected = self._ingest.expected_as_set() or ref.implied_digest
        if expected is None or expected == self.expected or not self._is_complete_for(expected):
            return False
        self._judge((self.total,), (expected,))
        return True

    def _is_complete_for(self, expected: Digest | None) -> bool:
        if expected is None or (self.offset == 0 and not expected.of_nothing):
            return False
        return self.total is None or self.offset >= self.total

    def digest(self) -> Digest:
        """The digest of the bytes so far, in the expected algorithm, else in sha256.

        Waits for what is not hashed yet; after a restart that is all of it.

        Raises:
            Closed: the writer has ended.
            OSError: the bytes cannot be read.
        """
        self._must_be(_OPEN, _PUBLISHED)
        return self._data.digest(self._algorithm)

    def catch_up(self) -> None:
        """Have the hashing begin in the background, for a digest that will be asked for."""
        self._must_be(_OPEN)
        self._data.catch_up()

    @property
    def _algorithm(self) -> str:
        return self.expected.algorithm if self.expected is not None else CANONICAL

    # --------------------------------------------------------------------------------- changing

    def write(self, data: Buffer, at: int | None = None) -> int:
        """Append ``data``, all of it or none.

        Args:
            data: any buffer of bytes.
            at: where it is to begin, in bytes; default is the end.  Beyond the end the gap is
                filled with zeros.

        Returns:
            The number of bytes in ``data``.

        Raises:
            Closed: the writer has ended.
            NotAppend: ``at`` is before the end.
            BeyondSize: it would exceed the expected size.
            OSError: the disk took not all of it; the ingest is as it was.
        """
        self._must_be(_OPEN)
        length = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        start = self.offset if at is None else at
        self._must_fit(start, start + length)
        if length != 0:
            self._drop_verdict()
            self._data.write(data, start)
        return length

    def truncate(self, size: int) -> None:
        """Make the ingest ``size`` bytes long: 0 starts it over, more appends zeros.

        Raises:
            Closed: the writer has ended.
            NotAppend: it is smaller than the ingest, and not 0.
            BeyondSize: it exceeds the expected size.
            OSError: the ingest is as it was.
        """
        self._must_be(_OPEN)
        if size != 0:
            self._must_fit(size, size)
        self._drop_verdict()
        if size != self.offset:
            self._data.resize(size)

    def _must_fit(self, start: int, end: int) -> None:
        if start < self.offset:
            raise NotAppend(self.ref.text, self.offset, start)
        if self.total is not None and end > self.total:
            raise BeyondSize(self.ref.text, self.total, end)

    def _drop_verdict(self) -> None:
        if self._judged_no:
            self._ingest.clear_error()
            self._judged_no = False

    def sync(self) -> None:
        """Make the bytes so far, and what is known of them, durable.

        Raises:
            Closed: the writer has ended.
            OSError: they may not survive a power loss.  What failed once is written anew before
                it is tried again.
        """
        self._must_be(_OPEN, _PUBLISHED)
        self._data.sync()
        ingest = self._ingest
        for name in (REF, TOTAL, EXPECTED):
            # Anyone may set or remove an expectation meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found = ingest.stat(name)
                known = None if found is None else (name, found.st_ino, found.st_ctime_ns)
                if known is not None and known not in self._synced:
                    disk.fsync_name(name, ingest.fd)
                    self._synced.add(known)
        disk.fsync_folder(ingest.fd)
        self._ingests.sync()

    # ------------------------------------------------------------------------------- committing

    def commit(self, size: int | None = None, expected: Digest | str | None = None) -> Digest:
        """Check the ingest, publish it as a blob, and end it.

        When it returns, the blob is there, and durable: content that was there already counts as
        success, and stays as it is.

        Args:
            size: the size that it must have, in bytes, besides the one written down.
            expected: the digest that it must have, besides the one written down.

        Returns:
            The blob's digest.

        Raises:
            Closed: the writer has ended.
            SizeMismatch: it is longer or shorter.  This and the next leave it open and as it was.
            DigestMismatch: it hashes to something else.
            NotRegular: something that is no file stands under the blob's name.
            OSError: a step failed; the ingest is still there, and the commit can be tried again.
        """
        digest = self.verify(size, expected)
        self.publish(digest)
        self.finish()
        return digest

    def verify(self, size: int | None = None, expected: Digest | str | None = None) -> Digest:
        """The first third of `commit`: hash what is left to hash, and check; change nothing."""
        self._must_be(_OPEN, _PUBLISHED)
        asked = Digest.parse(expected) if isinstance(expected, str) else expected
        self.refresh()
        wanted = [digest for digest in (asked, self.expected) if digest is not None]
        self._judge((size, self.total), wanted)
        return wanted[0] if wanted else self._data.digest(CANONICAL)

    def _judge(self, sizes: Iterable[int | None], digests: Iterable[Digest]) -> None:
        self._data.believe()
        for size in sizes:
            if size is not None and size != self.offset:
                raise self._no(SizeMismatch(self.ref.text, size, self.offset))
        self._data.write_back()
        for expected in digests:
            found = self._data.digest(expected.algorithm)
            if found != expected:
                raise self._no(DigestMismatch(self.ref.text, expected, found))

    def _no(self, verdict: SizeMismatch | DigestMismatch) -> SizeMismatch | DigestMismatch:
        try:
            self._ingest.set_error(verdict.verdict)
            self._judged_no = True
        except (OSError, NotRegular) as error:
            # The verdict matters more than the note of it, which a full disk refuses.
            verdict.add_note(f"the verdict could not be written down: {error}")
        return verdict

    def publish(self, digest: Digest) -> None:
        """The second third of `commit`: make the data durable, and visible as a blob."""
        self._must_be(_OPEN, _PUBLISHED)
        self._blobs.prepare(digest.algorithm)
        there = False
        while not there:
            # Somebody may delete the blob that we find: then it is ours to link.
            with contextlib.suppress(NotFound):
                linked = not self._blobs.holds(digest) and self._data.publish(
                    lambda name, dir_fd: self._blobs.link(name, dir_fd, digest)
                )
                self._blobs.sync(digest, contents=not linked)
                there = True
        self._state = _PUBLISHED

    def finish(self) -> None:
        """The last third of `commit`: remove the ingest, then let go of its lock."""
        self._must_be(_PUBLISHED)
        self._ingest.drop()
        self._end()

    def abort(self) -> None:
        """Remove the ingest and its bytes.  Nothing to do for a writer that has ended.

        Raises:
            OSError: some of it is still there.
        """
        if self._state != _CLOSED:
            if self._held.lock.ours:
                self._ingest.drop()
            self._end()

    def close(self) -> None:
        """End the writer; the bytes stay for the next one.  A second call does nothing."""
        try:
            if self._state == _OPEN and self._held.lock.ours:
                self._data.rest(self._hashes)
        finally:
            if self._state != _CLOSED:
                self._end()

    def move(self, ref: Ref) -> None:
        """Give the ingest another ref, in one step; what stands under that one is replaced.

        Raises:
            Closed: the writer has ended.
            Busy: another writer holds ``ref``.
            OSError: both ingests are as they were.
        """
        self._must_be(_OPEN)
        self._held = self._ingests.move(self._held, ref)
        self.ref = ref
        self._data.moved(self._ingest)
        self._synced.clear()
        self.refresh()

    def _end(self) -> None:
        self._state = _CLOSED
        try:
            self._data.close()
        finally:
            self._held.release()

    # ------------------------------------------------------------------------------------ itself

    @property
    def _ingest(self) -> Ingest:
        return self._held.ingest

    def _must_be(self, *states: str) -> None:
        # A copy of a writer in a forked child holds no lock, so it is as good as closed.
        if self._state not in states or not self._held.lock.ours:
            raise Closed(self.ref.text)

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close it.  Never commits."""
        self.close()

    def __del__(self) -> None:
        """A writer that was forgotten must not keep its ref for ever."""
        if getattr(self, "_state", _CLOSED) != _CLOSED:
            try:
                warnings.warn(f"unclosed writer of {self.ref}", ResourceWarning, stacklevel=2)
            finally:
                self.close()
