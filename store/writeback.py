"""Bytes on their way to the disk before an fsync has to wait for them."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Final

__all__ = ["start_writing_back"]

_SYNC_FILE_RANGE_WRITE: Final = 2


def start_writing_back(fd: int) -> None:
    """Have the kernel write a file's bytes to the disk, while the caller does something else.

    This makes nothing durable, and fails in silence: sync_file_range(2) leaves what the disk
    refuses for the fsync to tell that comes after.

    Args:
        fd: the file; it may be closed at any time.
    """
    # To hand the pages over may take as long as the disk, so a thread waits for that.
    with contextlib.suppress(OSError, RuntimeError):
        own = os.dup(fd)
        try:
            threading.Thread(target=_start, args=(own,), name="writing", daemon=True).start()
        except BaseException:
            os.close(own)
            raise


def _start(fd: int) -> None:
    # 10 ms of imports that only a commit of much pays.
    import ctypes  # noqa: PLC0415

    try:
        start = getattr(ctypes.CDLL(None), "sync_file_range", None)
        if start is not None:
            everything = ctypes.c_int64(0)
            start(fd, everything, everything, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))
    finally:
        os.close(fd)
