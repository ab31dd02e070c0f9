"""Operations that misbehave by name, in place of the real ones: see `Place.odd`."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat

import pyfuse3
import trio

from fusefs import serve
from fusefs.offload import in_thread

# Where a minute is too long for a test.
serve._STUCK_PATIENCE = float(os.environ.get("ODD_PATIENCE", "60"))

_FILE = pyfuse3.InodeT(2)


class ContentOperations(pyfuse3.Operations):
    """A folder of one file, `file`, found also under names that do something before.

    `crash` is a fault that leaves the handler, `stuck` is never answered, `thread` goes through a
    worker thread, and `gate` waits there for whoever opens and closes the fifo $ODD_GATE for
    writing. With $ODD_START the first answer of all waits for it. Who waits tells $ODD_NOTICES.
    """

    def __init__(self, store: object, **_: object) -> None:
        """Take what the real ones take."""
        super().__init__()
        self._gated = "ODD_START" in os.environ

    def init(self) -> None:
        """Start the clock that tells when nothing else had a turn."""
        trio.lowlevel.spawn_system_task(_tell_stalls)

    async def watch(self) -> None:
        """Nothing happens behind this mount."""

    async def drain(self) -> None:
        """Take as long as the environment says."""
        await trio.sleep(float(os.environ.get("ODD_DRAIN", "0")))
        logging.getLogger("odd").info("drained")

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Do what the name says."""
        if name == b"crash":
            raise KeyError("a fault\nin two lines")
        if name == b"gate":
            await in_thread(_pass_gate)
        elif name == b"stuck":
            _tell("stuck")
            await trio.sleep_forever()
        elif name == b"thread":
            await in_thread(os.getpid)
        elif name != b"file":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(_FILE, ctx)

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Answer at once, and have it forgotten at once."""
        if self._gated:
            self._gated = False
            await in_thread(_pass_gate)
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino = pyfuse3.InodeT(inode)
        attributes.st_mode = pyfuse3.ModeT(
            stat.S_IFREG | 0o644 if inode == _FILE else stat.S_IFDIR | 0o755
        )
        attributes.entry_timeout = attributes.attr_timeout = 0
        return attributes

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Open the file."""
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), direct_io=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        """It is empty."""
        return b""

    async def flush(self, fh: int) -> None:
        """Do nothing."""

    async def release(self, fh: int) -> None:
        """Do nothing."""

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Have nothing to tell."""
        return pyfuse3.StatvfsData()


async def _tell_stalls() -> None:
    last = trio.current_time()
    while True:
        await trio.sleep(0.01)
        if trio.current_time() - last > 0.2:
            logging.getLogger("odd").error("stalled for %.3f s", trio.current_time() - last)
        last = trio.current_time()


def _pass_gate() -> None:
    _tell("at the gate")
    with open(os.environ["ODD_GATE"], "rb") as gate:
        gate.read()


def _tell(what: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(what.encode(), os.environ["ODD_NOTICES"])
