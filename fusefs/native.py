"""`-o native_blobs`: blobs that the kernel reads by itself.

The store's folder of blobs is bound over the view's, read-only, in one step (mount API of Linux
5.12: open_tree(2), mount_setattr(2), move_mount(2)). The view below it is whole all the while, so
wherever the bind is missing blobs are only read more slowly.

A mount with another mount inside is busy for umount(2), and FUSE is not told of the attempt. But
umount(8) mostly asks for the statfs(2) of what it is about to unmount. So the bind steps aside
for that, unless it is in use itself, and comes back if the mount is still there a moment later.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from collections.abc import Callable
from typing import Final, TypeVar

import trio
from pyfuse3 import RequestContext, StatvfsData

from fusefs.errors import answering
from fusefs.mounterror import MountError
from fusefs.mounts import Mount, is_cut_off, read_mounts, topmost, unmount
from fusefs.operations import ContentOperations
from store import Store, StoreError

__all__ = ["NativeBlobs", "NativeOperations", "make_folders"]

_log = logging.getLogger(__name__)

_BLOBS: Final = "blobs"
_ASIDE: Final = 1.0  # seconds for who unmounts to do so

# The numbers are the same on all machines but Alpha; not every libc has functions for them.
_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_MOUNT_SETATTR: Final = 442

# linux/mount.h, linux/fcntl.h
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_READ_ONLY: Final = 0x1
_NO_SET_USER_ID: Final = 0x2
_NO_DEVICES: Final = 0x4
_NO_PROGRAMS: Final = 0x8
_PRIVATE: Final = 1 << 18

_Result = TypeVar("_Result")

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def make_folders(store: Store) -> None:
    """Have the folders there that are to be shown: all algorithms', unless the store is read-only.

    Raises:
        MountError: Who mounts is not root, or there is no folder to bind.
    """
    if os.geteuid() != 0:
        raise MountError("native_blobs: only root may mount so")
    try:
        if not store.read_only:
            for algorithm in store.blobs.algorithms():
                store.blobs.prepare(algorithm)
        if not os.path.isdir(store.layout.blobs):
            raise MountError(f"native_blobs: there is no folder {store.layout.blobs} yet")
    except (OSError, StoreError) as error:
        raise MountError(f"native_blobs: {error}") from error


class NativeBlobs:
    """The folder of a store's blobs, bound over that of its view."""

    def __init__(self, folder: str, mount: Mount, *, programs: bool) -> None:
        """Bind nothing yet.

        Args:
            folder: The store's folder of blobs.
            mount: The mount that shows the store.
            programs: Whether files there may be executed, as far as their modes let them.
        """
        self._folder = os.path.realpath(folder)
        self._mount = mount
        self._attributes = _READ_ONLY | _NO_SET_USER_ID | _NO_DEVICES
        if not programs:
            self._attributes |= _NO_PROGRAMS

    def bind(self, connection: int | None = None) -> None:
        """Bind the folder, unless it is bound; asks the mount, as `unmount` does.

        Args:
            connection: The mount's descriptor of /dev/fuse: without it, a mount that has got the
                numbers of ours since would be taken for it.

        Raises:
            MountError: It cannot be bound, or the mount is not in its place any more.
        """
        here = self._here()
        if here is None:
            raise MountError(f"the mount on {self._mount.point} was taken away at once")
        if self._bound(here) is not None:
            return
        for mount in read_mounts():
            if mount.point.startswith(f"{self._folder}/"):
                raise MountError(
                    f"native_blobs: {mount.point} is a mount of its own, which would not show"
                )
        try:
            self._bind(here.point, connection)
        except OSError as error:
            reason = error.strerror
            if error.errno == errno.ENOSYS:
                reason = "this takes Linux 5.12 or newer"
            raise MountError(f"native_blobs: cannot bind {self._folder}: {reason}") from error

    def release(self) -> bool:
        """Take the bind away; tell whether there was one, and it was not in use."""
        here = self._here()
        bound = here and self._bound(here)
        return bound is not None and unmount(bound)

    def _bind(self, point: str, connection: int | None) -> None:
        tree = _call(
            _OPEN_TREE, _AT_FDCWD, os.fsencode(self._folder), _OPEN_TREE_CLONE | os.O_CLOEXEC
        )
        try:
            # Private: what is mounted in the store later on must not come in here.
            attributes = _Attributes(self._attributes, 0, _PRIVATE, 0)
            size = ctypes.sizeof(attributes)
            _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size)
            folder = os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # Without the mount the path leads elsewhere; while it is open the mount stays.
                gone = connection is not None and is_cut_off(connection)
                if gone or _mount_number(folder) != self._mount.ident:
                    raise OSError(errno.ENOENT, "the mount was taken away")
                target = os.fsencode(_BLOBS)
                _call(_MOVE_MOUNT, tree, b"", folder, target, _MOVE_MOUNT_F_EMPTY_PATH)
            finally:
                os.close(folder)
        finally:
            os.close(tree)

    def _here(self) -> Mount | None:
        """The mount as it is now, unless it is gone or out of reach."""
        for mount in read_mounts():
            if mount.ident == self._mount.ident and mount.device == self._mount.device:
                return mount if topmost(mount.point) == mount else None
        return None

    @staticmethod
    def _bound(here: Mount) -> Mount | None:
        bound = topmost(os.path.join(here.point, _BLOBS))
        return bound if bound is not None and bound.parent == here.ident else None


class NativeOperations(ContentOperations):
    """A store as a file system, whose blobs are bound.

    Attributes:
        native: The bind; to be set before the first request.
        connection: The mount's descriptor of /dev/fuse; likewise.
    """

    native: NativeBlobs
    connection: int

    @answering
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """STATFS, the only thing that umount(8) lets the server know of."""
        if _name(ctx.pid) == "umount" and await _ask_mounts(self.native.release):
            _log.info("blobs make way for umount")
            trio.lowlevel.spawn_system_task(self._come_back)
        return await super().statfs(ctx)

    async def _come_back(self) -> None:
        await trio.sleep(_ASIDE)
        try:
            await _ask_mounts(lambda: self.native.bind(self.connection))
        except MountError as error:
            _log.info("blobs are not bound again: %s", error)
        else:
            _log.info("blobs are bound again")


async def _ask_mounts(function: Callable[[], _Result]) -> _Result:
    """Run what may ask our own mount in a thread that is left alone when the loop ends.

    Once nobody serves, only the end of the connection would end it.
    """
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)


def _name(process: int) -> str:
    """What the kernel calls a process; nothing if it is gone, or in another name space."""
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _mount_number(descriptor: int) -> int:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return int(fields["mnt_id"])


def _call(number: int, *arguments: object) -> int:
    # An int would be passed as a C int, and syscall(2) reads longs.
    longs = (ctypes.c_long(word) if isinstance(word, int) else word for word in arguments)
    result: int = _libc.syscall(ctypes.c_long(number), *longs)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
