"""One ingest, one writer: an flock(2) on the ingest folder's ``lock`` file.

The kernel ends the lock with its holder, so a killed writer leaves none behind; the file itself
means nothing.  The lock belongs to the open file, so two writers in one process exclude each
other as two processes do.

Lock order: an ingest's lock before another's only by ascending folder name (a rename takes two);
then the locks in memory, none of which is held while one of these is waited for.
"""

from __future__ import annotations

import os
import stat

__all__ = ["Holders", "acquire", "release"]

# Guarded by: the interpreter lock (each use is one operation on a set).
_held: set[int] = set()


def acquire(fd: int) -> bool:
    """Take the lock on an open lock file, without waiting; say whether it is ours now.

    Raises:
        OSError: the file system has no locks.
    """
    # 44 ms of imports that a command which only looks must not pay.
    from filelock import lock_descriptor  # noqa: PLC0415

    if not lock_descriptor(fd, blocking=False):
        return False
    _held.add(fd)
    return True


def release(fd: int) -> None:
    """Close a lock file, which ends our lock on it."""
    _held.discard(fd)
    os.close(fd)


def _forget_after_fork() -> None:
    """Close the parent's locks in a forked child, which would otherwise outlive the parent."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget_after_fork)


_FIELDS = 8


class Holders:
    """Who holds which lock at one moment, as /proc/locks tells without touching any lock.

    To look by taking the lock, even shared, would make a writer that comes at that moment fail.
    What another pid namespace holds is not shown to us and counts as free.
    """

    __slots__ = ("_pids",)

    def __init__(self) -> None:
        """Read /proc/locks (proc_locks(5)); without it nothing counts as held."""
        self._pids: dict[int, set[tuple[str, int]]] = {}
        try:
            with open("/proc/locks", "rb") as table:
                lines = table.read().splitlines()
        except OSError:
            return
        for line in lines:
            fields = line.split()
            # "1: FLOCK  ADVISORY  WRITE 123 08:01:456 0 EOF"; a waiter's line has "->" after "1:".
            if len(fields) == _FIELDS and fields[1] == b"FLOCK":
                device, _, inode = fields[5].decode().rpartition(":")
                self._pids.setdefault(int(inode), set()).add((device, int(fields[4])))

    def pid(self, lock: os.stat_result) -> int | None:
        """The process that holds the lock file with this stat, if one does."""
        if not stat.S_ISREG(lock.st_mode):
            return None
        for device, pid in self._pids.get(lock.st_ino, ()):
            major, _, minor = device.partition(":")
            known = (int(major, 16), int(minor, 16))
            # btrfs shows a device of its own for each subvolume (major 0) in stat(2) but not here.
            if known == (os.major(lock.st_dev), os.minor(lock.st_dev)) or known[0] == 0:
                return pid
        return None
