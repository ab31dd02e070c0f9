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

    __slots__ = ("_algorithms", "_more", "_names")

    def __init__(self) -> None:
        # A name is the algorithm's place in `_algorithms`, in one byte, and the raw digest.
        self._algorithms: list[str] = []
        self._names: dict[int, bytes] = {}
        # Invariant: the lookups of a number are 1 + `_more`, if it is in `_names`.
        self._more: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def number(self, digest: Digest) -> int:
        """The number of a blob; nothing is counted."""
        return self._place(self._pack(digest))

    def count(self, digest: Digest) -> None:
        """The kernel was given the blob in a reply."""
        name = self._pack(digest)
        number = self._place(name)
        if number in self._names:
            self._more[number] = self._more.get(number, 0) + 1
        else:
            self._names[number] = name

    def forget(self, number: int, lookups: int) -> None:
        """The kernel lets go of so many lookups.  A number that is not known is passed over."""
        left = self._more.pop(number, 0) + 1 - lookups
        if left <= 0:
            self._names.pop(number, None)
        elif left > 1:
            self._more[number] = left - 1

    def digest(self, number: int) -> Digest | None:
        """The blob that a number stands for, if the kernel was given it."""
        name = self._names.get(number)
        return None if name is None else Digest(self._algorithms[name[0]], name[1:].hex())

    def _pack(self, digest: Digest) -> bytes:
        if digest.algorithm not in self._algorithms:
            self._algorithms.append(digest.algorithm)
        return bytes((self._algorithms.index(digest.algorithm),)) + bytes.fromhex(digest.hex)

    def _place(self, name: bytes) -> int:
        # The hash of bytes is keyed anew in each process, so nobody can make digests that collide.
        number = hash(name) & _BLOB_MASK | _FIRST_BLOB
        while self._names.get(number, name) != name:
            number = (number + 1) & _BLOB_MASK | _FIRST_BLOB
        return number
