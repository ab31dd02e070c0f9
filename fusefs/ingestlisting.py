"""The folder of ingests, as it is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyfuse3 import EntryAttributes

from fusefs.listing import ShortListing
from fusefs.offload import in_thread
from store import NotFound, Ref

if TYPE_CHECKING:
    from fusefs.attributes import Look
    from fusefs.nodes import IngestNodes
    from store import Store

__all__ = ["IngestListing"]


class IngestListing(ShortListing[tuple[Ref, os.stat_result]]):
    """The ingests, as they were when the folder was read from its beginning."""

    def __init__(self, store: Store, look: Look, nodes: IngestNodes) -> None:
        self._store = store
        self._look = look
        self._nodes = nodes
        self._entries: Sequence[tuple[Ref, os.stat_result]] = ()

    async def entries(self, place: int) -> Sequence[tuple[Ref, os.stat_result]]:
        """The ingests from the ``place``-th on."""
        if place == 0:
            self._entries = await in_thread(self._read)
        return self._entries[place:]

    def show(self, entry: tuple[Ref, os.stat_result]) -> tuple[bytes, EntryAttributes]:
        """An ingest's name and attributes."""
        ref, found = entry
        return ref.file_name, self._look.ingest(self._nodes.live(ref, found).inode, found)

    def given(self, entry: tuple[Ref, os.stat_result]) -> None:
        """Count the lookup."""
        self._nodes.live(*entry).lookups += 1

    def _read(self) -> Sequence[tuple[Ref, os.stat_result]]:
        found = []
        for ref in self._store.ingests.refs():
            try:
                found.append((ref, self._store.ingests.stat(ref)))
            except NotFound:
                continue
        return found
