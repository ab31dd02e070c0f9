"""A block device that keeps a record: a FUSE file that a loop device stands on.

Run as ``recorder.py IMAGE TAPE MOUNTPOINT``.  ``MOUNTPOINT/disk`` is the image; every write to it
and every flush is appended to the tape in its order.  What is written to ``MOUNTPOINT/marks`` is
put on the same tape, and is there when the write returns: so a program can say between two block
writes what it has been promised by then.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from typing import Any, Final

import pyfuse3
import trio

ENTRY: Final = struct.Struct("<cQQ")
"""An entry of the tape: its kind, the offset in the image and the length of the bytes after it."""

WRITE: Final = b"W"
FLUSH: Final = b"F"
MARK: Final = b"M"

_DISK: Final = 2
_MARKS: Final = 3
_NAMES: Final = {b"disk": _DISK, b"marks": _MARKS}
_LONG: Final = 3600.0


class Recorder(pyfuse3.Operations):
    """Two files: an image, and the marks."""

    def __init__(self, image: int, tape: int) -> None:
        """Record.

        Args:
            image: the descriptor of the image.
            tape: the descriptor of the tape.
        """
        super().__init__()
        self._image = image
        self._tape = tape

    def _record(self, kind: bytes, offset: int, data: bytes) -> None:
        os.writev(self._tape, [ENTRY.pack(kind, offset, len(data)), data])

    def _look(self, inode: int) -> pyfuse3.EntryAttributes:
        look = pyfuse3.EntryAttributes()
        look.st_ino = inode
        look.entry_timeout = look.attr_timeout = _LONG
        if inode == pyfuse3.ROOT_INODE:
            look.st_mode = stat.S_IFDIR | 0o700
        else:
            look.st_mode = stat.S_IFREG | 0o600
            look.st_size = os.fstat(self._image).st_size if inode == _DISK else 0
        return look

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """LOOKUP."""
        if name not in _NAMES:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._look(_NAMES[name])

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """GETATTR."""
        return self._look(inode)

    async def setattr(self, inode: int, *_: Any) -> pyfuse3.EntryAttributes:
        """SETATTR: of times, without effect."""
        return self._look(inode)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """OPEN: the handle is the inode."""
        return pyfuse3.FileInfo(fh=inode, direct_io=inode == _MARKS)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """READ."""
        return os.pread(self._image, size, off) if fh == _DISK else b""

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """WRITE."""
        if fh == _DISK:
            self._record(WRITE, off, buf)
            return os.pwrite(self._image, buf, off)
        self._record(MARK, 0, buf)
        return len(buf)

    async def fsync(self, fh: int, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3's own
        """FSYNC: the device is told to flush its cache."""
        self._record(FLUSH, 0, b"")

    async def flush(self, fh: int) -> None:
        """FLUSH, of a close: no promise."""

    async def release(self, fh: int) -> None:
        """RELEASE."""


def main(image: str, tape: str, point: str) -> None:
    """Serve until unmounted."""
    opened = (os.open(image, os.O_RDWR), os.open(tape, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    pyfuse3.init(Recorder(*opened), point, ["fsname=recorder"])  # type: ignore[arg-type]
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
