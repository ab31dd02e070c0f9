"""Bytes on their way to the disk long before an fsync has to wait for them."""

from __future__ import annotations

import os
import threading
from typing import Final

__all__ = ["WriteBack"]

_PART: Final = 32 * 1024 * 1024
_SYNC_FILE_RANGE_WRITE: Final = 2


class WriteBack:
    """Has the kernel write a file that grows to the disk, part by part, while others go on.

    So a commit takes as long as the slowest of copying, hashing and writing, not as all three.
    This makes nothing durable, and fails in silence: sync_file_range(2) leaves what the disk
    refuses for the fsync to tell that comes after.

    One thread at a time may call.

    Attributes:
        due: the size in bytes at which `start` has something to do.
    """

    __slots__ = ("_begun", "_target", "_turn", "_working", "due")

    def __init__(self, size: int = 0) -> None:
        """Begin with a file of which ``size`` bytes are another's affair."""
        self._turn = threading.Lock()
        # Guarded by: `_turn`.
        self._begun = self._target = size
        self._working = False
        self.due = size + _PART

    def start(self, fd: int, size: int) -> None:
        """Begin with all bytes before ``size`` that were not begun with.

        Args:
            fd: the file; it may be closed at any time.
            size: how many bytes it has.
        """
        self.due = size + _PART
        with self._turn:
            self._target = size
            if self._working:
                return
            self._working = True
        # To hand pages over may take as long as the disk, so a thread waits for that.
        try:
            own = os.dup(fd)
            try:
                thread = threading.Thread(target=self._work, args=(own,), name="writing")
                thread.daemon = True
                thread.start()
            except BaseException:
                os.close(own)
                raise
        except (OSError, RuntimeError):
            # The fsync will do it all.
            with self._turn:
                self._working = False

    def _work(self, fd: int) -> None:
        # 10 ms of imports that only who writes much pays.
        import ctypes  # noqa: PLC0415

        begin_writing = getattr(ctypes.CDLL(None), "sync_file_range", None)
        try:
            while True:
                with self._turn:
                    begun, self._begun = self._begun, self._target
                    if begun >= self._target:
                        self._working = False
                        return
                    count = self._target - begun
                if begin_writing is not None:
                    begin_writing(
                        fd,
                        ctypes.c_int64(begun),
                        ctypes.c_int64(count),
                        ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
                    )
        finally:
            os.close(fd)
