"""Every system call that changes a store: one place to make durable, and one to make fail.

Nothing else in the package writes, syncs, links, renames or removes.  The tests fail or kill
each of these calls in turn by replacing this module's ``os``.

What a file system owes us (POSIX, and ext4, XFS and btrfs as measured): ``fsync`` of a file makes
its bytes durable but not its name, ``fsync`` of a folder makes the names in it durable, ``link``
and ``rename`` are atomic.  A failed ``fsync`` may have marked the pages clean, so a second one
would succeed without having written anything: see `renew`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import threading
from typing import TYPE_CHECKING, Final

from store.errors import NotRegular

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

__all__ = [
    "TEMPORARY",
    "SharedSync",
    "chmod",
    "create_small",
    "fsync",
    "fsync_dir",
    "fsync_name",
    "link",
    "make_dir",
    "move",
    "open_dir",
    "open_regular",
    "read_small",
    "renew",
    "replace_small",
    "rmdir",
    "set_mtime",
    "truncate",
    "unlink",
    "write_all",
]

TEMPORARY: Final = ".new-"
"""How the names of half-written files in an ingest folder begin."""

# O_NONBLOCK: opening a planted fifo would otherwise wait for its other end.
_SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENOTDIR, errno.ENODEV})
_SMALL: Final = 64 * 1024
_COPY: Final = 1024 * 1024

_serial = itertools.count()


# ------------------------------------------------------------------------------------- opening


def open_regular(path: str, flags: int, *, dir_fd: int | None = None) -> int:
    """Open a regular file, following no symlink and waiting for nobody.

    Args:
        path: the file, relative to ``dir_fd`` where that is given.
        flags: as of open(2); a file that it creates gets the mode 0666 & ~umask.
        dir_fd: an open folder.

    Returns:
        A descriptor, not inherited by child processes.

    Raises:
        NotRegular: a symlink, fifo, folder, socket or device stands there.
        OSError: as of open(2).
    """
    try:
        fd = os.open(path, flags | _SAFE, 0o666, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotRegular(path) from error
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise NotRegular(path)


def open_dir(path: str) -> int:
    """Open a folder itself, not one that a symlink of its name points to.

    Raises:
        NotRegular: something else stands there.
        OSError: as of open(2).
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFE)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise NotRegular(path) from error
        raise


# --------------------------------------------------------------------------------- small files


def read_small(name: str, dir_fd: int) -> bytes | None:
    """The content of a small file, at most 64 KiB; None when it cannot be had as a regular file."""
    try:
        fd = open_regular(name, os.O_RDONLY, dir_fd=dir_fd)
    except (NotRegular, OSError):
        return None
    try:
        return os.read(fd, _SMALL)
    except OSError:
        return None
    finally:
        os.close(fd)


def create_small(name: str, dir_fd: int, content: bytes) -> None:
    """Write a file that must not be there yet.

    Raises:
        OSError: FileExistsError, ENOSPC, EIO, ….
    """
    fd = open_regular(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=dir_fd)
    try:
        write_all(fd, content, 0)
    finally:
        os.close(fd)


def replace_small(name: str, dir_fd: int, content: bytes) -> None:
    """Write a file in one step: a reader finds the old content or the new, nothing between.

    Not durable by itself; after a crash the file may be empty, which its readers take as absent.

    Raises:
        OSError: the old content is still there.
    """
    temporary = f"{TEMPORARY}{os.getpid()}-{next(_serial)}"
    try:
        create_small(temporary, dir_fd, content)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise


# ------------------------------------------------------------------------------------ contents


def write_all(fd: int, data: Buffer, at: int) -> None:
    """Write all of ``data`` at byte ``at``.

    Raises:
        OSError: some of it may have been written.
    """
    done = os.pwrite(fd, data, at)
    view = memoryview(data).cast("B")
    while done < len(view):
        done += os.pwrite(fd, view[done:], at + done)


def truncate(fd: int, size: int) -> None:
    """Give a file the size ``size`` in bytes; what is new reads as zeros."""
    os.ftruncate(fd, size)


