"""The handlers that are the same for every view of a store, whatever it shows."""

from __future__ import annotations

import errno
import select
from typing import Any

import pyfuse3
from pyfuse3 import EntryAttributes, FUSEError, RequestContext

from fusefs.errors import answering

__all__ = ["PlainOperations"]


class PlainOperations(pyfuse3.Operations):
    """A file system without symlinks, and without folders of anybody's making.

    The base class would answer ENOSYS, after which the kernel never asks again.
    """

    @answering
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """SYMLINK: never."""
        raise FUSEError(errno.EPERM)

    @answering
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKDIR: never."""
        raise FUSEError(errno.EPERM)

    @answering
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """RMDIR: never."""
        raise FUSEError(errno.EPERM)

    @answering
    async def poll(self, inode: int, fh: int, poll_handle: Any, ctx: RequestContext) -> int:
        """POLL: as any regular file, always ready."""
        return select.POLLIN | select.POLLOUT
