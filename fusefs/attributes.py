"""How the view's files look: modes, owners, sizes, times, and how long the kernel may believe it.

The kernel-cache policy (docs/design.md has the reasons):

==================  ==============  ==============  ============================================
what                entry, seconds  attr, seconds   why
==================  ==============  ==============  ============================================
static folders      300             0.9             they never go; their times may change
a blob              300             300             as long as it is there it never changes, and
                                                    the kernel is told when it goes
                                                    (`fusefs.watching`); 0.9 where it cannot be
an ingest           0               0               it grows, and goes at its commit
==================  ==============  ==============  ============================================
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final

from pyfuse3 import EntryAttributes

__all__ = ["Look"]

_UMASK: Final = 0o022
_LONG: Final = 300.0
_SECOND: Final = 0.9
_IO_SIZE: Final = 4096
# What cp(1) takes for the size of its writes, and opendir(3) for its buffer.  Not for blobs:
# who reads here and there would read as much each time.  And a larger write keeps the event loop,
# and so all other clients, for longer.
_INGEST_IO_SIZE: Final = 256 * 1024
_FOLDER_IO_SIZE: Final = 1024 * 1024


class Look:
    """Makes the attributes of the view's nodes.

    Attributes:
        uid: who owns everything.
        gid: whose group owns everything.
    """

    __slots__ = ("_directory_mode", "_ingest_mode", "_mask", "gid", "uid")

    def __init__(self, *, umask: int | None, uid: int | None, gid: int | None) -> None:
        """Set what all have in common.

        Args:
            umask: the permission bits that nobody gets; default 022.
            uid: the owner; default is the user who mounts.
            gid: the group; default is that of the user who mounts.
        """
        self.uid = os.getuid() if uid is None else uid
        self.gid = os.getgid() if gid is None else gid
        self._mask = ~(_UMASK if umask is None else umask)
        self._directory_mode = stat.S_IFDIR | 0o777 & self._mask
        self._ingest_mode = stat.S_IFREG | 0o666 & self._mask

    def directory(self, inode: int, found: os.stat_result, *, writable: bool) -> EntryAttributes:
        """A folder; ``found`` is the one in the store that it stands for."""
        look = self._new(inode)
        look.entry_timeout = _LONG
        look.attr_timeout = _SECOND
        look.st_mode = self._directory_mode if writable else self._directory_mode & ~0o222
        look.st_nlink = 2
        look.st_blksize = _FOLDER_IO_SIZE
        self._set_times(look, found)
        return look

    def blob(self, inode: int, found: os.stat_result, *, lasting: bool) -> EntryAttributes:
        """A blob; ``lasting`` where the kernel is told when it goes."""
        make = self.shared_blob()
        return make(
            inode, lasting, found.st_mode, found.st_size, found.st_blocks, found.st_mtime_ns
        )

    def shared_blob(self) -> Callable[[int, bool, int, int, int, int], EntryAttributes]:
        """A maker of blobs' attributes, in one object that its next call changes: for listings.

        It takes what `blob` does, but of the stat only the mode, size, blocks and mtime in ns.
        """
        look = self._new(0)
        look.attr_timeout = _LONG
        mask = stat.S_IFREG | 0o444 & self._mask
        regular = stat.S_IFREG

        def make(  # noqa: PLR0913, PLR0917 - called a million times
            inode: int,
            lasting: bool,  # noqa: FBT001
            mode: int,
            size: int,
            blocks: int,
            mtime_ns: int,
        ) -> EntryAttributes:
            look.st_ino = inode
            look.entry_timeout = _LONG if lasting else _SECOND
            look.st_mode = mode & mask | regular
            look.st_size = size
            look.st_blocks = blocks
            look.st_atime_ns = look.st_mtime_ns = look.st_ctime_ns = mtime_ns
            return look

        return make

    def ingest(self, inode: int, found: os.stat_result) -> EntryAttributes:
        """An ingest."""
        look = self._new(inode)
        look.entry_timeout = 0
        look.attr_timeout = 0
        look.st_mode = self._ingest_mode
        look.st_blksize = _INGEST_IO_SIZE
        self._set_size(look, found.st_size, found.st_blocks)
        self._set_times(look, found)
        return look

    def finished(self, inode: int, found: os.stat_result) -> EntryAttributes:
        """An ingest that has become a blob, for who still has it open or may still see it."""
        look = self.blob(inode, found, lasting=False)
        look.entry_timeout = 0
        look.attr_timeout = 0
        return look

    def _new(self, inode: int) -> EntryAttributes:
        look = EntryAttributes()
        look.st_ino = inode
        look.generation = 0
        look.st_uid = self.uid
        look.st_gid = self.gid
        look.st_nlink = 1
        look.st_blksize = _IO_SIZE
        return look

    @staticmethod
    def _set_size(look: EntryAttributes, size: int, blocks: int) -> None:
        look.st_size = size
        look.st_blocks = blocks

    @staticmethod
    def _set_times(look: EntryAttributes, found: os.stat_result) -> None:
        # One time for all three: the kernel drops its pages when an mtime differs, and a blob's
        # ctime changes with its links, which is not the reader's affair.
        look.st_atime_ns = look.st_mtime_ns = look.st_ctime_ns = found.st_mtime_ns
