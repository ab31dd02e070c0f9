"""What holds of ingests and blobs, through whichever door one comes in.

A module that opens a door has a fixture ``door`` and a class `Test…` that inherits from `Contract`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Protocol

import pytest

from store import Digest
from tests.strategies import sha256

__all__ = ["Contract", "Door", "Pen", "refused"]


class Pen(Protocol):
    """An ingest, open for writing: a writer, or a file descriptor.  Errors are OSErrors."""

    def write(self, data: bytes, at: int | None = None) -> None:
        """Write all of ``data`` at ``at``; by default at the end."""

    def truncate(self, size: int) -> None:
        """Make it ``size`` bytes long."""

    def sync(self) -> None:
        """Make the bytes durable."""

    def close(self) -> None:
        """Let go of it; what is complete is committed, and this raises the verdict."""


class Door(Protocol):
    """A way into one store.  Errors are OSErrors with the contract's errno."""

    def begin(self, ref: str) -> Pen:
        """Begin or resume an ingest."""

    def read(self, ref: str) -> bytes:
        """The bytes of an ingest."""

    def refs(self) -> set[str]:
        """The ingests that there are."""

    def abort(self, ref: str) -> None:
        """Drop an ingest."""

    def rename(self, old: str, new: str) -> None:
        """Give an ingest another ref."""

    def truncate(self, ref: str, size: int) -> None:
        """Change the size of an ingest that nobody holds."""

    def expect_digest(self, ref: str, digest: Digest | None) -> None:
        """Set or remove the expected digest; this raises the verdict, if it makes one due."""

    def expect_size(self, ref: str, size: int | None) -> None:
        """Set or remove the expected size, likewise."""

    def expected(self, ref: str) -> tuple[str | None, int | None]:
        """The digest and the size that are expected."""

    def digest(self, ref: str) -> str:
        """The digest of the bytes so far."""

    def error(self, ref: str) -> str | None:
        """Why the last verdict was no."""

    def blob(self, digest: Digest) -> bytes:
        """The bytes of a blob."""

    def blobs(self) -> set[str]:
        """The digests of all blobs."""


@contextlib.contextmanager
def refused(number: int) -> Iterator[None]:
    """Fail unless the block raises an OSError with this errno."""
    try:
        yield
    except OSError as error:
        if error.errno != number:
            raise
    else:
        pytest.fail(f"not refused with {errno.errorcode[number]}")


def put(door: Door, ref: str, *parts: bytes) -> None:
    """Write an ingest in parts, and close it."""
    pen = door.begin(ref)
    try:
        for part in parts:
            pen.write(part)
    finally:
        pen.close()


A = b"a" * 5000
B = b"b" * 70_000
WRONG = sha256(b"something else")
EMPTY = sha256(b"")


