"""Ingest transactions on disk: what is written down, what counts, what a crash has left."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from store import (
    Busy,
    Digest,
    DigestMismatch,
    InvalidSize,
    NotFound,
    ReadOnly,
    Ref,
    Store,
    parse_size,
)
from store.times import parse
from tests.strategies import sha256

CONTENT = b"content" * 1000


def put(store: Store, ref: str = "r", content: bytes = CONTENT) -> Path:
    """Write an ingest and leave it; its folder."""
    with store.writer(ref) as writer:
        writer.write(content)
    return Path(store.layout.ingest(Ref(ref)))


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every path below a folder, with its inode and time of change."""
    return {
        str(path.relative_to(root)): (path.lstat().st_ino, path.lstat().st_ctime_ns)
        for path in [root, *root.rglob("*")]
    }


def test_the_files_of_an_ingest(store: Store) -> None:
    """They are those of containerd, each without a newline, in a folder named by the ref's hash."""
    before = time.time_ns()
    digest = sha256(CONTENT)
    with store.writer("a/b", size=10_000, expected=digest) as writer:
        writer.write(CONTENT)
    folder = Path(store.root, "ingest", sha256(b"a/b").hex)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    started, updated = (
        parse(files.pop("startedat").decode()),
        parse(files.pop("updatedat").decode()),
    )

    assert files == {
        "ref": b"a/b",
        "data": CONTENT,
        "total": b"10000",
        "expected": str(digest).encode(),
        "lock": b"",
    }
    assert started is not None
    assert updated is not None
    assert before <= started <= updated <= time.time_ns()


def test_status(store: Store) -> None:
    """It tells all that is written down, and whether a writer holds it."""
    folder = put(store)
    store.expect_size("r", 8000)
    store.expect_digest("r", sha256(b"x"))
    with store.writer("r"):
        assert store.status("r").locked
    status = store.status("r")

    assert (status.ref, status.offset, status.total) == (Ref("r"), len(CONTENT), 8000)
    assert (status.expected, status.locked, status.error) == (sha256(b"x"), False, None)
    assert status.started_ns == parse((folder / "startedat").read_text())
    assert status.updated_ns == (folder / "data").stat().st_mtime_ns


def test_to_open_is_not_to_change(store: Store) -> None:
    """A writer that writes nothing leaves the times of the ingest as they were."""
    folder = put(store)
    before = ((folder / "updatedat").read_bytes(), store.status("r").updated_ns)
    with store.writer("r") as writer:
        writer.digest()

    assert ((folder / "updatedat").read_bytes(), store.status("r").updated_ns) == before


@pytest.mark.parametrize("name", ["startedat", "total", "expected"])
@pytest.mark.parametrize("content", [b"", b"odd", b"\xff\xfe", b"9" * 30, b"-1", b"md5:00"])
def test_what_does_not_parse_counts_as_absent(store: Store, name: str, content: bytes) -> None:
    """A damaged description is none; the ingest is listed, resumed and committed."""
    folder = put(store)
    (folder / name).write_bytes(content)
    (status,) = store.active()

    assert {"startedat": status.started_ns, "total": status.total, "expected": status.expected}[
        name
    ] is None
    with store.writer("r") as writer:
        assert writer.commit() == sha256(CONTENT)


def test_a_removed_expectation_stays_removed(store: Store) -> None:
    """What the ref's own name says is expected can be removed, and is set again by setting it."""
    ref = str(sha256(CONTENT))
    put(store, ref)
    store.expect_digest(ref, None)
    assert Store(store.root).status(ref).expected is None
    assert store.settle(ref) is None
    store.expect_digest(ref, sha256(b"x"))
    assert store.status(ref).expected == sha256(b"x")
    store.expect_digest(ref, sha256(CONTENT))

    assert store.settle(ref) == sha256(CONTENT)


