"""The folder of an algorithm's blobs, as it is read."""

from __future__ import annotations

import binascii
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import pyfuse3
import trio

from fusefs.listing import Listing, cookie_of, place_after
from fusefs.offload import in_background, in_thread
from store import algorithms
from store.digest import hex_length

if TYPE_CHECKING:
    from pyfuse3 import ReaddirToken

    from fusefs.attributes import Look
    from fusefs.inodes import BlobInodes
    from fusefs.watching import BlobWatch
    from store import Store

__all__ = ["BlobListing"]

# Stats of so many entries take a thread about two milliseconds, and the loop as long to reply.
_BATCH: Final = 512

# A blob: its name, its key in the table of inodes, its mode, size, blocks, and mtime in ns.
# Not its stat, which is six times as large: a batch is to stay in the processor's cache.
_Entry = tuple[bytes, bytes, int, int, int, int]


class _Batch:
    """Some entries in a row.

    Attributes:
        start: the place of the first.
        departures: how many blobs had gone before they were read; None where nobody counts.
        entries: they themselves, once `ready` is set.
        failure: or why there are none.
        ready: set when the folder has been read so far.
    """

    __slots__ = ("departures", "entries", "failure", "ready", "start")

    def __init__(self, start: int, departures: int | None) -> None:
        self.start = start
        self.departures = departures
        self.entries: Sequence[_Entry] = ()
        self.failure: Exception | None = None
        self.ready = trio.Event()

    @property
    def end(self) -> int:
        """The place after the last."""
        return self.start + len(self.entries)


class BlobListing(Listing):
    """The blobs of one algorithm, in whatever order the disk has them.

    What is done for each of a million entries is done here with the least that will do: no
    `Digest`, and one object for all attributes, which pyfuse3 copies into its reply.  While the
    kernel and the client are busy with a batch a thread reads the next one.
    """

    def __init__(
        self, algorithm: str, store: Store, look: Look, inodes: BlobInodes, watch: BlobWatch
    ) -> None:
        self._algorithm = algorithm
        self._store = store
        self._inodes = inodes
        self._watch = watch
        self._prefix = inodes.prefix(algorithm)
        self._shared = look.shared_blob()
        self._entries: Iterator[_Entry] = iter(())
        # The batch at hand, and the one that is being read.
        self._batch: _Batch | None = None
        self._next: _Batch | None = None

    async def fill(self, last: int, token: ReaddirToken) -> None:
        """Answer one READDIRPLUS."""
        place = place_after(last)
        batch = await self._at(place)
        lasting = batch.departures == self._watch.departures
        # All lookups of names that can be made once are.
        show, count, reply = self._shared, self._inodes.count, pyfuse3.readdir_reply
        cookie = cookie_of(place)
        entries = islice(batch.entries, place - batch.start, None)
        for name, key, mode, size, blocks, mtime_ns in entries:
            number = count(key)
            look = show(number, lasting, mode, size, blocks, mtime_ns)
            if not reply(token, name, look, cookie):
                self._inodes.forget(number, 1)
                return
            cookie += 1

    async def _at(self, place: int) -> _Batch:
        """The batch with the ``place``-th blob; an empty one at the end.

        The kernel goes forward, and back by the entries that did not fit; a seekdir(3) to anywhere
        else reads the folder from its beginning.
        """
        batch = self._batch
        if batch is not None and place > 0 and batch.start <= place < batch.end:
            return batch
        ahead = self._next
        if place == 0 or batch is None or ahead is None or place != ahead.start:
            self._entries = _scan(self._store, self._algorithm, self._prefix)
            ahead = self._read(place, skip=place)
        await ahead.ready.wait()
        if ahead.failure is not None:
            raise ahead.failure
        self._batch = ahead
        # At the end there is nothing left to read, but to say so takes a thread as well.
        self._next = self._read(ahead.end) if ahead.entries else None
        return ahead

    def _read(self, start: int, *, skip: int = 0) -> _Batch:
        covered = self._watch.covers(self._algorithm)
        batch = _Batch(start, self._watch.departures if covered else None)
        in_background(self._fetch, batch, islice(self._entries, skip, skip + _BATCH))
        return batch

    @staticmethod
    async def _fetch(batch: _Batch, entries: Iterator[_Entry]) -> None:
        try:
            batch.entries = await in_thread(list, entries)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits raises it
            batch.failure = error
        finally:
            batch.ready.set()


def _scan(store: Store, algorithm: str, prefix: bytes) -> Iterator[_Entry]:
    # No method: a listing and its own generator would keep each other, and the folder open.
    if algorithm not in algorithms():
        return
    length = hex_length(algorithm)
    for entry in store.blobs.scan(algorithm):
        try:
            name = entry.name.encode()
            raw = binascii.unhexlify(name)
        except ValueError:
            continue
        if len(name) != length or binascii.hexlify(raw) != name:
            continue
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(found.st_mode):
            yield (name, prefix + raw, found.st_mode,
                   found.st_size, found.st_blocks, found.st_mtime_ns)  # fmt: skip
