"""The faults of the first content store of 2017, and of its successors: none of them is here."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from store import Busy, Closed, Digest, DigestMismatch, InvalidDigest, NotFound, Store
from store.layout import Layout
from tests.faults import Counting, Failing, Ledger, using
from tests.strategies import sha256

CONTENT = b"content" * 1000


def blob_path(store: Store, content: bytes = CONTENT) -> Path:
    """Where a blob lies."""
    return Path(Layout(store.root).blob(sha256(content)))


def folder(store: Store, ref: str) -> Path:
    """Where an ingest lies."""
    return Path(store.layout.ingest(store.status(ref).ref))


def transact(store: Store) -> None:
    """Begin, write and commit."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        writer.commit()


def test_the_offset_counts_what_was_written(store: Store) -> None:
    """A write that the disk takes only half of counts for nothing, and can be repeated."""
    with store.writer("r") as writer:
        writer.write(b"first")
        with using(Failing(0, 28)), pytest.raises(OSError, match="No space"):
            writer.write(CONTENT)
        assert writer.offset == 5
        assert folder(store, "r").joinpath("data").read_bytes() == b"first"
        writer.write(CONTENT)
        assert writer.commit() == sha256(b"first" + CONTENT)


def test_a_failed_commit_leaves_the_data_writable(store: Store) -> None:
    """After a wrong digest the same writer, and the next one, can write on."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        with pytest.raises(DigestMismatch):
            writer.commit(expected=sha256(b"other"))
        assert folder(store, "r").joinpath("data").stat().st_mode & stat.S_IWUSR
        writer.write(b"more")
    with store.writer("r") as writer:
        writer.write(b"end")
        assert writer.commit() == sha256(CONTENT + b"moreend")


@pytest.mark.parametrize("step", range(12))
def test_an_error_path_keeps_no_lock(store: Store, step: int) -> None:
    """Wherever a transaction fails, the ref is free once its writer is closed."""
    with using(Failing(step, 5)), pytest.raises(OSError, match="Input/output"):
        transact(store)

    with store.writer("r", size=len(CONTENT)) as writer:
        writer.truncate(0)
        writer.write(CONTENT)
        writer.commit()


def test_the_lock_is_no_pid_file(store: Store) -> None:
    """A lock file that a crash or a stranger left holds nobody up, whatever is in it."""
    with store.writer("r"):
        pass
    folder(store, "r").joinpath("lock").write_text("1\n")

    with store.writer("r") as writer:
        writer.write(CONTENT)


def test_a_new_ref_is_locked_before_anything_is_in_its_folder(store: Store) -> None:
    """The first file that a new ingest has is its lock."""
    with using(Counting()) as calls, store.writer("r"):
        pass

    opened = [step for step in calls.steps if step.startswith("open")]
    assert opened[0] == "open lock"


def test_a_killed_ingest_blocks_nothing(store: Store) -> None:
    """After its writer was killed, an ingest is resumed at the bytes that it holds."""
    program = (
        "import os, sys, store; w = store.Store(sys.argv[1]).writer('r'); w.write(b'half');"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writing:
        assert writing.stdout is not None
        writing.stdout.readline()
        with pytest.raises(Busy) as caught:
            store.writer("r")
        assert caught.value.pid == writing.pid
        writing.send_signal(signal.SIGKILL)
        writing.wait()

    with store.writer("r") as writer:
        assert writer.offset == 4
        writer.write(b" whole")
        assert writer.commit() == sha256(b"half whole")


def test_a_commit_replaces_no_blob(store: Store) -> None:
    """Content that is there already stays the file that it is."""
    for ref in ("first", "second"):
        with store.writer(ref) as writer:
            writer.write(CONTENT)
            writer.commit()
        if ref == "first":
            before = blob_path(store).stat()

    assert os.path.samestat(before, blob_path(store).stat())
    assert blob_path(store).stat().st_mtime_ns == before.st_mtime_ns


def test_the_folder_is_synced(store: Store) -> None:
    """When a commit returns, its name is durable, and so are those of the folders above."""
    with using(Ledger()) as ledger, store.writer("r") as writer:
        writer.write(CONTENT)
        writer.commit()

    assert ledger.at_risk(str(blob_path(store)), str(Path(store.root).parent)) == []


def test_the_lock_is_let_go_of_last(store: Store) -> None:
    """A commit removes everything else of its ingest before the lock, and then the folder."""
    with store.writer("r", size=len(CONTENT), expected=sha256(CONTENT)) as writer:
        writer.write(CONTENT)
        with using(Counting()) as calls:
            writer.commit()

    removed = [step for step in calls.steps if step.split()[0] in ("unlink", "rmdir")]
    assert removed[0] == "unlink data"
    assert [step.split()[0] for step in removed[-2:]] == ["unlink", "rmdir"]
    assert removed[-2] == "unlink lock"


@pytest.mark.parametrize(
    "text", ["sha256:", "sha256:../../x", "sha256:..", "", "../..", "sha256:/"]
)
def test_digests_are_checked_before_they_are_paths(store: Store, text: str) -> None:
    """A malformed digest deletes, opens and finds nothing: it is refused."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        writer.commit()
    Path(store.root, "x").write_bytes(b"mine")

    for method in (store.delete, store.open, store.path, store.info, store.exists):
        with pytest.raises(InvalidDigest):
            method(text)
    assert blob_path(store).exists()
    assert Path(store.root, "x").exists()


