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

import os
import stat
import time
import warnings
from typing import TYPE_CHECKING, Final, Self

from store import disk
from store.digest import CANONICAL, Digest
from store.errors import BeyondSize, Closed, DigestMismatch, NotAppend, SizeMismatch
from store.hashing import HashCache, Running, signature
from store.layout import DATA, EXPECTED, REF, TOTAL

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

    from store.blobs import Blobs
    from store.ingest import Held, Ingest, Ingests
    from store.refs import Ref

__all__ = ["Writer"]

_OPEN: Final = "open"
_PUBLISHED: Final = "published"
_CLOSED: Final = "closed"

_READ_BITS: Final = 0o444


class Writer:
    """The one writer of an ingest.  One thread at a time may use it.

    Attributes:
        ref: the ingest's key.
        offset: the bytes that it holds, which is where the next write goes.
        total: the expected size in bytes as last read, or None.
        expected: the expected digest as last read, or None.
    """

    __slots__ = ("__weakref__", "_blobs", "_described", "_fd", "_hashes", "_held", "_ingests",
                 "_judged_no", "_own", "_running", "_state", "_sure", "expected", "offset", "ref",
                 "total")  # fmt: skip

    def __init__(self, held: Held, ingests: Ingests, blobs: Blobs, hashes: HashCache) -> None:
        """Go on with an ingest whose lock is held; `Store.writer` is the way to get one.

        Raises:
            NotRegular: its data is no file.
            OSError: its files cannot be made.
        """
        self._state = _CLOSED
        self._held = held
        self._ingests = ingests
        self._blobs = blobs
        self._hashes = hashes
        ingest = held.ingest
        self.ref: Ref = ingest.ref
        ingest.prepare()
        self._fd = ingest.open_data()
        data = os.fstat(self._fd)
        self.offset = data.st_size
        self.total = ingest.total()
        self.expected = ingest.expected()
        # Invariant: the data has no other name, so that writing to it changes nothing else.
        self._own = data.st_nlink == 1
        # Invariant: what the kernel holds of the data reaches the disk with the next fsync.
        self._sure = True
        self._judged_no = ingest.error() is not None
        self._described: set[tuple[str, int]] = set()
        self._running = self._resume(signature(data))
        self._state = _OPEN

    def _resume(self, data: tuple[int, int, int, int, int]) -> Running:
        algorithm = self.expected.algorithm if self.expected is not None else CANONICAL
        running = self._hashes.take(self._held.ingest.path, data)
        if running is None or (self.expected is not None and running.algorithm != algorithm):
            running = Running(algorithm)
        running.attach(self._fd, self.offset)
        return running

    # ---------------------------------------------------------------------------------- looking

    @property
    def closed(self) -> bool:
        """Whether the writer has ended: committed, aborted or closed."""
        return self._state == _CLOSED

    @property
    def lag(self) -> int:
        """How many bytes are written and not yet hashed; a digest has to wait for them."""
        return self._running.lag

    def fileno(self) -> int:
        """The descriptor of the data, for reading; the writer keeps it."""
        self._must_be(_OPEN, _PUBLISHED)
        return self._fd

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
        if self.total is not None and self.total != self.offset:
            raise self._no(SizeMismatch(self.ref.text, self.total, self.offset))
        found = self._digest(expected.algorithm)
        if found != expected:
            raise self._no(DigestMismatch(self.ref.text, expected, found))
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
        return self._digest(self.expected.algorithm if self.expected is not None else CANONICAL)

    def catch_up(self) -> None:
        """Have the hashing begin in the background, for a digest that will be asked for."""
        self._must_be(_OPEN)
        self._running.catch_up()

    def _digest(self, algorithm: str) -> Digest:
        if self._running.algorithm != algorithm:
            self._running.detach()
            self._running = Running(algorithm)
            self._running.attach(self._fd, self.offset)
        return self._running.digest()

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
        if length == 0:
            return 0
        self._before_change()
        try:
            disk.write_all(self._fd, data, start)
        except BaseException:
            disk.truncate(self._fd, self.offset)
            raise
        hole = start > self.offset
        self.offset = start + length
        self._running.grew(self.offset, b"" if hole else data)
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
        if size == self.offset:
            return
        if size != 0:
            self._must_fit(size, size)
        self._before_change()
        if size == 0:
            self._running.restart()
        disk.truncate(self._fd, size)
        self.offset = size
        if size != 0:
            self._running.grew(size, b"")

    def _must_fit(self, start: int, end: int) -> None:
        if start < self.offset:
            raise NotAppend(self.ref.text, self.offset, start)
        if self.total is not None and end > self.total:
            raise BeyondSize(self.ref.text, self.total, end)

    def _before_change(self) -> None:
        if not self._own:
            self._renew()
        if self._judged_no:
            self._ingest.clear_error()
            self._judged_no = False

    def _renew(self) -> None:
        """Have the data in a file of its own, written anew, and trust no byte of it unhashed."""
        algorithm = self._running.algorithm
        self._running.detach()
        try:
            fd = disk.renew(DATA, self._ingest.fd)
        except BaseException:
            self._running.attach(self._fd, self.offset)
            raise
        os.close(self._fd)
        self._fd = fd
        self._running = Running(algorithm)
        self._running.attach(fd, self.offset)
        self._own = self._sure = True

    def sync(self) -> None:
        """Make the bytes so far, and what is known of them, durable.

        Raises:
            Closed: the writer has ended.
            OSError: they may not survive a power loss.  What failed once is written anew before
                it is tried again.
        """
        self._must_be(_OPEN, _PUBLISHED)
        self._sync_data()
        ingest = self._ingest
        for name in (REF, TOTAL, EXPECTED):
            found = ingest.stat(name)
            if found is not None and (name, found.st_ino) not in self._described:
                disk.fsync_name(name, ingest.fd)
                self._described.add((name, found.st_ino))
        disk.fsync(ingest.fd)
        self._ingests.sync_folder()

    def _sync_data(self) -> None:
        if not self._sure:
            self._renew()
        try:
            disk.fsync(self._fd)
        except OSError:
            self._sure = False
            raise

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
        self.refresh()
        if not self._sure:
            self._renew()
        for wanted_size in (size, self.total):
            if wanted_size is not None and wanted_size != self.offset:
                raise self._no(SizeMismatch(self.ref.text, wanted_size, self.offset))
        asked = Digest.parse(expected) if isinstance(expected, str) else expected
        wanted = [digest for digest in (asked, self.expected) if digest is not None]
        digests = [self._digest(each.algorithm) for each in wanted]
        for want, found in zip(wanted, digests, strict=True):
            if want != found:
                raise self._no(DigestMismatch(self.ref.text, want, found))
        return digests[0] if digests else self._digest(CANONICAL)

    def _no(self, verdict: SizeMismatch | DigestMismatch) -> SizeMismatch | DigestMismatch:
        try:
            self._ingest.set_error(verdict.verdict)
            self._judged_no = True
        except OSError as error:
            # The verdict matters more than the note of it, which a full disk refuses.
            verdict.add_note(f"the verdict could not be written down: {error}")
        return verdict

    def publish(self, digest: Digest) -> None:
        """The second third of `commit`: make the data durable, and visible as a blob."""
        self._must_be(_OPEN, _PUBLISHED)
        self._blobs.prepare(digest.algorithm)
        linked = False
        if not self._blobs.holds(digest):
            mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
            try:
                disk.chmod(self._fd, mode & _READ_BITS)
                disk.set_mtime(self._fd, time.time_ns())
                self._sync_data()
                linked = self._blobs.link(DATA, self._ingest.fd, digest)
            except BaseException:
                disk.chmod(self._fd, mode)
                raise
        if linked:
            self._own = False
        self._blobs.sync(digest, contents=not linked)
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
        if self._state == _CLOSED:
            return
        self._ingest.drop()
        self._end()

    def close(self) -> None:
        """End the writer; the bytes stay for the next one.  A second call does nothing."""
        if self._state == _CLOSED:
            return
        if self._state == _OPEN:
            self._ingest.touch()
            self._running.detach()
            if self._sure and self._own:
                self._hashes.keep(self._ingest.path, signature(os.fstat(self._fd)), self._running)
        self._end()

    def _end(self) -> None:
        self._state = _CLOSED
        self._running.detach()
        os.close(self._fd)
        self._held.release()

    # ------------------------------------------------------------------------------------ itself

    @property
    def _ingest(self) -> Ingest:
        return self._held.ingest

    def _must_be(self, *states: str) -> None:
        if self._state not in states:
            raise Closed(self.ref.text)

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it.  Never commits."""
        self.close()

    def __del__(self) -> None:
        """A writer that was forgotten must not keep its ref for ever."""
        if getattr(self, "_state", _CLOSED) != _CLOSED:
            warnings.warn(f"unclosed writer of {self.ref}", ResourceWarning, stacklevel=2)
            self.close()
