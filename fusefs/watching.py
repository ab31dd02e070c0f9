"""Which blobs go behind the mount: inotify(7) on the folders of the algorithms.

As long as a folder is watched, the kernel may keep the names in it for as long as it likes, since
it is told of each that goes.  What is not told is a change that another machine makes, so the
watch is only kept on file systems that no other machine has.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import trio

from fusefs.mounts import read_mounts

if TYPE_CHECKING:
    from store.layout import Layout

__all__ = ["BlobWatch"]

_log = logging.getLogger(__name__)

_LOCAL: Final = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)

# linux/inotify.h
_MOVED_FROM: Final = 0x40
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_DELETE: Final = 0x200
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800
_UNMOUNT: Final = 0x2000
_OVERFLOW: Final = 0x4000
_ONLYDIR: Final = 0x01000000

_GOES: Final = _MOVED_FROM | _DELETE
_COMES: Final = _MOVED_TO | _CREATE
_ITSELF: Final = _DELETE_SELF | _MOVE_SELF
_START_OVER: Final = _ITSELF | _UNMOUNT | _OVERFLOW

_EVENT: Final = struct.Struct("iIII")
_READ_SIZE: Final = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class BlobWatch:
    """The watch on all algorithms' folders.

    Attributes:
        departures: how many blobs have gone so far; what was found before and answered after one
            of them may be one that is gone.
    """

    def __init__(
        self, layout: Layout, gone: Callable[[str, str], None], all_gone: Callable[[], None]
    ) -> None:
        """Watch nothing yet.

        Args:
            layout: the store's paths.
            gone: called with the algorithm and the hex of each blob that goes.
            all_gone: called when any of them may have.
        """
        self.departures = 0
        self._layout = layout
        self._gone = gone
        self._all_gone = all_gone
        self._fd = -1
        # The algorithm of each watched folder, or None for the two folders above them.
        self._watches: dict[int, str | None] = {}
        # Invariant: for an algorithm in here, every blob that goes from now on is told of.
        self._covered: set[str] = set()

    def covers(self, algorithm: str) -> bool:
        """Whether each blob of an algorithm that goes is told of."""
        return algorithm in self._covered

    async def run(self) -> None:
        """Watch until cancelled.  Where that is not possible nothing is covered."""
        if not _is_local(self._layout.root):
            return
        try:
            while True:
                self._start()
                await self._follow()
                self._stop()
        except OSError as error:
            _log.info("blobs are not watched, and looked up every second: %s", error)
            self._all_gone()
        finally:
            self._stop()

    def _start(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        self._add(self._layout.root, None)
        self._add_algorithms()

    def _stop(self) -> None:
        self.departures += 1
        self._covered.clear()
        self._watches.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _add_algorithms(self) -> None:
        if not self._add(self._layout.blobs, None):
            return
        with os.scandir(self._layout.blobs) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
        for name in names:
            if self._add(self._layout.algorithm(name), name):
                self._covered.add(name)

    def _add(self, path: str, algorithm: str | None) -> bool:
        mask = _ONLYDIR | _ITSELF | (_COMES if algorithm is None else _GOES)
        try:
            watch = _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), mask))
        except (FileNotFoundError, NotADirectoryError):
            return False
        self._watches[watch] = algorithm
        return True

    async def _follow(self) -> None:
        """Tell of what goes, until all has to be looked at anew."""
        while True:
            await trio.lowlevel.wait_readable(self._fd)
            for watch, mask, name in _events(os.read(self._fd, _READ_SIZE)):
                if mask & _START_OVER:
                    self._all_gone()
                    return
                algorithm = self._watches.get(watch)
                if algorithm is None:
                    self._add_algorithms()
                elif mask & _GOES:
                    self.departures += 1
                    self._gone(algorithm, name)


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    """The events in what was read: the watch, the mask, and the name of the file."""
    at = 0
    while at < len(data):
        watch, mask, _cookie, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number or errno.EIO, os.strerror(number or errno.EIO))
    return result


def _is_local(path: str) -> bool:
    """Whether a file system is one of those that no other machine can change."""
    try:
        number = os.stat(path).st_dev
        device = f"{os.major(number)}:{os.minor(number)}"
        inside = [
            mount
            for mount in read_mounts()
            if os.path.commonpath((mount.point, path)) == mount.point
        ]
    except OSError:
        return False
    # btrfs has a device of its own for each subvolume, so there the path decides.
    mounts = [mount for mount in inside if mount.device == device] or sorted(
        inside, key=lambda mount: len(mount.point)
    )
    return bool(mounts) and mounts[-1].kind in _LOCAL