@pytest.mark.parametrize("made", ["nothing", "root", "folders"])
def test_a_fresh_store_lists_as_nothing(store: Store, made: str) -> None:
    """A store of which nothing, or only empty folders, is there has no blobs and no ingests."""
    if made != "nothing":
        os.mkdir(store.root)
    if made == "folders":
        os.mkdir(store.layout.blobs)
        os.mkdir(store.layout.ingests)

    assert (list(store.walk()), list(store.active()), list(store.digests())) == ([], [], [])
    with pytest.raises(NotFound):
        store.info(sha256(b""))
    with pytest.raises(NotFound):
        store.status("r")
    assert os.path.exists(store.root) == (made != "nothing")


def test_an_odd_file_breaks_no_listing(store: Store) -> None:
    """Whatever else lies in a store's folders, its blobs and ingests are listed."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        writer.commit()
    with store.writer("waiting"):
        pass
    blobs, ingests = Path(store.layout.blobs), Path(store.layout.ingests)
    for place in (blobs, blobs / "sha256", ingests, folder(store, "waiting")):
        (place / "odd").write_bytes(b"")
        (place / ("f" * 63)).mkdir()
        (place / os.fsdecode(b"\xff")).write_bytes(b"")
        (place / "loop").symlink_to("loop")
        os.mkfifo(place / "fifo")
    (blobs / "sha256" / ("0" * 64)).mkdir()
    (blobs / "sha256" / ("1" * 64)).symlink_to(blob_path(store))
    (ingests / ("0" * 64)).mkdir()
    (ingests / ("1" * 64)).write_bytes(b"")

    assert [info.digest for info in store.walk()] == [sha256(CONTENT)]
    assert [str(status.ref) for status in store.active()] == ["waiting"]
    (blobs / "sha256" / ("0" * 64)).rmdir()
    (blobs / "sha256" / ("1" * 64)).unlink()


def test_to_resume_is_not_to_restart(store: Store) -> None:
    """A writer that comes back stands at the end of what is there, and goes on from it."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
    with store.writer("r") as writer:
        assert writer.offset == len(CONTENT)
        writer.write(b"!")
        assert writer.commit() == sha256(CONTENT + b"!")


def test_a_second_commit_frees_nobody_elses_lock(store: Store) -> None:
    """A writer that has committed is closed, and cannot touch the next writer of its ref."""
    first = store.writer("r")
    first.write(CONTENT)
    first.commit()
    with store.writer("r") as second:
        with pytest.raises(Closed):
            first.commit()
        first.close()
        first.abort()
        with pytest.raises(Busy):
            store.writer("r")
        second.write(b"mine")

    assert store.status("r").offset == 4


def test_a_half_made_ingest_breaks_no_listing_and_blocks_no_ref(store: Store) -> None:
    """Folders that lack any of their files do not keep others from the list, nor their own ref."""
    for ref in ("whole", "empty", "no ref", "empty ref", "wrong ref", "bad total"):
        with store.writer(ref, expected=sha256(CONTENT)) as writer:
            writer.write(CONTENT)
    paths = {ref: folder(store, ref) for ref in ("empty", "no ref", "empty ref", "wrong ref")}
    folder(store, "bad total").joinpath("total").write_bytes(b"lots")
    for path in paths["empty"].iterdir():
        path.unlink()
    paths["no ref"].joinpath("ref").unlink()
    paths["empty ref"].joinpath("ref").write_bytes(b"")
    paths["wrong ref"].joinpath("ref").write_bytes(b"whole")

    assert [str(status.ref) for status in store.active()] == ["bad total", "whole"]
    assert store.status("bad total").total is None
    for ref in ("no ref", "empty ref", "wrong ref", "bad total", "whole"):
        with store.writer(ref) as writer:
            assert writer.commit() == sha256(CONTENT)
    with store.writer("empty") as writer:
        assert (writer.offset, writer.expected) == (0, None)
    assert [str(status.ref) for status in store.active()] == ["empty"]


def test_digests_of_all_kinds_are_kept_apart(store: Store) -> None:
    """The same bytes under two algorithms are two blobs, and one is deleted without the other."""
    for name in ("sha256", "sha512"):
        with store.writer("r", expected=Digest.of(CONTENT, name)) as writer:
            writer.write(CONTENT)
            writer.commit()
    store.delete(Digest.of(CONTENT, "sha512"))

    assert list(store.digests()) == [sha256(CONTENT)]
