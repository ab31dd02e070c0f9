"""The kernel's table of mounts, and taking a mount out of it."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import os
import re
import select
import subprocess

from fusefs.mounterror import MountError

FILESYSTEM_TYPE = "fuse.contentfs"

CUT_OFF = (errno.ENOTCONN, errno.ECONNABORTED)
"""What a FUSE mount answers whose server died, or whose connection was aborted through /sys."""

_MNT_DETACH = 2  # linux/fs.h
_UMOUNT_NOFOLLOW = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo, see proc_pid_mountinfo(5).

    Attributes:
        ident: The kernel's number of the mount, unique while it stands.
        parent: The number of the mount that it stands on.
        device: `MAJOR:MINOR`, as in /sys/class/bdi.
        point: Where it is mounted, an absolute path.
        kind: The type, such as `fuse.contentfs`.
        source: What it says it shows.
        super_options: Options of the file system itself, such as `user_id=0`.
    """

    ident: int
    parent: int
    device: str
    point: str
    kind: str
    source: str
    super_options: tuple[str, ...]


def read_mounts() -> list[Mount]:
    """Read all mounts that this process can see, in the kernel's order.

    Raises:
        OSError: /proc is not there.
    """
    with open("/proc/self/mountinfo", "rb") as file:
        return [_parse(line.split()) for line in file]


def topmost(point: str) -> Mount | None:
    """Return the mount that a path reaches where it is mounted upon, or None where it is not.

    Args:
        point: An absolute path without symbolic links. It is compared, not touched: a dead or
            slow mount costs nothing here.
    """
    here = [mount for mount in read_mounts() if mount.point == point]
    covered = {mount.parent for mount in here}
    return next((mount for mount in reversed(here) if mount.ident not in covered), None)


def unmount(mount: Mount, *, lazy: bool = False) -> bool:
    """Take a mount away; asks the kernel, so never call it from the thread that serves it.

    What is mounted inside it goes before it, as far as that is not busy.

    Args:
        mount: The mount, wherever it has been moved to since.
        lazy: Detach it from the tree at once, though files on it are open. They stay usable as
            long as its server serves them.

    Returns:
        Whether it is gone from the tree; False means that it is busy.

    Raises:
        MountError: It cannot be taken away: permission, or another mount stands on top of it.
    """
    here = next((entry for entry in read_mounts() if entry.ident == mount.ident), None)
    if here is None or here.device != mount.device:
        return True
    above = topmost(here.point)
    if above is not None and above.ident != mount.ident:
        # An unmount goes by the path, and would hit the other one.
        raise MountError(
            f"cannot unmount {here.point}: a {above.kind} is mounted on top of it;"
            f" unmount that first (umount {here.point})"
        )
    if not lazy:  # else the kernel sees to it
        for inner in read_mounts():
            if inner.parent == here.ident:
                with contextlib.suppress(MountError):
                    unmount(inner)
    reason = _umount2(here.point, lazy=lazy)
    if reason == os.strerror(errno.EPERM):
        reason = _fusermount(here.point, lazy=lazy)
    if not reason or all(entry.ident != mount.ident for entry in read_mounts()):
        return True  # perhaps somebody else was faster
    if os.strerror(errno.EBUSY) in reason:
        return False
    raise MountError(f"cannot unmount {here.point}: {reason}")


def is_cut_off(connection: int) -> bool:
    """Tell whether the kernel has ended a connection of FUSE: by unmount, or by force.

    Until then the numbers of its mount are not given to another. Afterwards they are, and a new
    contentfs in the same place is likely to get just these.

    Args:
        connection: The descriptor of /dev/fuse.
    """
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))


def _parse(fields: list[bytes]) -> Mount:
    separator = fields.index(b"-", 6)  # an unknown number of optional fields ends there
    kind, source, super_options = fields[separator + 1 : separator + 4]
    return Mount(
        ident=int(fields[0]),
        parent=int(fields[1]),
        device=fields[2].decode(),
        point=_unescape(fields[4]),
        kind=_unescape(kind),
        source=_unescape(source),
        super_options=tuple(_unescape(super_options).split(",")),
    )


def _unescape(field: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field))


def _umount2(point: str, *, lazy: bool) -> str:
    """Call umount2(2), which util-linux would only wrap; return what is wrong, or nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    failed = libc.umount2(os.fsencode(point), flags)
    return os.strerror(ctypes.get_errno()) if failed else ""


def _fusermount(point: str, *, lazy: bool) -> str:
    """Unmount as a user must who is not root: by the set-user-id helper of libfuse."""
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", point]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the path is that of a mount of ours
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        return f"fusermount3: {error.strerror}"
    said = os.fsdecode(done.stderr).strip()
    return (said or f"fusermount3: exit status {done.returncode}") if done.returncode else ""