def chmod(fd: int, mode: int) -> None:
    """Give a file the permission bits ``mode``."""
    os.fchmod(fd, mode)


def set_mtime(fd: int, ns: int) -> None:
    """Give a file the modification time ``ns``, in nanoseconds since the epoch."""
    os.utime(fd, ns=(ns, ns))


def renew(name: str, dir_fd: int) -> int:
    """Put a byte-for-byte copy in a file's place, so that it is a file of its own again.

    For a file that is also linked under another name, and for one whose fsync failed: its pages
    count as clean though they never reached the disk, and only pages written anew will.

    Returns:
        A descriptor of the copy, for reading and writing.

    Raises:
        OSError: the file is as it was.
    """
    temporary = f"{TEMPORARY}{os.getpid()}-{next(_serial)}"
    source = open_regular(name, os.O_RDONLY, dir_fd=dir_fd)
    copy = None
    try:
        copy = open_regular(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=dir_fd)
        at = 0
        while chunk := os.pread(source, _COPY, at):
            write_all(copy, chunk, at)
            at += len(chunk)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        if copy is not None:
            os.close(copy)
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise
    finally:
        os.close(source)
    return copy


# --------------------------------------------------------------------------------------- names


def make_dir(path: str) -> bool:
    """Make a folder; say whether it was made (False: something of that name is there)."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    return True


def link(name: str, dir_fd: int, target: str) -> bool:
    """Give a file a second name without replacing; say whether it was given.

    Returns:
        False where ``target`` is taken.

    Raises:
        OSError: as of link(2), but for EEXIST.
    """
    try:
        os.link(name, target, src_dir_fd=dir_fd, follow_symlinks=False)
    except FileExistsError:
        return False
    return True


def move(name: str, dir_fd: int, new_dir_fd: int) -> None:
    """Move a file to another folder under the same name, replacing what stands there."""
    os.rename(name, name, src_dir_fd=dir_fd, dst_dir_fd=new_dir_fd)


def unlink(name: str, *, dir_fd: int | None = None) -> bool:
    """Remove a file; say whether it was there."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True


def rmdir(path: str) -> bool:
    """Remove a folder if it is empty; say whether it is gone."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            return False
        raise
    return True


# ------------------------------------------------------------------------------------- durable


def fsync(fd: int) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    os.fsync(fd)


def fsync_name(name: str, dir_fd: int) -> None:
    """Make the bytes of a file durable, by its name."""
    fd = open_regular(name, os.O_RDONLY, dir_fd=dir_fd)
    try:
        fsync(fd)
    finally:
        os.close(fd)


def fsync_dir(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(fd)
    finally:
        os.close(fd)


class _Round:
    """One fsync of a folder, and those whom it serves."""

    __slots__ = ("done", "failure")

    def __init__(self) -> None:
        self.done = False
        self.failure: OSError | None = None


class SharedSync:
    """`fsync_dir` of one folder, shared by all who ask for it at the same time (group commit).

    A caller that finds a sync under way waits for the next one, which covers its own names and
    those of everybody else who waits.  When a sync fails, all whom it served get its error.
    """

    __slots__ = ("_next", "_path", "_running", "_turn")

    def __init__(self, path: str) -> None:
        self._path = path
        self._turn = threading.Condition()
        # Guarded by: `_turn`.  Invariant: `_next` has not begun.
        self._next = _Round()
        self._running = False

    def __call__(self) -> None:
        """Return when every name that was in the folder at the call is durable.

        Raises:
            OSError: the fsync failed.
        """
        with self._turn:
            # A sync that runs may have begun before our names were made, so it does not count.
            mine = self._next
            while self._running and not mine.done:
                self._turn.wait()
            if mine.done:
                if mine.failure is not None:
                    raise mine.failure
                return
            self._running = True
            self._next = _Round()
        try:
            fsync_dir(self._path)
        except OSError as error:
            mine.failure = error
            raise
        finally:
            with self._turn:
                mine.done = True
                self._running = False
                self._turn.notify_all()