@pytest.mark.parametrize("size", [-1, 2**63])
def test_sizes_that_are_none(store: Store, size: int) -> None:
    """A size below 0 or above 2**63 - 1 is refused, and nothing is begun or written down."""
    with pytest.raises(InvalidSize):
        store.writer("r", size=size)
    assert list(store.active()) == []
    put(store)
    with pytest.raises(InvalidSize):
        store.expect_size("r", size)

    assert store.status("r").total is None


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1 ", "1.0", "0x10", "1_000", "٣", "9" * 20, str(2**63)]
)
def test_size_texts_that_are_none(text: str) -> None:
    """Only a plain decimal number below 2**63 is a size."""
    with pytest.raises(InvalidSize):
        parse_size(text)


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_size_texts(size: int) -> None:
    """A size is read as it is written."""
    assert parse_size(str(size)) == size
    assert parse_size(f"{size:019}") == size


def test_an_ingest_of_containerd(store: Store) -> None:
    """A foreign ingest, with times of Go and no lock or expectation, is listed and resumed."""
    folder = Path(store.root, "ingest", sha256(b"layer-sha256:00").hex)
    folder.mkdir(parents=True)
    (folder / "ref").write_bytes(b"layer-sha256:00")
    (folder / "data").write_bytes(CONTENT)
    (folder / "startedat").write_bytes(b"2026-01-02T03:04:05.12Z")
    (folder / "updatedat").write_bytes(b"2026-01-02T03:04:05.12+01:00")
    (folder / "total").write_bytes(b"7000")

    (status,) = store.active()
    assert (status.offset, status.total, status.locked) == (7000, 7000, False)
    with store.writer("layer-sha256:00") as writer:
        assert writer.commit() == sha256(CONTENT)
    assert list(Path(store.root, "ingest").iterdir()) == []


# ------------------------------------------------------------------------------------- crashes


def linked(store: Store, *, expected: bool) -> tuple[Path, Path]:
    """An ingest whose commit was cut short after its data was linked; its data and the blob."""
    with store.writer("r", expected=sha256(CONTENT) if expected else None) as writer:
        writer.write(CONTENT)
        writer.publish(writer.verify())
        writer.close()
    data = Path(store.layout.ingest(Ref("r")), "data")
    blob = Path(store.path(sha256(CONTENT)))
    assert os.path.samestat(data.stat(), blob.stat())
    return data, blob


def test_a_commit_cut_short_counts_as_done(store: Store) -> None:
    """Data that is the expected blob is no ingest any more; whoever comes next removes it."""
    data, _blob = linked(store, expected=True)

    assert list(store.active()) == []
    for call in (store.status, store.abort, store.settle):
        with pytest.raises(NotFound):
            call("r")
    assert not data.parent.exists()
    store.delete(sha256(CONTENT))
    data, _blob = linked(store, expected=True)
    with store.writer("r") as writer:
        assert (writer.offset, writer.expected) == (0, None)


def test_linked_data_is_never_written_through(store: Store) -> None:
    """Where nothing is expected the ingest goes on, in a file of its own; the blob is untouched."""
    data, blob = linked(store, expected=False)
    before = blob.stat()
    for change in ("write", "truncate", "reject", "other algorithm"):
        with store.writer("r") as writer:
            assert writer.offset == len(CONTENT)
            if change == "write":
                writer.write(b"more")
            elif change == "truncate":
                writer.truncate(len(CONTENT) + 100)
            elif change == "reject":
                with pytest.raises(DigestMismatch):
                    writer.commit(expected=sha256(b"x"))
            else:
                writer.commit(expected=Digest.of(CONTENT, "sha512"))
        after = blob.stat()
        assert blob.read_bytes() == CONTENT
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
        if change != "reject":
            assert not data.exists() or not os.path.samestat(data.stat(), after)
            Path(store.layout.ingest(Ref("r"))).joinpath("data").unlink(missing_ok=True)
            blob.unlink()
            data, blob = linked(store, expected=False)
            before = blob.stat()


def test_linked_data_whose_blob_was_deleted_is_an_ingest_again(store: Store) -> None:
    """Once the blob is gone, the bytes are those of the ingest."""
    linked(store, expected=True)
    store.delete(sha256(CONTENT))

    assert store.status("r").offset == len(CONTENT)
    assert store.settle("r") == sha256(CONTENT)


