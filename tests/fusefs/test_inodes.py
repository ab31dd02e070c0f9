"""Lookup counts: a number stands for its blob for as long as the kernel has it, and no longer."""

from __future__ import annotations

from fusefs.inodes import BlobInodes
from store import Digest


def test_a_blob_is_known_until_each_lookup_is_forgotten() -> None:
    """Whether it was looked up by name or listed, by the same key or an equal one."""
    inodes = BlobInodes()
    digest = Digest.of(b"content")
    key = inodes.key(digest)
    number = inodes.count(key)
    assert inodes.count(key) == inodes.count(inodes.key(digest)) == number
    inodes.forget(number, 2)
    assert inodes.digest(number) == digest
    inodes.forget(number, 1)
    assert inodes.digest(number) is None
    assert len(inodes) == 0
    assert inodes.count(key) == number
    assert inodes.digest(number) == digest


def test_every_blob_has_a_number_of_its_own() -> None:
    """And the same one again after it was forgotten."""
    inodes = BlobInodes()
    digests = [Digest.of(b"%d" % i) for i in range(1000)]
    numbers = [inodes.count(inodes.key(digest)) for digest in digests]
    assert len(set(numbers)) == len(digests)
    assert [inodes.digest(number) for number in numbers] == digests
    for number in numbers:
        inodes.forget(number, 1)
    assert [inodes.count(inodes.key(digest)) for digest in digests] == numbers
