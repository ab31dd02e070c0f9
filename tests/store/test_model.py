"""A store against a model of it: any sequence of calls does to both the same."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from store import (
    BeyondSize,
    Busy,
    Digest,
    NotAppend,
    NotFound,
    Rejected,
    Store,
    StoreError,
    Writer,
)
from tests.fsck import fsck, recover
from tests.strategies import sha256

PIECES = [b"", b"a", b"bc", b"x" * 5000, b"y" * 20_000, b"z" * (1 << 20)]
CONTENTS = [b"", b"a", b"abc", b"x" * 5000, b"a" + b"x" * 5000]
REFS = ["r", "s/t", str(sha256(b"a")), f"u@{sha256(b'a')}", "%"]

refs = st.sampled_from(REFS)
digests = st.sampled_from([sha256(content) for content in CONTENTS])


@dataclass
class Model:
    """What an ingest is: its bytes, and what is expected of them.

    Attributes:
        content: the bytes.
        expected: the digest that was set, None for none, or ``named`` for the ref's own.
        total: the size that was set.
        judged: whether a verdict on it was no, and nothing has changed since.
    """

    named: Digest | None
    content: bytes = b""
    expected: Digest | None = None
    removed: bool = False
    total: int | None = None
    judged: bool = False

    @property
    def wanted(self) -> Digest | None:
        """The digest that is expected."""
        return self.expected or (None if self.removed else self.named)

    def complete(self, wanted: Digest | None) -> bool:
        """Whether it is to be committed once nobody holds it."""
        if wanted is None or (self.content == b"" and wanted != sha256(b"")):
            return False
        return self.total is None or len(self.content) >= self.total

    def passes(self, wanted: Digest | None) -> bool:
        """Whether a commit succeeds."""
        if self.total is not None and self.total != len(self.content):
            return False
        return wanted in (None, sha256(self.content))


def named(ref: str) -> Digest | None:
    """The digest that a ref names."""
    return sha256(b"a") if str(sha256(b"a")) in ref else None


@dataclass
class Held:
    """An open writer and what it last knew of the size that is expected."""

    writer: Writer
    total: int | None = field(default=None)


class StoreMachine(RuleBasedStateMachine):
    """Any calls, on any of a few refs, in any order."""

    @initialize()
    def begin(self) -> None:
        """Have an empty store."""
        self.root = Path(tempfile.mkdtemp(dir=_memory()))
        self.store = Store(self.root)
        self.ingests: dict[str, Model] = {}
        self.blobs: set[Digest] = set()
        self.writers: dict[str, Held] = {}

    def teardown(self) -> None:
        """Close what is open, and look whether the store is sound."""
        if not hasattr(self, "root"):
            return
        for held in self.writers.values():
            held.writer.close()
        fsck(self.root)
        recover(self.root)
        shutil.rmtree(self.root)

    # ---------------------------------------------------------------------------------- writing

    @rule(ref=refs)
    def open(self, ref: str) -> None:
        """Begin or resume."""
        if ref in self.writers:
            with _raises(Busy):
                self.store.writer(ref)
            return
        model = self.ingests.setdefault(ref, Model(named(ref)))
        writer = self.store.writer(ref)
        self.writers[ref] = Held(writer, model.total)
        assert writer.offset == len(model.content)

    @rule(ref=refs, piece=st.sampled_from(PIECES), gap=st.sampled_from([0, 0, 0, 1, 70_000]))
    def write(self, ref: str, piece: bytes, gap: int) -> None:
        """Write at the end, or past it."""
        held, model = self.writers.get(ref), self.ingests.get(ref)
        if held is None or model is None:
            return
        end = len(model.content) + gap + len(piece)
        if held.total is not None and end > held.total:
            with _raises(BeyondSize):
                held.writer.write(piece, len(model.content) + gap)
            return
        assert held.writer.write(piece, len(model.content) + gap) == len(piece)
        if piece:
            model.content += bytes(gap) + piece
            model.judged = False

    @rule(ref=refs)
    def overwrite(self, ref: str) -> None:
        """Write before the end, in vain."""
        model = self.ingests.get(ref)
        if ref in self.writers and model is not None and model.content:
            with _raises(NotAppend):
                self.writers[ref].writer.write(b"!", len(model.content) - 1)

    @rule(ref=refs, more=st.sampled_from([None, 0, 3]))
    def truncate(self, ref: str, more: int | None) -> None:
        """Start over, or append zeros."""
        held, model = self.writers.get(ref), self.ingests.get(ref)
        if held is None or model is None:
            return
        size = 0 if more is None else len(model.content) + more
        if size and held.total is not None and size > held.total:
            with _raises(BeyondSize):
                held.writer.truncate(size)
            return
        held.writer.truncate(size)
        model.content = model.content[:size].ljust(size, b"\0")
        model.judged = False

    @rule(ref=refs)
    def close(self, ref: str) -> None:
        """Leave it to the next writer."""
        if ref in self.writers:
            self.writers.pop(ref).writer.close()

    @rule(ref=refs)
    def commit(self, ref: str) -> None:
        """Commit, of which the verdict may be no."""
        held, model = self.writers.get(ref), self.ingests.get(ref)
        if held is None or model is None:
            return
        held.total = model.total
        if not model.passes(model.wanted):
            with _raises(Rejected):
                held.writer.commit()
            model.judged = True
            return
        assert held.writer.commit() == sha256(model.content)
        self.blobs.add(sha256(model.content))
        del self.ingests[ref], self.writers[ref]

    # ----------------------------------------------------------------------------------- around

    @rule(ref=refs, digest=st.none() | digests)
    def expect_digest(self, ref: str, digest: Digest | None) -> None:
        """Set or remove the digest."""
        model = self.ingests.get(ref)
        if model is None:
            with _raises(NotFound):
                self.store.expect_digest(ref, digest)
            return
        self.store.expect_digest(ref, digest)
        model.expected, model.removed, model.judged = digest, digest is None, False

    @rule(ref=refs, size=st.none() | st.sampled_from([0, 1, 3, 5000, 5001]))
    def expect_size(self, ref: str, size: int | None) -> None:
        """Set or remove the size."""
        model = self.ingests.get(ref)
        if model is None:
            with _raises(NotFound):
                self.store.expect_size(ref, size)
            return
        self.store.expect_size(ref, size)
        model.total, model.judged = size, False

    @rule(ref=refs)
    def settle(self, ref: str) -> None:
        """Commit it if it is complete."""
        model = self.ingests.get(ref)
        if model is None or ref in self.writers:
            with _raises(NotFound if model is None else Busy):
                self.store.settle(ref)
        elif not model.complete(model.wanted):
            assert self.store.settle(ref) is None
        elif model.passes(model.wanted):
            assert self.store.settle(ref) == sha256(model.content)
            self.blobs.add(sha256(model.content))
            del self.ingests[ref]
        else:
            with _raises(Rejected):
                self.store.settle(ref)
            model.judged = True

    @rule(ref=refs)
    def abort(self, ref: str) -> None:
        """Drop it."""
        if ref in self.writers or ref not in self.ingests:
            with _raises(Busy if ref in self.writers else NotFound):
                self.store.abort(ref)
            return
        self.store.abort(ref)
        del self.ingests[ref]

    @rule(old=refs, new=refs)
    def rename(self, old: str, new: str) -> None:
        """Give it another ref, which may be a verdict."""
        model = self.ingests.get(old)
        if model is not None and new == old:
            assert self.store.rename(old, new) is None
            return
        if model is None or old in self.writers:
            with _raises(NotFound if model is None else Busy):
                self.store.rename(old, new)
            return
        wanted = model.expected or named(new)
        due = wanted is not None and wanted != model.wanted and model.complete(wanted)
        if due and not model.passes(wanted):
            with _raises(Rejected):
                self.store.rename(old, new)
            model.judged = True
        elif new in self.writers:
            with _raises(Busy):
                self.store.rename(old, new)
        else:
            self.store.rename(old, new)
            model.judged = model.judged and wanted == model.wanted
            model.removed, model.named = False, named(new)
            del self.ingests[old]
            self.ingests[new] = model
            if due:
                self.blobs.add(sha256(self.ingests.pop(new).content))

    @rule(digest=digests)
    def delete(self, digest: Digest) -> None:
        """Delete a blob."""
        if digest not in self.blobs:
            with _raises(NotFound):
                self.store.delete(digest)
            return
        self.store.delete(digest)
        self.blobs.remove(digest)

    @rule(ref=refs)
    def reopen(self, ref: str) -> None:
        """Forget all that this process knows."""
        if not self.writers:
            self.store = Store(self.root)

    # ------------------------------------------------------------------------------------ always

    @invariant()
    def blobs_are_the_same(self) -> None:
        """The blobs of the model are those of the store, whole."""
        if not hasattr(self, "root"):
            return
        assert set(self.store.digests()) == self.blobs
        assert all(info.size >= 0 for info in self.store.walk())

    @invariant()
    def ingests_are_the_same(self) -> None:
        """The ingests of the model are those of the store, in all that is known of them."""
        if not hasattr(self, "root"):
            return
        found = {str(status.ref): status for status in self.store.active()}
        assert set(found) == set(self.ingests)
        for ref, model in self.ingests.items():
            status = found[ref]
            seen = (status.offset, status.total, status.expected, status.locked, bool(status.error))
            assert seen == (
                len(model.content),
                model.total,
                model.wanted,
                ref in self.writers,
                model.judged,
            )
            if model.wanted is None:
                assert self.store.digest_so_far(ref) == sha256(model.content)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextlib.contextmanager
def _raises(kind: type[StoreError]) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"no {kind.__name__}")


TestStore = StoreMachine.TestCase
