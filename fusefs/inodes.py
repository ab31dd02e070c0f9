"""Inode numbers: which stands for what, and how often the kernel has it.

======================  =====================================================================
numbers                 stand for
======================  =====================================================================
1, 2, 3                 the root, ``blobs``, ``ingest``
16, 17, …               the folders of the algorithms
2**32, 2**32 + 1, …     ingests, by a counter: no number is given twice
2**62 and above         blobs, computed from the digest, so that a number is the same again after
                        the kernel has forgotten it
======================  =====================================================================

The kernel counts one lookup for each entry that a reply has given it, and says how many it lets
go of with FORGET (fuse_lowlevel.h, ``forget``).  Forgets come late, or never; nothing but memory
depends on them.  All of this runs on the event loop, and none of it waits.
"""

from __future__ import annotations

from typing import Final

from store import Digest

__all__ = ["BLOBS", "FIRST_ALGORITHM", "FIRST_INGEST", "INGEST", "ROOT", "BlobInodes", "is_blob"]

ROOT: Final = 1
BLOBS: Final = 2
INGEST: Final = 3
FIRST_ALGORITHM: Final = 16
FIRST_INGEST: Final = 1 << 32
_FIRST_BLOB: Final = 1 << 62
_BLOB_MASK: Final = _FIRST_BLOB - 1


def is_blob(inode: int) -> bool:
    """Whether a number stands for a blob."""
    return inode >= _FIRST_BLOB


class BlobInodes:
    """The numbers of the blobs that the kernel knows.  About 180 bytes each."""

    __slots__ = ("_algorithms", "_keys", "_more")

    def __init__(self) -> None:
        # A key is the algorithm's place in `_algorithms`, in one byte, and the raw digest.
        self._algorithms: list[str] = []
        self._keys: dict[int, bytes] = {}
        # Invariant: the lookups of a number are 1 + `_more`, if it is in `_keys`.
        self._more: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, number: int) -> bool:
        return number in self._keys

    def digests(self) -> list[Digest]:
        """All blobs that the kernel knows."""
        return [digest for number in self._keys if (digest := self.digest(number)) is not None]

    def key(self, digest: Digest) -> bytes:
        """What the table has in a digest's place."""
        return self.prefix(digest.algorithm) + bytes.fromhex(digest.hex)

    def prefix(self, algorithm: str) -> bytes:
        """How the keys of an algorithm's digests begin; the raw digest follows."""
        if algorithm not in self._algorithms:
            self._algorithms.append(algorithm)
        return bytes((self._algorithms.index(algorithm),))

    def number(self, key: bytes) -> int:
        """The number of a blob; nothing is counted."""
        # The hash of bytes is keyed anew in each process, so nobody can make digests that collide.
        number = hash(key) & _BLOB_MASK | _FIRST_BLOB
        while self._keys.get(number, key) != key:
            number = (number + 1) & _BLOB_MASK | _FIRST_BLOB
        return number

    def count(self, key: bytes) -> int:
        """The kernel is given the blob in a reply; its number."""
        # Most are new, and come by the thousand.
        known = len(self._keys)
        number = hash(key) & _BLOB_MASK | _FIRST_BLOB
        self._keys.setdefault(number, key)
        if len(self._keys) > known:
            return number
        number = self.number(key)
        if number in self._keys:
            self._more[number] = self._more.get(number, 0) + 1
        else:
            self._keys[number] = key
        return number

    def forget(self, number: int, lookups: int) -> None:
        """The kernel lets go of so many lookups.  A number that is not known is passed over."""
        left = self._more.pop(number, 0) + 1 - lookups
        if left <= 0:
            self._keys.pop(number, None)
        elif left > 1:
            self._more[number] = left - 1

    def digest(self, number: int) -> Digest | None:
        """The blob that a number stands for, if the kernel was given it."""
        key = self._keys.get(number)
        return None if key is None else Digest(self._algorithms[key[0]], key[1:].hex())
