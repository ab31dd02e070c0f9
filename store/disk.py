"""Every system call that changes a store: one place to make durable, and one to make fail.

Nothing else in the package writes, syncs, links, renames or removes.  The tests fail or kill
each of these calls in turn by replacing this module's ``os``.

What a file system owes us (POSIX, and ext4, XFS and btrfs as measured): ``fsync`` of a file makes
its bytes durable but not its name, ``fsync`` of a folder makes the names in it durable, ``link``
and ``rename`` are atomic.  A failed ``fsync`` has marked the pages clean, so a second one would
succeed without having written anything: `fsync` refuses it, and `renew` is the way on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from store.errors import NotRegular

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

__all__ = [
    "TEMPORARY",
    "chmod",
    "create_small",
    "fsync",
    "fsync_dir",
    "fsync_folder",
    "fsync_name",
    "fsync_root",
    "is_doubtful",
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
    "supersede",
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

# Files whose fsync failed, as (device, inode).  Guarded by: the interpreter lock.
_doubtful: set[tuple[int, int]] = set()


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
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode):
        if found.st_size == 0:
            # It has no bytes to doubt; more likely the inode's number has been used again.
            _doubtful.discard(_identity(found))
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
    """The content of a small file, at most 64 KiB; None where there is no regular file.

    Raises:
        OSError: there is one, and it cannot be read; to take it for absent would drop a check.
    """
    try:
        fd = open_regular(name, os.O_RDONLY, dir_fd=dir_fd)
    except (NotRegular, FileNotFoundError):
        return None
    try:
        return os.read(fd, _SMALL)
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
        NotRegular: a folder stands there.
        OSError: the old content is still there.
    """
    temporary = _temporary()
    try:
        create_small(temporary, dir_fd, content)
        _rename(temporary, name, dir_fd, dir_fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise


def _temporary() -> str:
    # By chance and not by pid: what a crash left must not be in the way of who has that pid next.
    return f"{TEMPORARY}{os.urandom(8).hex()}"


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
    if size == 0:
        _doubtful.discard(_identity(os.fstat(fd)))


def chmod(fd: int, mode: int) -> None:
    """Give a file the permission bits ``mode``."""
    os.fchmod(fd, mode)


def set_mtime(fd: int, ns: int) -> None:
    """Give a file the modification time ``ns``, in nanoseconds since the epoch."""
    os.utime(fd, ns=(ns, ns))


def renew(name: str, dir_fd: int, check: Callable[[int], None] | None = None) -> int:
    """Put a byte-for-byte copy in a file's place, so that it is a file of its own again.

    For a file that is also linked under another name, and for one whose fsync failed: its pages
    count as clean though they never reached the disk, and only pages written anew will.

    Args:
        name: the file.
        dir_fd: its folder.
        check: looks at the copy, open under the descriptor that it gets, before it takes the
            file's place; raises what this is to raise.

    Returns:
        A descriptor of the copy, for reading and writing.

    Raises:
        NotRegular: it is no regular file.
        OSError: the file is as it was.
    """
    temporary = _temporary()
    source = open_regular(name, os.O_RDONLY, dir_fd=dir_fd)
    copy = None
    try:
        copy = open_regular(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=dir_fd)
        at = 0
        while chunk := os.pread(source, _COPY, at):
            write_all(copy, chunk, at)
            at += len(chunk)
        if check is not None:
            check(copy)
        _rename(temporary, name, dir_fd, dir_fd)
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
    """Make a folder; say whether it was made (False: something of that name is there).

    Raises:
        NotRegular: what it is to be made in is no folder.
        OSError: as of mkdir(2); FileNotFoundError where there is nothing to make it in.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    except (FileNotFoundError, NotADirectoryError) as error:
        parent = os.path.dirname(path)
        # A folder there by now is one that somebody else has just made.
        if os.path.lexists(parent) and not os.path.isdir(parent):
            raise NotRegular(parent) from error
        raise
    return True


def link(name: str, dir_fd: int, target: str) -> bool:
    """Give a file a second name without replacing; say whether it was given, or was taken."""
    try:
        os.link(name, target, src_dir_fd=dir_fd, follow_symlinks=False)
    except FileExistsError:
        return False
    return True


def supersede(name: str, dir_fd: int, target: str) -> bool:
    """Move a file to the place of ``target``, whose fsync failed; say whether it was done.

    Returns:
        False where ``target`` is gone, or another by now.
    """
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return False
    if not is_doubtful(found):
        return False
    os.rename(name, target, src_dir_fd=dir_fd)
    _doubtful.discard(_identity(found))
    return True


def move(name: str, dir_fd: int, new_dir_fd: int) -> None:
    """Move a file to another folder under the same name, replacing what stands there.

    Raises:
        NotRegular: a folder stands there.
        OSError: nothing has moved.
    """
    _rename(name, name, dir_fd, new_dir_fd)


def _rename(old: str, new: str, old_dir_fd: int, new_dir_fd: int) -> None:
    try:
        os.rename(old, new, src_dir_fd=old_dir_fd, dst_dir_fd=new_dir_fd)
    except IsADirectoryError as error:
        raise NotRegular(new) from error


def unlink(name: str, *, dir_fd: int | None = None) -> bool:
    """Remove a file; say whether it was there.  A folder is none, and stays."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True


def rmdir(path: str) -> None:
    """Remove a folder if it is there and empty."""
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


# ------------------------------------------------------------------------------------- durable


def fsync(fd: int) -> None:
    """Make a file's bytes durable.

    Raises:
        OSError: it failed; or it failed before, and success would mean nothing now.
    """
    if is_doubtful(os.fstat(fd)):
        raise OSError(errno.EIO, "an earlier fsync of this file failed, so its bytes are in doubt")
    try:
        os.fsync(fd)
    except OSError:
        _doubtful.add(_identity(os.fstat(fd)))
        raise


def is_doubtful(found: os.stat_result) -> bool:
    """Whether an fsync of this file has failed in this process, and nothing has set it right."""
    return _identity(found) in _doubtful


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def fsync_name(name: str, dir_fd: int) -> None:
    """Make the bytes of a small file durable, by its name.

    Raises:
        OSError: they may not be.  The file is written anew, so that the next try is an honest one.
    """
    fd = open_regular(name, os.O_RDONLY, dir_fd=dir_fd)
    try:
        fsync(fd)
    except OSError:
        with contextlib.suppress(OSError, NotRegular):
            os.close(renew(name, dir_fd))
        raise
    finally:
        os.close(fd)


def fsync_folder(fd: int) -> None:
    """Make the names in an open folder durable.

    Names are metadata: where their journal cannot be written a file system stops altogether, so
    unlike that of a file's bytes a failure does not turn into a false success when tried again.
    """
    os.fsync(fd)


def fsync_dir(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync_folder(fd)
    finally:
        os.close(fd)


def fsync_root(root: str) -> None:
    """Make a store's folder durable, and the names in it."""
    # Where we may not list the parent, we have not made the folder in it either.
    with contextlib.suppress(PermissionError):
        fsync_dir(os.path.dirname(root))
    fsync_dir(root)
