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
import select
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pyfuse3
import trio
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
from fusefs.blobs import BlobView, OpenBlob, stat_or_root
from fusefs.errors import answering
from fusefs.ingests import IngestView
from fusefs.inodes import BLOBS, INGEST, ROOT, is_blob
from fusefs.listing import Listing, StaticListing
from fusefs.nodes import IngestNode
from fusefs.offload import in_thread
from fusefs.reading import FileReader
from fusefs.writing import OpenIngest
from fusefs.xattrs import IngestXattrs, blob_xattr, refuse_on_blob

if TYPE_CHECKING:
    from store import Store

__all__ = ["ContentOperations"]

_log = logging.getLogger(__name__)

_NAME_MAX: Final = 255
_CLOSING: Final = 16
_STATIC: Final = {b"blobs": BLOBS, b"ingest": INGEST}


class _OpenBlob:
    __slots__ = ("blob", "inode")

    def __init__(self, inode: int, blob: OpenBlob) -> None:
        self.inode = inode
        self.blob = blob


class _IngestReader:
    __slots__ = ("fd", "node")

    def __init__(self, node: IngestNode, fd: int) -> None:
        self.node = node
        self.fd = fd


class ContentOperations(pyfuse3.Operations):
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
        # Our own numbers: a descriptor's would be given out again while its close is under way.
        self._numbers = itertools.count(1)
        self._files: dict[int, _OpenBlob | _IngestReader | OpenIngest] = {}
        self._folders: dict[int, Listing[Any]] = {}
        # Not more, or calls that somebody waits for would not get a thread.
        self._closing = trio.Semaphore(_CLOSING)

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

    async def _listing(self, inode: int) -> Listing[Any]:
        algorithm = self._blobs.algorithm(inode)
        if algorithm is not None:
            return self._blobs.list(algorithm)
        if inode == INGEST:
            return self._ingests.list()
        if inode == BLOBS:
            names = await self._blobs.algorithms()
            return StaticListing([(n.encode(), self._blobs.algorithm_look(n)) for n in names])
        return StaticListing([(n, self._folder_look(i)) for n, i in _STATIC.items()])

    def _keep_folder(self, listing: Listing[Any]) -> int:
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
            return self._keep_file(_OpenBlob(inode, self._blobs.open(inode)))
        if writing:
            return self._keep_file(await self._ingests.open_to_write(inode, flags, ctx.pid))
        return self._keep_file(_IngestReader(*await self._ingests.open_to_read(inode)))

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
        return self._keep_file(handle), look

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

    def _keep_file(self, file: _OpenBlob | _IngestReader | OpenIngest) -> FileInfo:
        number = next(self._numbers)
        self._files[number] = file
        # direct_io for writers: no GETXATTR before each WRITE, and no shared writable mmap.
        # A blob's pages stay good for ever; an ingest's are dropped at each open.
        writing, blob = isinstance(file, OpenIngest), isinstance(file, _OpenBlob)
        return FileInfo(fh=number, direct_io=writing, keep_cache=blob)

    @answering
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """READ."""
        file = self._files[fh]
        if isinstance(file, _OpenBlob):
            data = await self._reader.read(file.blob.fd, off, size, file.blob.size)
        elif isinstance(file, _IngestReader):
            now = os.fstat(file.fd).st_size
            data = await self._reader.read(file.fd, off, size, now)
        else:
            data = await file.read(self._reader, off, size)
        # pyfuse3 takes any buffer, and says bytes in its stubs.
        return data  # type: ignore[return-value]

    @answering
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """WRITE."""
        return await self._writer(fh).write(off, buf)

    def _writer(self, fh: int) -> OpenIngest:
        file = self._files[fh]
        if not isinstance(file, OpenIngest):
            raise FUSEError(errno.EBADF)
        return file

    @answering
    async def flush(self, fh: int) -> None:
        """FLUSH, at each close of a descriptor; only a writer's carries a verdict."""
        file = self._files[fh]
        if isinstance(file, OpenIngest):
            await file.flush()

    @answering
    async def fsync(self, fh: int, datasync: bool) -> None:
        """FSYNC."""
        file = self._files[fh]
        if isinstance(file, OpenIngest):
            await file.sync()

    @answering
    async def release(self, fh: int) -> None:
        """RELEASE, after the last close.

        A writer's is answered before its work is done: no more than twelve are under way at a
        time, and an open that follows a close, and waits for its work, must not have to wait for
        the work of others before we even know that it was the last.
        """
        file = self._files[fh]
        if isinstance(file, OpenIngest):
            file.releasing = True
            if not file.is_blob:
                trio.lowlevel.spawn_system_task(self._put_down, fh)
                return
        await self._release(fh)
        self._ingests.let_go()

    async def _put_down(self, fh: int) -> None:
        with contextlib.suppress(FUSEError):
            async with self._closing:
                await answering(self._release)(fh)

    async def _release(self, fh: int) -> None:
        file = self._files.get(fh)
        if file is None:
            return
        if isinstance(file, OpenIngest):
            await file.release()
            self._files.pop(fh, None)
            return
        del self._files[fh]
        if isinstance(file, _OpenBlob):
            self._blobs.close(file.inode, file.blob)
        else:
            self._ingests.close_reader(file.node, file.fd)

    @answering
    async def poll(self, inode: int, fh: int, poll_handle: Any, ctx: RequestContext) -> int:
        """POLL: as any regular file, always ready."""
        return select.POLLIN | select.POLLOUT

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
                await self._writer(fh).truncate(attr.st_size)
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
        for fh in list(self._files):
            with contextlib.suppress(FUSEError):
                await self._release(fh)
