"""The bytes of an ingest in a writer's hands: a file that grows, and its digest.

Two things are never done to them.  A file that has another name, since it became a blob, is not
written to.  A file whose fsync failed is not believed, since what did not reach the disk counts as
clean: before it is synced again it is written anew, and must still be what was hashed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from store import disk
from store.errors import NotRegular
from store.hashing import HashCache, Running, signature
from store.layout import DATA
from store.writeback import start_writing_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from store.digest import Digest
    from store.ingest import Ingest

__all__ = ["Data"]

_READ_BITS: Final = 0o444
_SIZE_MAX: Final = 2**63 - 1
_LONG_TO_HASH: Final = 8 * 1024 * 1024


class Data:
    """The data of an ingest, open for writing.  One thread at a time may use it.

    Attributes:
        fd: the descriptor, of the same number as long as this is open.
        size: how many bytes there are.
    """

    __slots__ = ("_changed", "_ingest", "_own", "_running", "fd", "size")

    def __init__(self, ingest: Ingest, hashes: HashCache, algorithm: str) -> None:
        """Open the data of an ingest whose lock is held, and make it where there is none.

        Raises:
            NotRegular: something that is no file stands there.
            OSError: as of open(2).
        """
        self._ingest = ingest
        self.fd = ingest.open_data()
        try:
            found = os.fstat(self.fd)
            self.size = found.st_size
            # Invariant: where this is true the file has no other name.
            self._own = found.st_nlink == 1
            self._changed = False
            running = hashes.take(ingest.path, signature(found))
            if running is None or running.algorithm != algorithm:
                running = Running(algorithm)
            self._running = running
            self._running.attach(self.fd, self.size)
        except BaseException:
            os.close(self.fd)
            raise

    def moved(self, ingest: Ingest) -> None:
        """The file is in another folder now."""
        self._ingest = ingest

    # ---------------------------------------------------------------------------------- hashing

    @property
    def lag(self) -> int:
        """How many bytes are written and not yet hashed."""
        return self._running.lag

    def catch_up(self) -> None:
        """Have the hashing go on in the background."""
        self._running.catch_up()

    def digest(self, algorithm: str) -> Digest:
        """The digest of all the bytes; waits for what is not hashed yet.

        Raises:
            UnsupportedAlgorithm: it is not available here.
            OSError: they cannot be read.
        """
        if self._running.algorithm != algorithm:
            fresh = Running(algorithm)
            self._running.detach()
            self._running = fresh
            fresh.attach(self.fd, self.size)
        return self._running.digest()

    # --------------------------------------------------------------------------------- changing

    def write(self, data: Buffer, at: int) -> None:
        """Write ``data`` at byte ``at``, the end or beyond; a gap is filled with zeros.

        Raises:
            OSError: the data is as it was.
        """
        end = at + memoryview(data).nbytes
        self._before_change(end)
        try:
            disk.write_all(self.fd, data, at)
        except BaseException:
            with contextlib.suppress(OSError):
                self._trim()
            raise
        tail = b"" if at > self.size else data
        self.size = end
        self._running.grew(end, tail)

    def resize(self, size: int) -> None:
        """Make it longer, by zeros, or empty.

        Raises:
            OSError: the data is as it was.
        """
        self._before_change(size)
        disk.truncate(self.fd, size)
        self.size = size
        if size == 0:
            self._running.restart()
        else:
            self._running.grew(size, b"")

    def _before_change(self, end: int) -> None:
        if end > _SIZE_MAX:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._have_own()
        self._changed = True

    def _have_own(self) -> None:
        if not self._own:
            if os.fstat(self.fd).st_nlink != 1:
                self._renew()
            self._own = True

    def _trim(self) -> None:
        """Cut off what a write that failed has left behind the end."""
        if self._own and os.fstat(self.fd).st_size != self.size:
            disk.truncate(self.fd, self.size)

    def _renew(self) -> None:
        """Have the bytes in a file of its own, written anew.

        Raises:
            OSError: the data is as it was.
        """
        renewed = []

        def check(copy: int) -> None:
            renewed.append(self._running.reread(copy, self.size))

        fd = disk.renew(DATA, self._ingest.fd, check)
        # The number stays: a reader beside us may be using it at this moment.
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)
        self._own = True
        (self._running,) = renewed
        self._running.attach(self.fd, self.size)

    # ------------------------------------------------------------------------------- publishing

    def believe(self) -> None:
        """Have the bytes as they will be synced: to be called before they are judged.

        Raises:
            OSError: they are not what was written, or cannot be written anew.
        """
        self._trim()
        if disk.is_doubtful(os.fstat(self.fd)):
            self._renew()

    def write_back(self) -> None:
        """Have the bytes on their way to the disk while they are hashed, if that takes long."""
        if self.lag >= _LONG_TO_HASH:
            start_writing_back(self.fd)

    def sync(self) -> None:
        """Make the bytes durable.

        Raises:
            OSError: they may not survive a power loss.
        """
        self.believe()
        self._fsync()

    def _fsync(self) -> None:
        try:
            disk.fsync(self.fd)
        except OSError:
            # At once, so that nobody who comes later, in whatever process, needs to know.
            with contextlib.suppress(OSError, NotRegular):
                self._renew()
            raise

    def publish(self, link: Callable[[str, int], bool]) -> bool:
        """Make the bytes read-only, dated and durable, and then link them.

        Args:
            link: gets the data's name and its folder's descriptor; says whether it has linked.

        Returns:
            What ``link`` said.

        Raises:
            OSError: they are not linked, or it is not known; still they are bytes to go on with.
        """
        self._have_own()
        self.believe()
        mode = stat.S_IMODE(os.fstat(self.fd).st_mode)
        linked = False
        try:
            disk.chmod(self.fd, mode & _READ_BITS)
            disk.set_mtime(self.fd, time.time_ns())
            self._fsync()
            # From here on the file may be a blob, whatever is heard of it.
            self._own = False
            linked = link(DATA, self._ingest.fd)
        finally:
            if not linked and os.fstat(self.fd).st_nlink == 1:
                with contextlib.suppress(OSError):
                    disk.chmod(self.fd, mode)
        return linked

    # ----------------------------------------------------------------------------------- ending

    def rest(self, hashes: HashCache) -> None:
        """Leave the bytes to the next writer, and what is known of their digest."""
        self._running.detach()
        with contextlib.suppress(OSError):
            self._trim()
            if self._changed:
                self._ingest.touch()
                # To the nanosecond, so that whoever changes them next leaves another time.
                disk.set_mtime(self.fd, time.time_ns())
            if self._own and not disk.is_doubtful(os.fstat(self.fd)):
                hashes.keep(self._ingest.path, signature(os.fstat(self.fd)), self._running)

    def close(self) -> None:
        """Close the file."""
        self._running.detach()
        os.close(self.fd)