def test_what_an_older_ingest_left_is_not_expected_of_the_next(store: Store) -> None:
    """In a folder without data, an expectation that came too late does not outlive its ingest."""
    folder = put(store)
    store.abort("r")
    folder.mkdir()
    (folder / "expected").write_text(str(sha256(b"old")))
    (folder / "total").write_text("3")
    (folder / ".new-0000").write_text("half")

    with store.writer("r") as writer:
        assert (writer.expected, writer.total) == (None, None)
        writer.write(CONTENT)
    assert sorted(os.listdir(folder)) == ["data", "lock", "ref", "startedat", "updatedat"]


def test_temporary_files_of_a_crash_are_removed_with_the_ingest(store: Store) -> None:
    """Half-written files go when their ingest goes; what is not ours keeps the folder."""
    folder = put(store)
    (folder / ".new-12-0").write_text("half")
    (folder / "mine").write_text("keep")
    store.abort("r")

    assert os.listdir(folder) == ["mine"]
    assert list(store.active()) == []


# ----------------------------------------------------------------------------------- read-only


def test_a_read_only_store_creates_nothing(store: Store) -> None:
    """All that looks works, all that changes is refused, and no file is made or changed."""
    put(store)
    with store.writer("s") as writer:
        writer.write(CONTENT)
        writer.commit()
    put(store, "a@" + str(sha256(b"x")))
    looker = Store(store.root, read_only=True)
    before = tree(Path(store.root))
    assert len(list(looker.active())) == 2
    assert len(list(looker.walk())) == 1
    assert looker.digest_so_far("r") == sha256(CONTENT)
    for change in (
        lambda: looker.writer("r"),
        lambda: looker.abort("r"),
        lambda: looker.settle("r"),
        lambda: looker.rename("r", "t"),
        lambda: looker.expect_size("r", 1),
        lambda: looker.expect_digest("r", sha256(b"")),
        lambda: looker.delete(sha256(CONTENT)),
    ):
        with pytest.raises(ReadOnly, match="read-only"):
            change()

    assert tree(Path(store.root)) == before


def test_a_read_only_store_that_is_not_there(tmp_path: Path) -> None:
    """It lists as nothing, and is not made."""
    looker = Store(tmp_path / "none", read_only=True)

    assert (list(looker.walk()), list(looker.active())) == ([], [])
    assert not (tmp_path / "none").exists()


def test_to_look_for_an_ingest_makes_no_lock(store: Store) -> None:
    """To abort, rename or settle what is not there leaves no folder and no file."""
    put(store)
    before = tree(Path(store.root))
    for call in (store.abort, store.settle, lambda ref: store.writer(ref, create=False)):
        with pytest.raises(NotFound):
            call("none")
    with pytest.raises(NotFound):
        store.rename("none", "r")

    assert tree(Path(store.root)) == before


def test_a_rename_that_is_busy_leaves_both(store: Store) -> None:
    """Where the new ref is held, the old one keeps its bytes and expectations."""
    put(store)
    store.expect_size("r", 8000)
    with store.writer("held") as writer:
        with pytest.raises(Busy):
            store.rename("r", "held")
        writer.write(b"x")

    assert (store.status("r").total, store.status("r").offset) == (8000, len(CONTENT))
    assert store.status("held").offset == 1


def test_what_goes_along_with_a_rename(store: Store) -> None:
    """The time of its begin does, and a verdict if the same is expected under the new name."""
    put(store)
    store.expect_digest("r", sha256(b"x"))
    with pytest.raises(DigestMismatch):
        store.settle("r")
    started = store.status("r").started_ns
    store.rename("r", "s")
    assert store.status("s").started_ns == started
    assert (
        store.status("s").error
        == f"digest mismatch: expected {sha256(b'x')}, found {sha256(CONTENT)}"
    )
    store.expect_digest("s", None)
    store.expect_size("s", 9000)
    store.rename("s", f"t@{sha256(b'x')}")

    assert store.status(f"t@{sha256(b'x')}").error is None
    assert store.status(f"t@{sha256(b'x')}").expected == sha256(b"x")
