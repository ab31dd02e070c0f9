"""Blobs: found, listed, opened, deleted."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from store import Digest, NotFound, Store, UnsupportedAlgorithm
from store.layout import Layout, is_ingest_folder_name
from tests.faults import Os, using
from tests.strategies import sha256

CONTENTS = [b"", b"a", b"b" * 5000, b"c" * 100_000]


@pytest.fixture
def full(store: Store) -> Store:
    """A store of a few blobs, in two algorithms."""
    for content in CONTENTS:
        put(store, content)
    with store.writer("r", expected=Digest.of(b"a", "sha512")) as writer:
        writer.write(b"a")
        writer.commit()
    return store


def put(store: Store, content: bytes) -> Digest:
    """Store a blob."""
    with store.writer("r") as writer:
        writer.write(content)
        return writer.commit()


def test_a_blob_is_a_read_only_file_of_its_time(store: Store) -> None:
    """Its mode is 0444 & ~umask, its time that of the commit, and it has one name."""
    before = time.time_ns()
    old = os.umask(0o027)
    try:
        info = store.info(put(store, b"x"))
    finally:
        os.umask(old)
    found = os.stat(store.path(info.digest))

    assert stat.S_IMODE(found.st_mode) == 0o440
    assert found.st_nlink == 1
    assert before <= found.st_mtime_ns == info.created_ns <= time.time_ns()


def test_listing(full: Store) -> None:
    """All blobs are listed, sorted by their text, with their sizes; a prefix narrows it."""
    digests = [str(digest) for digest in full.digests()]
    assert digests == sorted([*map(str, map(sha256, CONTENTS)), str(Digest.of(b"a", "sha512"))])
    assert {info.digest: info.size for info in full.walk("sha256:")} == {
        sha256(content): len(content) for content in CONTENTS
    }
    one = str(sha256(b"a"))
    for prefix in ("", "s", "sha256", "sha256:", one[:9], one[:20], one):
        assert [each for each in digests if each.startswith(prefix)] == [
            str(digest) for digest in full.digests(prefix)
        ]
    assert list(full.digests(one + "0")) == []
    assert list(full.digests("md5:")) == []


def test_a_blob_that_goes_during_a_walk(full: Store) -> None:
    """It is passed over."""
    walk = full.walk("sha256:")
    next(walk)
    for digest in list(full.digests("sha256:"))[1:]:
        full.delete(digest)

    assert list(walk) == []


def test_an_algorithm_that_is_not_available_here(full: Store) -> None:
    """Its folder is among the algorithms, and its blobs are passed over: they cannot be named."""
    hidden = Path(full.layout.blobs, "blake3")
    hidden.mkdir(exist_ok=True)
    (hidden / "odd").write_bytes(b"")
    Path(full.layout.blobs, "md5").mkdir()

    assert "blake3" in full.blobs.algorithms()
    assert "md5" not in full.blobs.algorithms()
    assert len(list(full.walk())) == len(CONTENTS) + 1
    with pytest.raises(UnsupportedAlgorithm):
        full.info("md5:" + "0" * 32)


def test_an_open_blob_is_read_on(full: Store) -> None:
    """A blob that is deleted is gone for all but those who have it open."""
    content = CONTENTS[3]
    with full.open(sha256(content)) as blob:
        assert blob.read(10) == content[:10]
        full.delete(str(sha256(content)))
        assert not full.exists(sha256(content))
        assert blob.read() == content[10:]
    for call in (full.delete, full.info, full.open, full.path):
        with pytest.raises(NotFound) as caught:
            call(sha256(content))
        assert caught.value.name == str(sha256(content))


def test_a_deleted_blob_can_be_stored_again(full: Store) -> None:
    """A digest whose blob was deleted is as if it had never been there."""
    full.delete(sha256(b"a"))

    assert put(full, b"a") == sha256(b"a")
    assert full.exists(sha256(b"a"))


def test_a_blob_that_is_deleted_while_its_double_is_committed(store: Store) -> None:
    """The commit that found it there, and finds it gone, links its own."""
    there = store.path(put(store, b"a"))

    class Deleting(Os):
        """Deletes the blob just before it is opened."""

        def open(self, path: str, flags: int, *args: Any, **options: Any) -> int:
            """Delete it."""
            if path == there:
                os.unlink(path)
            return super().open(path, flags, *args, **options)

    with using(Deleting()):
        assert put(store, b"a") == sha256(b"a")

    with store.open(sha256(b"a")) as blob:
        assert blob.read() == b"a"


def test_layout() -> None:
    """Paths are made of the root, and no ref gets out of it."""
    for root in ("/r", "/r/", "/"):
        layout = Layout(root)
        place = root.rstrip("/")
        digest = sha256(b"")
        assert layout.blob(digest) == f"{place}/blobs/sha256/{digest.hex}"
        assert layout.digest_of("sha256", digest.hex) == digest
        assert layout.digest_of("sha256", "odd") is None
        assert layout.digest_of("md5", "0" * 32) is None
    assert is_ingest_folder_name(sha256(b"").hex)
    assert not is_ingest_folder_name("odd")
