"""Somebody else does something at the worst moment: between two calls that belong together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pytest

from store import NotFound, Ref, Store, UnsupportedAlgorithm
from store.data import Data
from store.hashing import HashCache
from store.ingest import Ingest
from tests.faults import Os, using
from tests.strategies import sha256

CONTENT = b"content" * 1000


class Interrupting(Os):
    """Something else happens once, just before a file whose name begins so is opened.

    Attributes:
        name: how its name begins.
        happens: what.
    """

    def __init__(self, name: str, happens: Callable[[], None]) -> None:
        super().__init__()
        self.name = name
        self.happens: list[Callable[[], None]] = [happens]

    def open(self, path: str, flags: int, *args: Any, **options: Any) -> int:
        """Let it happen, then open the file."""
        if os.path.basename(path).startswith(self.name) and self.happens:
            self.happens.pop()()
        return super().open(path, flags, *args, **options)


@pytest.fixture
def other(store: Store) -> Store:
    """Another view of the store, in which an ingest waits."""
    with store.writer("r", size=8000, expected=sha256(b"x")) as writer:
        writer.write(CONTENT)
    return Store(store.root)


def drop(store: Store) -> None:
    """Take an ingest and drop it, as an abort or the end of a commit does."""
    store.abort("r")


def test_dropped_before_its_lock_is_opened(store: Store, other: Store) -> None:
    """The one who comes to an ingest that goes begins a new one, with nothing of the old."""
    with using(Interrupting("lock", lambda: drop(other))), store.writer("r") as writer:
        assert (writer.offset, writer.total, writer.expected) == (0, None, None)
        writer.write(CONTENT)
    assert store.status("r").offset == len(CONTENT)


@pytest.mark.parametrize("anew", [False, True])
def test_dropped_before_its_lock_is_taken(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch, *, anew: bool
) -> None:
    """A lock on a file that has gone, or is another by now, is none: it is taken again."""
    taken = filelock.lock_descriptor

    def lock(fd: int, *, blocking: bool) -> bool:
        monkeypatch.undo()
        drop(other)
        if anew:
            with other.writer("r") as writer:
                writer.write(b"new")
        return taken(fd, blocking=blocking)

    monkeypatch.setattr(filelock, "lock_descriptor", lock)
    with store.writer("r") as writer:
        assert writer.offset == (3 if anew else 0)
        assert store.status("r").locked


def test_dropped_before_it_is_resumed(
    store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who wants to resume only finds nothing, and makes nothing."""
    taken = filelock.lock_descriptor

    def lock(fd: int, *, blocking: bool) -> bool:
        monkeypatch.undo()
        Path(other.layout.ingest(Ref("r")), "data").unlink()
        return taken(fd, blocking=blocking)

    monkeypatch.setattr(filelock, "lock_descriptor", lock)
    with pytest.raises(NotFound):
        store.settle("r")


@pytest.mark.parametrize("what", ["expect_size", "expect_digest"])
def test_dropped_before_an_expectation_is_written(store: Store, other: Store, what: str) -> None:
    """It is NotFound, and the next ingest of the ref knows nothing of it."""
    with using(Interrupting(".new-", lambda: drop(other))), pytest.raises(NotFound):
        getattr(store, what)("r", 3 if what == "expect_size" else sha256(b"y"))

    with store.writer("r") as writer:
        assert (writer.total, writer.expected) == (None, None)


@pytest.mark.parametrize("how", ["read", "hash"])
def test_dropped_before_its_data_is_opened(store: Store, other: Store, how: str) -> None:
    """It is NotFound."""
    call = {"read": store.ingests.open_data, "hash": store.digest_so_far}[how]
    with using(Interrupting("data", lambda: drop(other))), pytest.raises(NotFound):
        call(Ref("r"))


def test_dropped_during_a_listing(store: Store, other: Store) -> None:
    """It is passed over."""
    with store.writer("s"):
        pass
    with using(Interrupting("expected", lambda: drop(other))):
        found = {str(status.ref) for status in store.active()}

    assert found in ({"s"}, {"r", "s"})
    assert {str(status.ref) for status in store.active()} == {"s"}


def test_a_writer_that_cannot_be_had_keeps_no_file_open(store: Store, other: Store) -> None:
    """Where the digest cannot even begin, the data is closed again."""
    ingest = Ingest(Ref("r"), other.layout)
    with pytest.raises(UnsupportedAlgorithm):
        Data(ingest, HashCache(), "md5")
    ingest.close()
    with store.writer("r") as writer:
        assert writer.offset == len(CONTENT)
