"""Folders as they are read: in batches, so that a million entries take no more than a hundred."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Generic, TypeVar

import pyfuse3
from pyfuse3 import EntryAttributes, ReaddirToken

__all__ = ["Listing", "ShortListing", "StaticListing", "cookie_of", "place_after"]

# 0 means the beginning, and NFS has its own use for 1 and 2.
_FIRST_COOKIE: Final = 3

_Entry = TypeVar("_Entry")


def cookie_of(place: int) -> int:
    """The cookie of the entry at a place."""
    return place + _FIRST_COOKIE


def place_after(cookie: int) -> int:
    """The place after the entry of a cookie; the first for the cookie 0."""
    return cookie - _FIRST_COOKIE + 1 if cookie else 0


class Listing(ABC):
    """An open folder."""

    @abstractmethod
    async def fill(self, last: int, token: ReaddirToken) -> None:
        """Answer one READDIRPLUS: as many entries as fit, after the one whose cookie is ``last``.

        The kernel counts a lookup for each entry that it was given, but for none at all when the
        reply is an error, so nothing may be awaited between the first entry and the reply.
        """


class ShortListing(Listing, Generic[_Entry]):
    """An open folder whose entries are all at hand once it is read from its beginning."""

    async def fill(self, last: int, token: ReaddirToken) -> None:
        """Answer one READDIRPLUS."""
        place = place_after(last)
        for cookie, entry in enumerate(await self.entries(place), cookie_of(place)):
            name, look = self.show(entry)
            if not pyfuse3.readdir_reply(token, name, look, cookie):
                return
            self.given(entry)

    @abstractmethod
    async def entries(self, place: int) -> Sequence[_Entry]:
        """The entries from the ``place``-th on.  Place 0 reads anew."""

    @abstractmethod
    def show(self, entry: _Entry) -> tuple[bytes, EntryAttributes]:
        """An entry's name and attributes."""

    @abstractmethod
    def given(self, entry: _Entry) -> None:
        """The kernel has been given the entry, which counts as a lookup."""


class StaticListing(ShortListing[tuple[bytes, EntryAttributes]]):
    """A folder of a few folders, which need no counting."""

    def __init__(self, entries: Sequence[tuple[bytes, EntryAttributes]]) -> None:
        self._entries = entries

    async def entries(self, place: int) -> Sequence[tuple[bytes, EntryAttributes]]:
        """The entries from the ``place``-th on."""
        return self._entries[place:]

    def show(self, entry: tuple[bytes, EntryAttributes]) -> tuple[bytes, EntryAttributes]:
        """The entry itself."""
        return entry

    def given(self, entry: tuple[bytes, EntryAttributes]) -> None:
        """Folders are never forgotten."""
