"""May this root be mounted there: paths made definite, conflicts refused, the dead replaced."""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Iterator

from fusefs.mounterror import MountError
from fusefs.mounts import CUT_OFF, FILESYSTEM_TYPE, Mount, topmost, unmount

_PROBE_PATIENCE = 5.0  # seconds for a mount to answer before it counts as alive but slow
_MAX_LINKS = 40  # as the kernel follows at most


def resolve(path: str) -> str:
    """Return the absolute path that `path` leads to, without symbolic links.

    Unlike `os.path.realpath` it asks nothing of a file system that is mounted at the path
    itself, which may be dead, or too slow to wait for: readlink(2) of a mounted folder is
    answered by the kernel alone, lstat(2) is not.

    Raises:
        MountError: The links lead in a circle.
    """
    here = os.path.join(os.getcwd(), path)
    for _ in range(_MAX_LINKS):
        head, tail = os.path.split(here.rstrip("/"))
        if tail in ("", ".", ".."):
            return os.path.realpath(here)
        head = os.path.realpath(head)
        here = os.path.join(head, tail)
        try:
            here = os.path.join(head, os.readlink(here))
        except OSError:
            return here
    raise MountError(f"{path}: too many symbolic links")


def prepare(root: str, mountpoint: str) -> tuple[str, str]:
    """Check that `root` can be mounted on `mountpoint`, and clear a dead contentfs from there.

    Args:
        root: The folder of the store, as the user named it.
        mountpoint: The folder to mount on, as the user named it.

    Returns:
        Both as absolute paths without symbolic links.

    Raises:
        MountError: One is no folder, or mounting would hide or mirror the store in itself, or a
            contentfs that lives is mounted there already.
    """
    _require_folder(root)
    point = resolve(mountpoint)
    real_root = os.path.realpath(root)
    if point == real_root:
        raise MountError(f"{mountpoint} is the store itself: choose another mountpoint")
    if _inside(real_root, point):
        raise MountError(f"{mountpoint} contains the store {root}, which the mount would hide")
    for part in ("blobs", "ingest"):
        if _inside(point, os.path.realpath(os.path.join(real_root, part))):
            raise MountError(f"{mountpoint} lies in the {part} of the store {root} itself")
    if (mount := detach_dead(point)) is not None:
        raise MountError(f"{mountpoint} is already mounted: it shows {mount.source}")
    _require_folder(mountpoint)
    return real_root, point


def detach_dead(point: str) -> Mount | None:
    """Detach every dead contentfs at `point`; one may have been mounted over another.

    Returns:
        The contentfs that lives there, or None.

    Raises:
        MountError: A dead one cannot be taken away.
    """
    while (mount := topmost(point)) is not None and mount.kind == FILESYSTEM_TYPE:
        if not _is_dead(mount):
            return mount
        unmount(mount, lazy=True)
    return None


def source_name(root: str) -> str:
    """Return what the table of mounts shows as the source of a mounted `root`.

    It is the user's own name for it, made absolute: `mount -a` compares it with fstab to see
    that a line is mounted already.
    """
    absolute = os.path.abspath(root)
    try:
        if os.path.samefile(absolute, root):
            return absolute
    except OSError:
        pass  # as below: `link/..` is not what the text says
    return os.path.realpath(root)


def _inside(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def _require_folder(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise MountError(f"{path} does not exist: create it first (mkdir)") from None
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise MountError(f"{path} is not a folder")


def _is_dead(mount: Mount) -> bool:
    """Ask a mount for what the kernel does not cache, and see whether anybody is there.

    The question is put by a forked child, in the name of the user who mounted: the kernel
    answers others, root among them, with no word to the server. If the server is slow the
    child is left to wait for it; a thread could neither be left nor killed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        verdict = b"?"
        with contextlib.suppress(BaseException):
            _become(dict(_pairs(mount.super_options)))
            verdict = b"dead" if _is_cut_off(mount.point) else b"alive"
        with contextlib.suppress(OSError):
            os.write(writer, verdict)
        os._exit(0)
    os.close(writer)
    try:
        answered, _, _ = select.select([reader], [], [], _PROBE_PATIENCE)
        if not answered:
            return False
        verdict = os.read(reader, 16)
        os.waitpid(child, 0)
        return verdict == b"dead"
    finally:
        os.close(reader)


def _pairs(options: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for option in options:
        name, _, value = option.partition("=")
        if name in ("user_id", "group_id"):
            yield name, int(value)


def _become(owner: dict[str, int]) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        gid, uid = owner["group_id"], owner["user_id"]
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def _is_cut_off(point: str) -> bool:
    try:
        os.statvfs(point)
    except PermissionError:
        return False
    except OSError as error:
        return error.errno in CUT_OFF
    return False
