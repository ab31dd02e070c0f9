"""Folders as they are read: in batches, so that a million entries take no more than a hundred."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

import pyfuse3
from pyfuse3 import EntryAttributes, ReaddirToken

__all__ = ["Listing", "StaticListing"]

# An entry's cookie is its place + 3: 0 means the beginning, and NFS has its own use for 1 and 2.
_FIRST_COOKIE: Final = 3

_Entry = TypeVar("_Entry")


class Listing(ABC, Generic[_Entry]):
    """An open folder."""

    async def fill(self, cookie: int, token: ReaddirToken) -> None:
        """Answer one READDIRPLUS: entries from ``cookie`` on, as many as fit.

        The kernel counts a lookup for each entry that it was given, but for none at all when the
        reply is an error, so nothing is awaited between the first entry and the reply.
        """
        place = cookie - _FIRST_COOKIE + 1 if cookie else 0
        for entry in await self.batch(place):
            name, look = self.show(entry)
            if not pyfuse3.readdir_reply(token, name, look, place + _FIRST_COOKIE):
                return
            self.given(entry)
            place += 1

    @abstractmethod
    async def batch(self, place: int) -> Sequence[_Entry]:
        """Some entries from the ``place``-th on; none at the end.  Place 0 reads anew."""

    @abstractmethod
    def show(self, entry: _Entry) -> tuple[bytes, EntryAttributes]:
        """An entry's name and attributes."""

    @abstractmethod
    def given(self, entry: _Entry) -> None:
        """The kernel has been given the entry, which counts as a lookup."""


class StaticListing(Listing[tuple[bytes, EntryAttributes]]):
    """A folder of a few folders, which need no counting."""

    def __init__(self, entries: Sequence[tuple[bytes, EntryAttributes]]) -> None:
        self._entries = entries

    async def batch(self, place: int) -> Sequence[tuple[bytes, EntryAttributes]]:
        """The entries from the ``place``-th on."""
        return self._entries[place:]

    def show(self, entry: tuple[bytes, EntryAttributes]) -> tuple[bytes, EntryAttributes]:
        """The entry itself."""
        return entry

    def given(self, entry: tuple[bytes, EntryAttributes]) -> None:
        """Folders are never forgotten."""
