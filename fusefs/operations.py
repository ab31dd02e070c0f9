"""The FUSE handlers: decode the request, call the view, encode the answer.

A handler decides nothing but which part of the tree it is about.  Whatever it raises, its caller
gets an errno (`fusefs.errors.answering`); nothing else may leave it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    FUSEError,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from fusefs.attributes import Look
from fusefs.blobs import BlobView, stat_or_root
from fusefs.errors import answering
from fusefs.files import OpenFiles
from fusefs.ingests import IngestView
from fusefs.inodes import BLOBS, INGEST, ROOT, is_blob
from fusefs.listing import Listing, StaticListing
from fusefs.offload import in_thread
from fusefs.plain import PlainOperations
from fusefs.reading import FileReader
from fusefs.xattrs import IngestXattrs, blob_xattr, refuse_on_blob

if TYPE_CHECKING:
    from store import Store

__all__ = ["ContentOperations"]

_log = logging.getLogger(__name__)

_NAME_MAX: Final = 255
_STATIC: Final = {b"blobs": BLOBS, b"ingest": INGEST}


class ContentOperations(PlainOperations):
    """A store as a file system."""

    supports_dot_lookup = False

    def __init__(  # noqa: PLR0913 - the mount's options, by name
        self,
        store: Store,
        *,
        allow_delete: bool,
        read_only: bool,
        umask: int | None,
        uid: int | None,
        gid: int | None,
    ) -> None:
        """Show a store.

        Args:
            store: what to show.
            allow_delete: whether unlink deletes a blob.
            read_only: whether the mount is, which the kernel sees to.
            umask: the permission bits that nobody gets; default 022.
            uid: the owner of everything; default is the user who mounts.
            gid: the group of everything; default is that of the user who mounts.
        """
        super().__init__()
        self._store = store
        self._allow_delete = allow_delete
        self._read_only = read_only
        self._look = Look(umask=umask, uid=uid, gid=gid)
        self._blobs = BlobView(store, self._look)
        self._ingests = IngestView(store, self._look)
        self._xattrs = IngestXattrs(store, self._ingests)
        self._reader = FileReader()
        self._files = OpenFiles()
        self._folders: dict[int, Listing] = {}
        self._numbers = itertools.count(1)

    # ------------------------------------------------------------------------------------ looking

    @answering
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """LOOKUP."""
        if parent_inode == INGEST:
            return await self._ingests.lookup(name, ctx.pid)
        algorithm = self._blobs.algorithm(parent_inode)
        if algorithm is not None:
            return await self._blobs.lookup(algorithm, name)
        if parent_inode == ROOT and name in _STATIC:
            return self._folder_look(_STATIC[name])
        if parent_inode == BLOBS:
            wanted = os.fsdecode(name)
            if wanted in await self._blobs.algorithms():
                return self._blobs.algorithm_look(wanted)
        raise FUSEError(errno.ENOENT)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """FORGET: no answer, and no error may come of it, or the whole mount ends."""
        for inode, lookups in inode_list:
            try:
                nodes = self._blobs if is_blob(inode) else self._ingests.nodes
                nodes.forget(inode, lookups)
            except Exception:  # noqa: BLE001 - nobody is there to be told
                _log.exception("a fault in forget of inode %d", inode)

    @answering
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        """GETATTR."""
        return await self._getattr(inode)

    async def _getattr(self, inode: int) -> EntryAttributes:
        if is_blob(inode):
            return await self._blobs.getattr(inode)
        if self._is_folder(inode):
            return self._folder_look(inode)
        return await self._ingests.getattr(inode)

    def _is_folder(self, inode: int) -> bool:
        return inode in (ROOT, BLOBS, INGEST) or self._blobs.algorithm(inode) is not None

    def _folder_look(self, inode: int) -> EntryAttributes:
        algorithm = self._blobs.algorithm(inode)
        if algorithm is not None:
            return self._blobs.algorithm_look(algorithm)
        layout = self._store.layout
        path = {ROOT: layout.root, BLOBS: layout.blobs, INGEST: layout.ingests}[inode]
        writable = inode == INGEST and not self._read_only
        return self._look.directory(inode, stat_or_root(self._store, path), writable=writable)

    @answering
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        """ACCESS, where the kernel does not check by itself: what is offered, not who asks."""
        look = await self._getattr(inode)
        return not mode & ~(look.st_mode >> 6 | look.st_mode >> 3 | look.st_mode) & 0o7

    @answering
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """STATFS: that of the file system below."""
        found = await in_thread(os.statvfs, self._store.root)
        data = StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files",
                     "f_ffree", "f_favail"):  # fmt: skip
            setattr(data, name, getattr(found, name))
        data.f_namemax = _NAME_MAX
        return data

    # ------------------------------------------------------------------------------------ folders

    @answering
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        """OPENDIR."""
        return self._keep_folder(await self._listing(inode))

    async def _listing(self, inode: int) -> Listing:
        algorithm = self._blobs.algorithm(inode)
        if algorithm is not None:
            return self._blobs.list(algorithm)
        if inode == INGEST:
            return self._ingests.list()
        if inode == BLOBS:
            names = await self._blobs.algorithms()
            return StaticListing([(n.encode(), self._blobs.algorithm_look(n)) for n in names])
        return StaticListing([(n, self._folder_look(i)) for n, i in _STATIC.items()])

    def _keep_folder(self, listing: Listing) -> int:
        number = next(self._numbers)
        self._folders[number] = listing
        return number

    @answering
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """READDIRPLUS."""
        await self._folders[fh].fill(start_id, token)

    @answering
    async def releasedir(self, fh: int) -> None:
        """RELEASEDIR."""
        del self._folders[fh]

    @answering
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """FSYNCDIR: what is committed is durable already, so this is about the ingests' names."""
        if not self._read_only:
            # A folder that is not there has no names yet.
            with contextlib.suppress(FileNotFoundError):
                await in_thread(self._store.ingests.sync)

    # -------------------------------------------------------------------------------------- files

    @answering
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """OPEN."""
        writing = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if is_blob(inode):
            if writing:
                raise FUSEError(errno.EPERM)
            return self._files.keep(self._blobs.open(inode))
        if writing:
            return self._files.keep(await self._ingests.open_to_write(inode, flags, ctx.pid))
        return self._files.keep(await self._ingests.open_to_read(inode))

    @answering
    async def create(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        flags: int,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        """CREATE."""
        self._must_be_ingest(parent_inode)
        handle, look = await self._ingests.create(name, flags, ctx.pid)
        return self._files.keep(handle), look

    @answering
    async def mknod(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        rdev: int,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """MKNOD: of a regular file, with which `tar --xattrs` begins; nothing else."""
        self._must_be_ingest(parent_inode)
        if not stat.S_ISREG(mode):
            raise FUSEError(errno.EPERM)
        return await self._ingests.make(name, ctx.pid)

    @staticmethod
    def _must_be_ingest(inode: int) -> None:
        if inode != INGEST:
            raise FUSEError(errno.EPERM)

    @answering
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """READ."""
        # pyfuse3 takes any buffer, and says bytes in its stubs.
        return cast("bytes", await self._files[fh].read(self._reader, off, size))

    @answering
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """WRITE."""
        return await self._files.writer(fh).write(off, buf)

    @answering
    async def flush(self, fh: int) -> None:
        """FLUSH, at each close of a descriptor."""
        await self._files[fh].flush()

    @answering
    async def fsync(self, fh: int, datasync: bool) -> None:
        """FSYNC."""
        await self._files[fh].sync()

    @answering
    async def release(self, fh: int) -> None:
        """RELEASE, after the last close."""
        await self._files.release(fh)
        self._ingests.let_go()

    # ----------------------------------------------------------------------------------- changing

    @answering
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """SETATTR: the size of an ingest; its mode, times and own owner without effect.

        The same for their folder: `cp -a`, `rsync -a` and copytree give it those of theirs.
        """
        if is_blob(inode) or (inode != INGEST and self._is_folder(inode)):
            raise FUSEError(errno.EPERM)
        strange_uid = fields.update_uid and attr.st_uid != self._look.uid
        strange_gid = fields.update_gid and attr.st_gid != self._look.gid
        if (strange_uid or strange_gid) and ctx.uid != 0:
            raise FUSEError(errno.EPERM)
        if fields.update_size:
            if fh is not None:
                await self._files.writer(fh).truncate(attr.st_size)
            else:
                await self._ingests.truncate(inode, attr.st_size, ctx.pid)
        return await self._getattr(inode)

    @answering
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        """UNLINK: aborts an ingest; deletes a blob where that is allowed."""
        if parent_inode == INGEST:
            await self._ingests.unlink(name, ctx.pid)
            return
        algorithm = self._blobs.algorithm(parent_inode)
        if algorithm is None or not self._allow_delete:
            raise FUSEError(errno.EPERM)
        await self._blobs.delete(algorithm, name)

    @answering
    async def rename(  # noqa: PLR0913, PLR0917
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        """RENAME, inside ``ingest/`` alone."""
        if parent_inode_old != parent_inode_new:
            raise FUSEError(errno.EXDEV)
        self._must_be_ingest(parent_inode_old)
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise FUSEError(errno.EINVAL)
        replace = not flags & pyfuse3.RENAME_NOREPLACE
        await self._ingests.rename(name_old, name_new, replace=replace, pid=ctx.pid)

    @answering
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        """LINK: never."""
        same = not is_blob(inode) and new_parent_inode == INGEST
        same = same or (is_blob(inode) and self._blobs.algorithm(new_parent_inode) is not None)
        raise FUSEError(errno.EPERM if same else errno.EXDEV)

    # ------------------------------------------------------------------------ extended attributes

    @answering
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        """GETXATTR."""
        if is_blob(inode):
            return blob_xattr(name, self._blobs.digest(inode))
        if self._is_folder(inode):
            raise FUSEError(errno.EOPNOTSUPP)
        return await self._xattrs.get(inode, name)

    @answering
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        """LISTXATTR."""
        if is_blob(inode) or self._is_folder(inode):
            return []
        return await self._xattrs.names(inode)

    @answering
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        """SETXATTR."""
        if is_blob(inode) or self._is_folder(inode):
            raise refuse_on_blob(name)
        await self._xattrs.set(inode, name, value, ctx.pid)

    @answering
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        """REMOVEXATTR."""
        if is_blob(inode) or self._is_folder(inode):
            raise refuse_on_blob(name)
        await self._xattrs.remove(inode, name, ctx.pid)

    # ------------------------------------------------------------------------------------- ending

    async def watch(self) -> None:
        """Follow what happens to the store behind the mount, until cancelled."""
        try:
            await self._blobs.watch()
        except Exception:  # noqa: BLE001 - the mount does without, and lives on
            _log.exception("a fault in watching the blobs")

    async def drain(self) -> None:
        """Finish every handle whose RELEASE never came: the kernel drops them at umount."""
        await self._files.drain()
