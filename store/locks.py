"""One ingest, one writer: an flock(2) on the ingest folder's ``lock`` file.

The kernel ends the lock with its holder, so a killed writer leaves none behind; the file itself
means nothing.  The lock belongs to the open file, so two writers in one process exclude each
other as two processes do.

Lock order: none of these locks is ever waited for while another lock is held.  A rename takes
two and fails where the second is not free.  The locks in memory are held for no system call but
the opening of a lock file.
"""

from __future__ import annotations

import os
import stat
import threading

from store import disk
from store.layout import LOCK

__all__ = ["Holders", "Lock", "acquire"]

# Held while a lock file is opened and entered below, and while the process forks: a child must not
# keep a lock file open that it knows nothing of, or the lock would outlive its holder.
_forking = threading.RLock()
# Guarded by: `_forking` for what is added, the interpreter lock for what is removed.
_open: set[Lock] = set()


class Lock:
    """An open lock file, and the lock on it once `acquire` has handed it out."""

    __slots__ = ("_fd",)

    def __init__(self, dir_fd: int) -> None:
        """Open the lock file of an ingest's folder, making it where there is none.

        Raises:
            NotRegular: something that is no file stands there.
            OSError: as of open(2).
        """
        with _forking:
            self._fd = disk.open_regular(LOCK, os.O_RDWR | os.O_CREAT, dir_fd=dir_fd)
            _open.add(self)

    @property
    def ours(self) -> bool:
        """Whether it is still open here: not released, and not a copy in a forked child."""
        return self._fd >= 0

    def stat(self) -> os.stat_result:
        """The stat of the lock file."""
        return os.fstat(self._fd)

    def take(self) -> bool:
        """Take the lock, without waiting; say whether it is ours now.

        Raises:
            OSError: the file system has no locks.
        """
        # 44 ms of imports that a command which only looks must not pay.
        from filelock import lock_descriptor  # noqa: PLC0415

        return lock_descriptor(self._fd, blocking=False)

    def release(self) -> None:
        """End the lock, and close its file.  A second call does nothing."""
        if self.ours:
            # Not by closing alone: a child that is just being forked still has the file open.
            from filelock import unlock_descriptor  # noqa: PLC0415 - as above

            try:
                unlock_descriptor(self._fd)
            finally:
                self.close()

    def close(self) -> None:
        """Close the lock file; the lock, if it is taken, stays with who else has the file open."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _open.discard(self)
            os.close(fd)


def acquire(dir_fd: int) -> Lock | None:
    """Take the lock of the ingest whose folder is open as ``dir_fd``, without waiting.

    Returns:
        The lock, to be released; None where another holds it.

    Raises:
        NotRegular: what stands in the lock file's place is no file.
        OSError: it cannot be opened or locked.
    """
    lock = Lock(dir_fd)
    taken = False
    try:
        taken = lock.take()
    finally:
        if not taken:
            lock.close()
    return lock if taken else None


def _forget_in_child() -> None:
    """Close the parent's locks in a forked child; they stay the parent's."""
    _forking.release()
    for lock in list(_open):
        lock.close()


os.register_at_fork(
    before=_forking.acquire,
    after_in_parent=_forking.release,
    after_in_child=_forget_in_child,
)


_FIELDS = 8


class Holders:
    """Who holds which lock at one moment, as /proc/locks tells without touching any lock.

    To look by taking the lock, even shared, would make a writer that comes at that moment fail.
    What another pid namespace holds is not shown to us and counts as free.
    """

    __slots__ = ("_pids",)

    def __init__(self) -> None:
        """Read /proc/locks (proc_locks(5)); without it nothing counts as held."""
        self._pids: dict[int, list[tuple[int, int, int]]] = {}
        try:
            with open("/proc/locks", "rb") as table:
                lines = table.read().splitlines()
        except OSError:
            return
        for line in lines:
            fields = line.split()
            # "1: FLOCK  ADVISORY  WRITE 123 08:01:456 0 EOF"; a waiter's line has "->" after "1:".
            if len(fields) == _FIELDS and fields[1] == b"FLOCK":
                major, minor, inode = fields[5].split(b":")
                holder = (int(major, 16), int(minor, 16), int(fields[4]))
                self._pids.setdefault(int(inode), []).append(holder)

    def pid(self, lock: os.stat_result) -> int | None:
        """The process that holds the lock file with this stat, if one does."""
        if not stat.S_ISREG(lock.st_mode):
            return None
        ours = (os.major(lock.st_dev), os.minor(lock.st_dev))
        for major, minor, pid in self._pids.get(lock.st_ino, ()):
            # To stat(2) btrfs shows a device of its own for each subvolume, of major 0 as here.
            if (major, minor) == ours or major == ours[0] == 0:
                return pid
        return None
