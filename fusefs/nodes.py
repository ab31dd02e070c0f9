"""Ingests as the kernel knows them: one node for each inode number that it was given."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from pyfuse3 import FUSEError

from fusefs.inodes import FIRST_INGEST
from fusefs.late import LateNames

if TYPE_CHECKING:
    from fusefs.writing import OpenIngest
    from store import Digest, Ref

__all__ = ["ABORTED", "COMMITTED", "LIVE", "IngestNode", "IngestNodes"]

LIVE: Final = "live"
COMMITTED: Final = "committed"
ABORTED: Final = "aborted"


class IngestNode:
    """An ingest, or what became of it, for as long as the kernel or a client has it.

    Attributes:
        inode: its number.
        ref: its key.
        data: device and inode of its data in the store: another file is another node.
        lookups: how often the kernel has it.
        state: `LIVE`, `COMMITTED` or `ABORTED`.
        writer: the one handle that is open for writing in this mount.
        readers: the descriptors that are open for reading.
        processes: who may see it after the commit.
        digest: the blob that it became.
        found: that blob's stat.
    """

    __slots__ = ("data", "digest", "found", "inode", "lookups", "processes", "readers", "ref",
                 "state", "writer")  # fmt: skip

    def __init__(self, inode: int, ref: Ref, found: os.stat_result) -> None:
        self.inode = inode
        self.ref = ref
        self.data = (found.st_dev, found.st_ino)
        self.lookups = 0
        self.state = LIVE
        self.writer: OpenIngest | None = None
        self.readers: list[int] = []
        self.processes: set[int] = set()
        self.digest: Digest | None = None
        self.found: os.stat_result | None = None


class IngestNodes:
    """All nodes, by number, and the live ones by ref.

    Attributes:
        late: the refs that were committed a moment ago.
    """

    def __init__(self) -> None:
        self._next = FIRST_INGEST
        self._by_inode: dict[int, IngestNode] = {}
        # Invariant: a node here is `LIVE`, and has this ref.
        self._by_ref: dict[Ref, IngestNode] = {}
        self.late: LateNames[IngestNode] = LateNames()

    def __len__(self) -> int:
        return len(self._by_inode)

    def at(self, inode: int) -> IngestNode:
        """The node of a number.

        Raises:
            FUSEError: ESTALE; the kernel then looks the name up again by itself.
        """
        node = self._by_inode.get(inode)
        if node is None:
            raise FUSEError(errno.ESTALE)
        return node

    def live_at(self, inode: int) -> IngestNode:
        """The node of a number, if it is still an ingest: its ref may have become another's.

        Raises:
            FUSEError: ESTALE.
        """
        node = self.at(inode)
        if node.state != LIVE:
            raise FUSEError(errno.ESTALE)
        return node

    def of(self, ref: Ref) -> IngestNode | None:
        """The live node of a ref, if the kernel has one."""
        return self._by_ref.get(ref)

    def live(self, ref: Ref, found: os.stat_result) -> IngestNode:
        """The node of an ingest that is there, made if need be.  The lookup is not counted."""
        node = self._by_ref.get(ref)
        if node is not None:
            if node.data == (found.st_dev, found.st_ino):
                return node
            if node.writer is not None:
                # The writer has put its data into a new file, which is still this ingest.
                node.data = (found.st_dev, found.st_ino)
                return node
            self.aborted(ref)
        node = IngestNode(self._next, ref, found)
        self._next += 1
        self._by_inode[node.inode] = node
        self._by_ref[ref] = node
        self.late.drop(ref)
        return node

    def again(self, node: IngestNode) -> None:
        """A late name is found once more; the kernel may have forgotten its node meanwhile."""
        self._by_inode[node.inode] = node

    def forget(self, inode: int, lookups: int) -> None:
        """The kernel lets go of a node."""
        node = self._by_inode.get(inode)
        if node is None:
            return
        node.lookups -= lookups
        if node.lookups <= 0 and node.writer is None:
            del self._by_inode[inode]
            if self._by_ref.get(node.ref) is node:
                del self._by_ref[node.ref]

    def committed(self, node: IngestNode, digest: Digest, found: os.stat_result) -> None:
        """An ingest has become a blob."""
        node.state = COMMITTED
        node.digest = digest
        node.found = found
        if self._by_ref.get(node.ref) is node:
            del self._by_ref[node.ref]
        self.late.add(node.ref, node)

    def aborted(self, ref: Ref) -> None:
        """What stood under a ref is gone; who has it open may read on."""
        node = self._by_ref.pop(ref, None)
        if node is not None:
            node.state = ABORTED

    def renamed(self, old: Ref, new: Ref) -> None:
        """An ingest has another ref, and what stood under that is gone."""
        self.aborted(new)
        self.late.drop(new)
        node = self._by_ref.pop(old, None)
        if node is not None:
            node.ref = new
            self._by_ref[new] = node