class Contract:
    """The behaviour suite."""

    # ------------------------------------------------------------------------------ transactions

    def test_what_is_expected_becomes_a_blob_at_the_close(self, door: Door) -> None:
        """Bytes that are as expected are a blob when the close returns, and the ingest is gone."""
        put(door, "r")
        door.expect_digest("r", sha256(A + B))
        put(door, "r", A, B)

        assert door.blob(sha256(A + B)) == A + B
        assert door.refs() == set()
        with refused(errno.ENOENT):
            door.read("r")

    def test_what_is_not_expected_waits(self, door: Door) -> None:
        """Without an expected digest nothing is committed; the bytes wait for the next writer."""
        put(door, "r", A)
        put(door, "r", B)

        assert (door.read("r"), door.refs(), door.blobs()) == (A + B, {"r"}, set())
        assert door.digest("r") == str(sha256(A + B))

    @pytest.mark.parametrize("form", ["{}", "docker.io/library/redis@{}", "a@b@{}"])
    def test_a_name_that_says_its_digest_is_an_expectation(self, door: Door, form: str) -> None:
        """A ref that is a digest, or ends in @ and one, is committed without another word."""
        put(door, form.format(sha256(A)), A)

        assert door.blobs() == {str(sha256(A))}
        assert door.refs() == set()

    @pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
    def test_each_algorithm(self, door: Door, name: str) -> None:
        """A blob is filed under the algorithm of its expected digest."""
        digest = Digest.of(B, name)
        put(door, str(digest), B)

        assert (door.blobs(), door.blob(digest)) == ({str(digest)}, B)

    def test_nothing_is_content_only_where_it_is_expected(self, door: Door) -> None:
        """An empty ingest is committed when the digest of nothing is expected, else it waits."""
        put(door, str(sha256(A)))
        assert door.refs() == {str(sha256(A))}

        put(door, str(EMPTY))
        assert door.blobs() == {str(EMPTY)}
        assert door.blob(EMPTY) == b""

    def test_content_that_is_there_already(self, door: Door) -> None:
        """Committing what is stored succeeds, and the ingest is dropped."""
        put(door, str(sha256(A)), A)
        put(door, f"again@{sha256(A)}", A)

        assert (door.refs(), door.blobs()) == (set(), {str(sha256(A))})

    def test_a_short_ingest_waits_for_the_rest(self, door: Door) -> None:
        """With an expected size nothing is judged before it is reached; then it is committed."""
        put(door, "r")
        door.expect_size("r", len(A + B))
        door.expect_digest("r", sha256(A + B))
        put(door, "r", A)
        assert door.read("r") == A

        put(door, "r", B)
        assert door.blob(sha256(A + B)) == A + B

    # ---------------------------------------------------------------------------------- verdicts

    def test_a_wrong_digest(self, door: Door) -> None:
        """The close says EBADMSG; the bytes stay, and a note says what was expected and found."""
        put(door, "r")
        door.expect_digest("r", WRONG)
        with refused(errno.EBADMSG):
            put(door, "r", A)

        assert (door.read("r"), door.blobs()) == (A, set())
        note = door.error("r") or ""
        assert str(WRONG) in note
        assert str(sha256(A)) in note

    def test_a_rejected_ingest_can_be_written_on(self, door: Door) -> None:
        """After a wrong digest more bytes can make it right; the note goes with the first."""
        put(door, "r")
        door.expect_digest("r", sha256(A + B))
        with refused(errno.EBADMSG):
            put(door, "r", A)
        pen = door.begin("r")
        pen.write(B[:1])
        assert door.error("r") is None
        pen.write(B[1:])
        pen.close()

        assert door.blob(sha256(A + B)) == A + B

    def test_a_rejected_ingest_can_be_started_over(self, door: Door) -> None:
        """Truncated to nothing, the ingest keeps what is expected of it."""
        put(door, "r")
        door.expect_digest("r", sha256(B))
        with refused(errno.EBADMSG):
            put(door, "r", A)
        door.truncate("r", 0)
        assert door.read("r") == b""
        assert door.expected("r") == (str(sha256(B)), None)
        assert door.error("r") is None
        put(door, "r", B)

        assert door.blobs() == {str(sha256(B))}

    def test_a_corrected_expectation_commits(self, door: Door) -> None:
        """Setting the right digest on bytes that wait is the verdict, at once."""
        put(door, "r", A)
        with refused(errno.EBADMSG):
            door.expect_digest("r", WRONG)
        assert door.expected("r") == (str(WRONG), None)
        door.expect_digest("r", sha256(A))

        assert (door.refs(), door.blobs()) == (set(), {str(sha256(A))})

    def test_a_size_that_is_too_small(self, door: Door) -> None:
        """An ingest that is longer than expected is EBADMSG, and the note names both sizes."""
        put(door, "r", A)
        door.expect_size("r", 10)
        with refused(errno.EBADMSG):
            door.expect_digest("r", sha256(A))
        note = door.error("r") or ""
        assert "10" in note
        assert str(len(A)) in note
        assert door.read("r") == A

    def test_removing_the_size_can_complete_it(self, door: Door) -> None:
        """Removing the size that an ingest falls short of is the verdict, at once."""
        put(door, "r", A)
        door.expect_size("r", len(A) + 1)
        door.expect_digest("r", sha256(A))
        assert door.refs() == {"r"}
        door.expect_size("r", None)

        assert door.blobs() == {str(sha256(A))}

    def test_growing_by_path_can_complete_it(self, door: Door) -> None:
        """Truncating an ingest up to its expected size is the verdict, at once."""
        content = A + bytes(100)
        put(door, "r", A)
        door.expect_size("r", len(content))
        door.expect_digest("r", sha256(content))
        door.truncate("r", len(content))

        assert door.blobs() == {str(sha256(content))}

    def test_what_was_set_wins_over_the_name(self, door: Door) -> None:
        """An explicit digest replaces the one in the name, and a removed one stays removed."""
        ref = str(sha256(A))
        put(door, ref)
        door.expect_digest(ref, None)
        put(door, ref, B)
        assert (door.refs(), door.expected(ref)) == ({ref}, (None, None))
        door.expect_digest(ref, sha256(B))

        assert door.blobs() == {str(sha256(B))}

    # ------------------------------------------------------------------------------------ writing

    def test_bytes_and_size_show_at_once(self, door: Door) -> None:
        """What has been written can be read while the writer still holds the ingest."""
        pen = door.begin("r")
        for part in (A, b"x", B):
            pen.write(part)
        assert door.read("r") == A + b"x" + B
        assert door.refs() == {"r"}
        pen.close()

    def test_a_write_before_the_end(self, door: Door) -> None:
        """It is EPERM, and nothing is changed."""
        pen = door.begin("r")
        pen.write(A)
        with refused(errno.EPERM):
            pen.write(b"!", at=len(A) - 1)
        with refused(errno.EPERM):
            pen.truncate(1)
        pen.close()

        assert door.read("r") == A

    def test_a_write_past_the_end(self, door: Door) -> None:
        """The gap is filled with zeros, and hashed as such."""
        content = A + bytes(200_000) + B
        pen = door.begin("r")
        pen.write(A)
        pen.write(B, at=len(A) + 200_000)
        pen.close()
        assert door.read("r") == content
        door.expect_digest("r", sha256(content))

        assert door.blobs() == {str(sha256(content))}

    def test_growing_by_truncate(self, door: Door) -> None:
        """A truncate past the end appends zeros."""
        pen = door.begin("r")
        pen.write(A)
        pen.truncate(len(A) + 3)
        pen.write(b"x")
        pen.close()

        assert door.read("r") == A + b"\0\0\0x"

    def test_a_write_beyond_the_expected_size(self, door: Door) -> None:
        """It is EFBIG, and nothing of it is written; what fits is."""
        put(door, "r")
        door.expect_size("r", len(A) + 1)
        pen = door.begin("r")
        pen.write(A)
        with refused(errno.EFBIG):
            pen.write(b"xy")
        assert door.read("r") == A
        pen.write(b"x")
        pen.close()

        assert door.read("r") == A + b"x"

    def test_starting_over_while_writing(self, door: Door) -> None:
        """Truncated to nothing by its writer, an ingest holds what is written after that."""
        put(door, "r")
        door.expect_digest("r", sha256(B))
        pen = door.begin("r")
        pen.write(A)
        pen.truncate(0)
        pen.write(B)
        pen.sync()
        pen.close()

        assert door.blobs() == {str(sha256(B))}

    # ------------------------------------------------------------------------------ the one writer

    def test_one_writer_at_a_time(self, door: Door) -> None:
        """While one holds a ref, to open, abort or rename it is EBUSY; other refs are free."""
        put(door, "free", A)
        pen = door.begin("r")
        pen.write(A)
        for attempt in (
            lambda: door.begin("r"),
            lambda: door.abort("r"),
            lambda: door.rename("r", "other"),
            lambda: door.rename("free", "r"),
        ):
            with refused(errno.EBUSY):
                attempt()
        put(door, "free", A)
        pen.close()

        assert door.refs() == {"free", "r"}
        assert (door.read("r"), door.read("free")) == (A, A + A)

    def test_expectations_may_be_set_while_it_is_held(self, door: Door) -> None:
        """Anyone sets what is expected of an ingest that a writer holds; its close judges it."""
        pen = door.begin("r")
        pen.write(A)
        door.expect_digest("r", sha256(A))
        assert door.blobs() == set()
        pen.close()

        assert door.blobs() == {str(sha256(A))}

    # ---------------------------------------------------------------------------- abort and rename

    def test_an_aborted_ingest_is_gone(self, door: Door) -> None:
        """Its bytes and expectations are gone, and its ref begins anew."""
        put(door, "r", A)
        door.expect_size("r", 100_000)
        door.abort("r")
        with refused(errno.ENOENT):
            door.abort("r")
        assert door.refs() == set()
        put(door, "r", B)

        assert (door.read("r"), door.expected("r")) == (B, (None, None))

    def test_a_renamed_ingest(self, door: Door) -> None:
        """Bytes and expectations go along; the old name is gone."""
        put(door, "old", A)
        door.expect_size("old", 100_000)
        door.rename("old", "new/name%")

        assert door.refs() == {"new/name%"}
        assert door.read("new/name%") == A
        assert door.expected("new/name%") == (None, 100_000)

    def test_a_rename_replaces(self, door: Door) -> None:
        """What stands under the new ref is replaced, with all that was expected of it."""
        put(door, "old", A)
        put(door, "new", B)
        door.expect_size("new", 100_000)
        door.rename("old", "new")

        assert door.refs() == {"new"}
        assert (door.read("new"), door.expected("new")) == (A, (None, None))

    def test_a_rename_of_nothing(self, door: Door) -> None:
        """It is ENOENT, and what stands under the new ref stays."""
        put(door, "new", B)
        with refused(errno.ENOENT):
            door.rename("old", "new")

        assert door.read("new") == B

    def test_a_rename_to_a_digest_commits(self, door: Door) -> None:
        """A new name that says the digest of the bytes is the verdict, at once."""
        put(door, "r", A)
        door.rename("r", str(sha256(A)))

        assert (door.refs(), door.blobs()) == (set(), {str(sha256(A))})

    def test_a_rename_to_a_wrong_digest_is_refused(self, door: Door) -> None:
        """It is EBADMSG, and the old name stays, with its bytes."""
        put(door, "r", A)
        with refused(errno.EBADMSG):
            door.rename("r", str(WRONG))

        assert (door.refs(), door.read("r")) == ({"r"}, A)

    # ------------------------------------------------------------------------------------- names

    @pytest.mark.parametrize(
        "ref",
        ["a/b/c", ".", "..", "../../x", "%2F", "100%", " ", "é\n漢", "-rf", "x" * 255, "/" * 85],
    )
    def test_any_text_is_a_ref(self, door: Door, ref: str) -> None:
        """Each of these begins, lists and reads as itself."""
        put(door, ref, A)

        assert (door.refs(), door.read(ref)) == ({ref}, A)

    @pytest.mark.parametrize("ref", ["x" * 256, "/" * 86, "é" * 128])
    def test_a_ref_that_is_too_long(self, door: Door, ref: str) -> None:
        """A file name of more than 255 bytes is ENAMETOOLONG."""
        with refused(errno.ENAMETOOLONG):
            door.begin(ref)

    def test_what_is_not_there(self, door: Door) -> None:
        """A blob or an ingest that is not there is ENOENT."""
        with refused(errno.ENOENT):
            door.blob(WRONG)
        with refused(errno.ENOENT):
            door.read("r")
        assert (door.blobs(), door.refs()) == (set(), set())
