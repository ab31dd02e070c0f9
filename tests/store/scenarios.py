"""What is done to a store while its disk fails or its process is killed, and what holds then."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from store import Digest, NotFound, Store
from tests.strategies import sha256

__all__ = ["SCENARIOS", "Scenario"]

ONE = b"one" * 5000
TWO = b"two" * 7000
OTHER = b"other" * 100
NAME = f"layer@{sha256(ONE)}"


# What a writer leaves for later: the time of the last change, and bytes cut off that nobody needs.
AT_CLOSE = ("open updatedat", "pwrite updatedat", "ftruncate updatedat", "utime data")


# What is left of the old folder is no ingest any more.
AT_RENAME = (*AT_CLOSE, "rmdir", "unlink")


def nothing(store: Store) -> None:
    """An empty store; or any."""


class Scenario(NamedTuple):
    """Something done to a store in three parts.

    Attributes:
        prepare: makes the store what it is before.
        act: does it; may be called again after it has failed.
        holds: fails unless a store is as it may be while it is, or is not, done.
        unchanged: likewise, where it was not killed but has failed.
        done: whether it has been done.
        tolerates: how the steps begin whose failure `act` survives.
    """

    prepare: Callable[[Store], None]
    act: Callable[[Store], None]
    holds: Callable[[Store], None]
    done: Callable[[Store], bool]
    tolerates: tuple[str, ...] = ()
    unchanged: Callable[[Store], None] = nothing


def put(store: Store, ref: str, *parts: bytes, expected: Digest | None = None) -> None:
    """Write an ingest and leave it."""
    with store.writer(ref, expected=expected) as writer:
        for part in parts:
            writer.write(part)


def has(store: Store, content: bytes) -> bool:
    """Whether the blob is there; if so, it is whole."""
    try:
        with store.open(sha256(content)) as blob:
            assert blob.read() == content
    except NotFound:
        return False
    return True


def held(store: Store, ref: str) -> bytes | None:
    """The bytes of an ingest; None where there is none."""
    try:
        fd = store.ingests.open_data(store.status(ref).ref)
    except NotFound:
        return None
    with open(fd, "rb") as file:
        return file.read()


def ingest(store: Store) -> None:
    """Write and commit a blob, from wherever an earlier try has come to."""
    with store.writer("layer", expected=sha256(ONE)) as writer:
        if writer.offset < len(ONE):
            writer.write(ONE[writer.offset : 9000])
            writer.write(ONE[max(writer.offset, 9000) :])
        writer.sync()
        writer.commit()


def half(store: Store) -> None:
    """An ingest that was left in the middle."""
    put(store, "layer", ONE[:9000], expected=sha256(ONE))


def grows(store: Store) -> None:
    """The blob is whole, or the ingest holds a beginning of it."""
    bytes_held = held(store, "layer")
    if not has(store, ONE) and bytes_held is not None:
        assert ONE.startswith(bytes_held)


def kept(store: Store) -> None:
    """The blob is whole, or the ingest holds all that it held."""
    if not has(store, ONE):
        bytes_held = held(store, "layer")
        assert bytes_held is not None
        assert ONE.startswith(bytes_held)
        assert len(bytes_held) >= 9000


def committed(store: Store) -> bool:
    """The blob is there and the ingest is gone."""
    return has(store, ONE) and held(store, "layer") is None


def whole(store: Store) -> None:
    """An ingest that only waits for its verdict."""
    put(store, "layer", ONE)
    store.expect_digest("layer", sha256(ONE))


def settle(store: Store) -> None:
    """Give the verdict."""
    with contextlib.suppress(NotFound):
        store.settle("layer")
    assert has(store, ONE)


def stored(store: Store) -> None:
    """The blob, and no ingest."""
    with store.writer("earlier") as writer:
        writer.write(ONE)
        writer.commit()


def twice(store: Store) -> None:
    """As `whole`, while the blob is already there."""
    stored(store)
    whole(store)


def unexpected(store: Store) -> None:
    """Commit an ingest of which nothing is expected."""
    with store.writer("layer") as writer:
        if writer.offset == 0 and has(store, ONE):
            writer.abort()
            return
        assert writer.commit() == sha256(ONE)


def abort(store: Store) -> None:
    """Drop an ingest."""
    with contextlib.suppress(NotFound):
        store.abort("layer")


def rename(store: Store) -> None:
    """Give an ingest the ref of another."""
    with contextlib.suppress(NotFound):
        store.rename("old", "new")


def lone(store: Store) -> None:
    """An ingest with expectations, and no other."""
    put(store, "old", OTHER, expected=sha256(b"never"))
    store.expect_size("old", 10_000)


def pair(store: Store) -> None:
    """Two ingests with different expectations."""
    lone(store)
    put(store, "new", TWO, expected=sha256(b"neither"))
    store.expect_size("new", 50_000)


def old_or_new(store: Store) -> None:
    """The bytes are under the one ref or the other; what stood there before is whole, if there."""
    assert OTHER in (held(store, "old"), held(store, "new"))
    assert held(store, "old") in (OTHER, None)
    assert held(store, "new") in (OTHER, TWO, None)


def described(store: Store) -> None:
    """Under either ref stand the expectations of the bytes that are there."""
    for ref in ("old", "new"):
        content = held(store, ref)
        if content is not None:
            status = store.status(ref)
            wants = {OTHER: (10_000, b"never"), TWO: (50_000, b"neither")}[content]
            assert (status.total, status.expected) == (wants[0], sha256(wants[1]))


def renamed(store: Store) -> bool:
    """The ingest is where it was to go, and only there."""
    return held(store, "new") == OTHER and held(store, "old") is None


def into_blob(store: Store) -> None:
    """Rename to a name that says the digest, which commits."""
    try:
        store.rename("plain", NAME)
    except NotFound:
        # An earlier try has come as far as that.
        with contextlib.suppress(NotFound):
            store.settle(NAME)


def start_over(store: Store) -> None:
    """Truncate an ingest to nothing, and write other bytes."""
    with store.writer("layer") as writer:
        writer.truncate(0)
        writer.write(TWO)
        writer.sync()


def either(store: Store) -> None:
    """The ingest holds the old bytes, or a beginning of the new."""
    found = held(store, "layer")
    assert found is not None
    assert found == ONE[:9000] or TWO.startswith(found)


def expect(store: Store) -> None:
    """Set what is expected of an ingest."""
    store.expect_size("layer", len(ONE))
    store.expect_digest("layer", sha256(ONE))


SCENARIOS = {
    "ingest": Scenario(nothing, ingest, grows, committed, AT_CLOSE),
    "resume": Scenario(half, ingest, kept, committed, AT_CLOSE),
    "commit": Scenario(whole, settle, kept, committed, AT_CLOSE),
    "commit unexpected": Scenario(
        lambda store: put(store, "layer", ONE), unexpected, kept, committed, AT_CLOSE
    ),
    "commit what is there": Scenario(twice, settle, kept, committed, AT_CLOSE),
    "abort": Scenario(half, abort, nothing, lambda store: held(store, "layer") is None),
    "rename": Scenario(lone, rename, old_or_new, renamed, AT_RENAME, described),
    "rename over another": Scenario(pair, rename, old_or_new, renamed, AT_RENAME, described),
    "rename into a blob": Scenario(
        lambda store: put(store, "plain", ONE),
        into_blob,
        nothing,
        lambda store: has(store, ONE) and held(store, "plain") is None,
        AT_RENAME,
    ),
    "start over": Scenario(
        half, start_over, either, lambda store: held(store, "layer") == TWO, AT_CLOSE
    ),
    "expect": Scenario(
        lambda store: put(store, "layer", ONE),
        expect,
        kept,
        lambda store: store.status("layer").expected == sha256(ONE),
    ),
    "delete": Scenario(
        stored,
        lambda store: store.delete(sha256(ONE)),
        nothing,
        lambda store: not has(store, ONE),
    ),
}
