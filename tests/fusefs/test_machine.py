"""A real mount against a model that is a dictionary: whatever is done, in whatever order."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.fusefs.actors import Other
from tests.fusefs.mounted import (
    DIGEST,
    ERROR,
    EXPECTED_DIGEST,
    EXPECTED_SIZE,
    Mount,
    attribute,
    digest_of,
)

PIECES: Final = (b"a", b"bb", b"ccc" * 1500, bytes(5))
# Of all that can come to be expected, what the pieces can make.
CONTENTS: Final = (b"", b"a", b"bb", b"abb", b"bba", PIECES[2], b"a" + PIECES[2], b"a" + bytes(5))
REFS: Final = ("r", "s", f"t@{digest_of(b'abb')}", digest_of(b"bb"), f"u@{digest_of(b'')}")

refs = st.sampled_from(REFS)
pieces = st.sampled_from(PIECES)
digests = st.sampled_from([digest_of(content) for content in CONTENTS] + [digest_of(b"never")])
sizes = st.sampled_from([0, 1, 2, 3, 6, 4500, 4501, 10_000])


@dataclass
class Ingest:
    """What the model knows of an ingest.

    Attributes:
        data: its bytes.
        expected: the digest that was set; "" when it was removed.
        total: the expected size.
        refused: whether the last verdict was no.
        dirty: whether bytes came since the last close of a copy.
        done: whether it is a blob, though its writer is still open.
    """

    data: bytes = b""
    expected: str | None = None
    total: int | None = None
    refused: bool = False
    dirty: bool = False
    done: bool = False


def implied(ref: str) -> str | None:
    """The digest that a ref names."""
    tail = ref.rpartition("@")[2]
    return tail if tail.startswith("sha256:") else None


class MountMachine(RuleBasedStateMachine):
    """A mount, driven beside the model."""

    mount: ClassVar[Mount]
    other: ClassVar[Other]

    def __init__(self) -> None:
        super().__init__()
        self._clean()
        self._watch = ExitStack()
        self._watch.enter_context(self.mount.watched())
        self.ingests: dict[str, Ingest] = {}
        self.blobs: dict[str, bytes] = {}
        self.writers: dict[str, tuple[int, Ingest]] = {}

    def _clean(self) -> None:
        for name in os.listdir(self.mount.ingest):
            os.unlink(self.mount.ingest / name)
        for blob in (self.mount.root / "blobs").glob("*/*"):
            blob.unlink()

    def teardown(self) -> None:
        """Close what is open."""
        for fd, _ in self.writers.values():
            try:
                os.close(fd)
            except OSError as error:
                if error.errno != errno.EBADMSG:
                    raise
        self._clean()
        self._watch.close()

    # --------------------------------------------------------------------------------- the model

    def _expected(self, ref: str, ingest: Ingest) -> str | None:
        if ingest.expected is None:
            return implied(ref)
        return ingest.expected or None

    def _settle(self, ref: str) -> int:
        """Judge an ingest, if it is complete; the errno of the verdict."""
        ingest = self.ingests[ref]
        expected = self._expected(ref, ingest)
        if expected is None or (not ingest.data and expected != digest_of(b"")):
            return 0
        if ingest.total is not None and len(ingest.data) < ingest.total:
            return 0
        too_long = ingest.total is not None and len(ingest.data) > ingest.total
        if too_long or digest_of(ingest.data) != expected:
            ingest.refused = True
            return errno.EBADMSG
        self.blobs[expected] = ingest.data
        ingest.done = True
        del self.ingests[ref]
        return 0

    def _path(self, ref: str) -> str:
        return str(self.mount.ingest / ref)

    @staticmethod
    def _does(number: int, call: Any, *arguments: Any) -> Any:
        """A call ends as the model says: 0, or an errno."""
        try:
            result = call(*arguments)
        except OSError as error:
            if error.errno != number:
                raise
            return None
        assert number == 0, f"succeeded: the model says {errno.errorcode[number]}"
        return result

    # ------------------------------------------------------------------------------------- writing

    @rule(ref=refs, truncate=st.booleans(), append=st.booleans())
    def open(self, ref: str, truncate: bool, append: bool) -> None:  # noqa: FBT001
        """Open for writing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC * truncate | os.O_APPEND * append
        busy = ref in self.writers and not self.writers[ref][1].done
        if ref in self.writers and not busy:
            # The mount may still be letting go of the one that is done.
            return
        fd = self._does(errno.EBUSY if busy else 0, os.open, self._path(ref), flags)
        if fd is not None:
            ingest = self.ingests.setdefault(ref, Ingest())
            if truncate and ingest.data:
                ingest.data, ingest.refused, ingest.dirty = b"", False, True
            else:
                ingest.dirty = False
            self.writers[ref] = fd, ingest

    def _write(self, ingest: Ingest, data: bytes) -> int:
        if ingest.done:
            return errno.EPERM
        if ingest.total is not None and len(ingest.data) + len(data) > ingest.total:
            return errno.EFBIG
        ingest.data += data
        ingest.refused, ingest.dirty = False, True
        return 0

    @precondition(lambda self: self.writers)
    @rule(choice=st.data(), data=pieces)
    def write(self, choice: st.DataObject, data: bytes) -> None:
        """Append."""
        fd, ingest = self.writers[choice.draw(st.sampled_from(sorted(self.writers)))]
        at = len(ingest.data)
        self._does(self._write(ingest, data), os.pwrite, fd, data, at)

    @precondition(lambda self: self.writers)
    @rule(choice=st.data(), size=sizes)
    def ftruncate(self, choice: st.DataObject, size: int) -> None:
        """Truncate by descriptor."""
        fd, ingest = self.writers[choice.draw(st.sampled_from(sorted(self.writers)))]
        self._does(self._truncate(ingest, size), os.ftruncate, fd, size)

    def _truncate(self, ingest: Ingest, size: int) -> int:
        if size == len(ingest.data):
            return 0
        if ingest.done or 0 < size < len(ingest.data):
            return errno.EPERM
        if size and ingest.total is not None and size > ingest.total:
            return errno.EFBIG
        ingest.data = ingest.data[:size].ljust(size, b"\0")
        ingest.refused, ingest.dirty = False, True
        return 0

    @precondition(lambda self: self.writers)
    @rule(choice=st.data())
    def fsync(self, choice: st.DataObject) -> None:
        """Sync: no verdict."""
        os.fsync(self.writers[choice.draw(st.sampled_from(sorted(self.writers)))][0])

    @precondition(lambda self: self.writers)
    @rule(choice=st.data(), last=st.sampled_from([True, True, True, False]))
    def close(self, choice: st.DataObject, last: bool) -> None:  # noqa: FBT001
        """Close the descriptor, or a copy of it."""
        ref = choice.draw(st.sampled_from(sorted(self.writers)))
        fd, ingest = self.writers[ref]
        number = 0 if ingest.done else self._settle(ref)
        if not ingest.dirty:
            number = 0
        ingest.dirty = False
        self._does(number, os.close, fd if last else os.dup(fd))
        if last:
            del self.writers[ref]

    # ------------------------------------------------------------------------------------- by path

    def _free(self, ref: str) -> bool:
        return ref not in self.writers

    def _one(self, choice: st.DataObject) -> str:
        return str(choice.draw(st.sampled_from(sorted(self.ingests))))

    @precondition(lambda self: self.ingests)
    @rule(choice=st.data(), size=sizes)
    def truncate(self, choice: st.DataObject, size: int) -> None:
        """Truncate by path what nobody holds."""
        ref = self._one(choice)
        if not self._free(ref):
            return
        before = self.ingests[ref].data
        number = self._truncate(self.ingests[ref], size)
        if not number and len(before) != size:
            number = self._settle(ref)
        elif not number:
            return
        self._does(number, os.truncate, self._path(ref), size)

    @precondition(lambda self: self.ingests)
    @rule(choice=st.data(), digest=digests)
    def expect_digest(self, choice: st.DataObject, digest: str) -> None:
        """Set the expected digest."""
        self._expect(self._one(choice), EXPECTED_DIGEST, digest)

    @precondition(lambda self: self.ingests)
    @rule(choice=st.data())
    def expect_what_is_there(self, choice: st.DataObject) -> None:
        """Set the expected digest to that of the bytes so far."""
        ref = self._one(choice)
        self._expect(ref, EXPECTED_DIGEST, digest_of(self.ingests[ref].data))

    @precondition(lambda self: self.ingests)
    @rule(choice=st.data(), size=sizes)
    def expect_size(self, choice: st.DataObject, size: int) -> None:
        """Set the expected size."""
        self._expect(self._one(choice), EXPECTED_SIZE, str(size))

    @precondition(lambda self: self.ingests)
    @rule(choice=st.data(), name=st.sampled_from([EXPECTED_DIGEST, EXPECTED_SIZE]))
    def expect_nothing(self, choice: st.DataObject, name: str) -> None:
        """Remove the expected digest or size."""
        self._expect(self._one(choice), name, None)

    def _expect(self, ref: str, name: str, value: str | None) -> None:
        ingest = self.ingests[ref]
        if ref in self.writers and self.writers[ref][1].done:
            return
        known = self._expected(ref, ingest) if name == EXPECTED_DIGEST else ingest.total
        number = 0
        if value is None and known is None:
            number = errno.ENODATA
        else:
            if name == EXPECTED_SIZE:
                ingest.total = None if value is None else int(value)
            elif value is not None:
                ingest.expected = value
            else:
                ingest.expected = "" if implied(ref) else None
            ingest.refused = False
            if self._free(ref):
                number = self._settle(ref)
        if value is None:
            self._does(number, os.removexattr, self._path(ref), name)
        else:
            self._does(number, os.setxattr, self._path(ref), name, value.encode())

    @rule(ref=refs)
    def unlink(self, ref: str) -> None:
        """Abort."""
        if ref in self.writers:
            if not self.writers[ref][1].done:
                self._does(errno.EBUSY, os.unlink, self._path(ref))
            return
        number = 0 if self.ingests.pop(ref, None) else errno.ENOENT
        self._does(number, self.other.call, "unlink", self._path(ref))

    @rule(old=refs, new=refs)
    def rename_nothing(self, old: str, new: str) -> None:
        """Rename what is not there."""
        if old not in self.ingests and old not in self.writers and new not in self.writers:
            paths = self._path(old), self._path(new)
            self._does(errno.ENOENT, self.other.call, "rename", *paths)

    @precondition(lambda self: self.ingests)
    @rule(choice=st.data(), new=refs)
    def rename(self, choice: st.DataObject, new: str) -> None:
        """Rename."""
        old = self._one(choice)
        if not self._free(old) or not self._free(new) or old == new:
            return
        ingest = self.ingests[old]
        moved = Ingest(ingest.data, ingest.expected or None, ingest.total)
        before, after = self._expected(old, ingest), self._expected(new, moved)
        replaced = self.ingests.get(new)
        self.ingests[new] = moved
        number = self._settle(new) if after is not None and after != before else 0
        if number:
            ingest.refused = True
            if replaced is None:
                del self.ingests[new]
            else:
                self.ingests[new] = replaced
        else:
            moved.refused = ingest.refused and before == after
            del self.ingests[old]
        self._does(number, os.rename, self._path(old), self._path(new))

    # ------------------------------------------------------------------------------------- looking

    @invariant()
    def what_is_shown_is_what_is_there(self) -> None:
        """Listings, sizes, bytes and attributes are the model's."""
        assert sorted(self.mount.names()) == sorted(self.ingests)
        for ref, ingest in self.ingests.items():
            path = self.mount.ingest / ref
            assert path.stat().st_size == len(ingest.data)
            assert path.read_bytes() == ingest.data
            assert attribute(path, EXPECTED_DIGEST) == self._expected(ref, ingest)
            size = attribute(path, EXPECTED_SIZE)
            assert size == (None if ingest.total is None else str(ingest.total))
            assert (attribute(path, ERROR) is not None) == ingest.refused
        assert sorted(os.listdir(self.mount.blobs / "sha256")) == sorted(
            digest.partition(":")[2] for digest in self.blobs
        )
        for content in self.blobs.values():
            assert self.mount.blob(content).read_bytes() == content

    @precondition(lambda self: self.ingests)
    @rule(choice=st.data())
    def digest(self, choice: st.DataObject) -> None:
        """The digest so far."""
        ref = self._one(choice)
        found = attribute(self.mount.ingest / ref, DIGEST)
        assert found == digest_of(self.ingests[ref].data)


def test_a_mount_is_what_its_model_says(tmp_path: Path) -> None:
    """Whatever is done to a mount, in whatever order, it shows what a dictionary would."""
    MountMachine.mount = Mount(tmp_path)
    MountMachine.other = Other()
    # A failure is shown as it was found: to shrink it would take minutes, for what waits.
    MountMachine.TestCase.settings = settings(
        max_examples=settings().max_examples // 2, stateful_step_count=40, phases=[Phase.generate]
    )
    try:
        MountMachine.TestCase("runTest").runTest()
    finally:
        MountMachine.other.end()
        MountMachine.mount.close()
