"""``dist prune``: what is abandoned goes, and nothing else."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from store import ReadOnly, Ref, Store
from store.prune import abandoned, drop
from tests.dist.command import Dist, digest_of

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600


def leave(dist: Dist, ref: str, hours: float, data: bytes = b"x") -> Path:
    """Leave an ingest that was touched last so many hours ago, and say its folder."""
    with dist.store.writer(ref) as writer:
        writer.write(data)
    folder = dist.root / os.path.relpath(dist.store.layout.ingest(Ref(ref)), dist.root)
    make_old(folder, hours)
    return folder


def make_old(folder: Path, hours: float) -> None:
    """Have everything in a folder look as if it had been touched last so many hours ago."""
    then = time.time() - hours * HOUR
    for path in [*folder.iterdir(), folder]:
        os.utime(path, (then, then), follow_symlinks=False)


def active(dist: Dist) -> list[str]:
    """The refs of the ingests that there are."""
    return [status.ref.text for status in dist.store.active()]


def test_prune(dist: Dist) -> None:
    """Those older than a day go, are shown, and what they freed is said; the others stay."""
    leave(dist, "old", 25, bytes(3_000_000))
    leave(dist, "older", 100, bytes(1_000_000))
    leave(dist, "young", 23)
    blob = dist.put(b"blob")
    done = dist("prune")
    assert [line.split() for line in done.stdout.decode().splitlines()] == [
        ["REF", "SIZE", "AGE"],
        *sorted([["old", "3MB", "25", "hours"], ["older", "1MB", "4", "days"]], key=_by_folder),
    ]
    assert done.stderr == b"dist: freed 4MB in 2 ingests\n"
    assert active(dist) == ["young"]
    assert len(list((dist.root / "ingest").iterdir())) == 1
    assert dist.out("list", "-q").split() == [blob]


def _by_folder(row: list[str]) -> str:
    return digest_of(row[0].encode())


@pytest.mark.parametrize(
    ("older_than", "left"),
    [("24h", ["a", "b"]), ("90m", ["a"]), ("1h30m", ["a"]), ("0", []), ("7d", ["a", "b"])],
)
def test_older_than(dist: Dist, older_than: str, left: list[str]) -> None:
    """``--older-than`` says how long nobody must have touched one."""
    leave(dist, "a", 1)
    leave(dist, "b", 2)
    dist("prune", "--older-than", older_than)
    assert active(dist) == left


def test_dry_run(dist: Dist) -> None:
    """``--dry-run`` shows the same, and drops nothing."""
    leave(dist, "old", 25)
    dry = dist("prune", "--dry-run")
    assert active(dist) == ["old"]
    assert dry.stderr == b"dist: would free 1B in 1 ingest\n"
    assert dist("prune").stdout == dry.stdout


def test_json(dist: Dist) -> None:
    """``--json`` prints an object for each."""
    folder = leave(dist, "a/b\n", 25)
    then = folder.stat().st_mtime_ns
    shown = json.loads(dist.out("prune", "--json"))
    assert {key: shown[key] for key in ("ref", "folder", "size")} == {
        "ref": "a/b\n",
        "folder": folder.name,
        "size": 1,
    }
    assert shown["updatedAt"].endswith(f"{then % 10**9:09d}Z")


def test_nothing(dist: Dist) -> None:
    """Where there is nothing to do nothing is made, and that is no error."""
    for arguments in (["prune"], ["prune", "--dry-run"], ["prune", "--json"]):
        assert dist.out(*arguments) == ""
    assert not dist.root.exists()


def test_held(dist: Dist) -> None:
    """One that a writer holds stays, however long nobody has written to it."""
    folder = leave(dist, "held", 100)
    with dist.store.writer("held"):
        make_old(folder, 100)
        assert dist.out("prune", "--older-than", "0") == ""
        make_old(folder, 100)
        assert list(abandoned(dist.store, time.time_ns())) == []
    assert active(dist) == ["held"]


@pytest.mark.parametrize("touch", ["write", "expectation", "data"])
def test_touched(dist: Dist, touch: str) -> None:
    """What somebody has written to, or has set an expectation of, is not abandoned."""
    folder = leave(dist, "r", 100)
    if touch == "write":
        with dist.store.writer("r") as writer:
            writer.write(b"y")
    elif touch == "expectation":
        dist.store.expect_size("r", 10)
    else:
        os.utime(folder / "data")
    assert dist.out("prune") == ""
    assert active(dist) == ["r"]


class TestHalfMade:
    """What a crash left."""

    @pytest.mark.parametrize(
        "files", [[], ["lock"], ["ref"], ["ref", "lock", ".new-1-1"], ["total"]]
    )
    def test_no_data(self, dist: Dist, files: list[str]) -> None:
        """A folder without data goes, whatever else of ours is in it."""
        folder = dist.root / "ingest" / digest_of(b"r")[7:]
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).write_text("r")
        assert dist.out("prune") == ""
        make_old(folder, 25)
        assert len(dist.out("prune").splitlines()) == 2
        assert not folder.exists()

    @pytest.mark.parametrize("ref", [None, "", "another's", b"\xff", "fifo"])
    def test_no_ref(self, dist: Dist, ref: str | bytes | None) -> None:
        """A folder whose ref is missing or wrong goes with its bytes."""
        folder = leave(dist, "r", 0, b"12345")
        (folder / "ref").unlink()
        if ref == "fifo":
            os.mkfifo(folder / "ref")
        elif ref is not None:
            (folder / "ref").write_bytes(ref if isinstance(ref, bytes) else ref.encode())
        make_old(folder, 25)
        done = dist("prune", "--json")
        assert json.loads(done.stdout)["ref"] is None
        assert b"freed 5B in 1 ingest" in done.stderr
        assert not folder.exists()

    def test_cut_short_commit(self, dist: Dist) -> None:
        """A folder whose data is a blob already goes, and the blob stays."""
        digest = dist.put(b"x")
        for ref in (digest, "without an expectation"):
            folder = leave(dist, ref, 0)
            (folder / "data").unlink()
            os.link(dist.store.path(digest), folder / "data")
            make_old(folder, 25)
        (folder / "ref").unlink()
        make_old(folder, 25)
        assert b"freed 0B in 2 ingests" in dist("prune").stderr
        assert dist("get", digest).stdout == b"x"
        assert list((dist.root / "ingest").iterdir()) == []

    def test_held_without_ref(self, dist: Dist) -> None:
        """A folder that a writer is only making is left to it."""
        folder = leave(dist, "r", 0)
        with dist.store.writer("r"):
            (folder / "ref").unlink()
            make_old(folder, 25)
            assert dist.out("prune") == ""
        assert folder.exists()


def test_odd_files(dist: Dist) -> None:
    """What is none of ours stays, and is an error where it keeps an ingest's folder from going."""
    folder = leave(dist, "r", 0)
    (folder / "odd").write_text("odd")
    make_old(folder, 25)
    (dist.root / "ingest" / "odd").mkdir()
    make_old(dist.root / "ingest" / "odd", 25)
    assert "Directory not empty" in dist("prune", code=1).stderr.decode()
    assert [path.name for path in folder.iterdir()] == ["odd"]
    assert (dist.root / "ingest" / "odd").exists()


def test_taken_up_meanwhile(dist: Dist) -> None:
    """One that somebody holds, touches or removes after it was found is left to them."""
    store = dist.store
    leave(dist, "held", 25)
    leave(dist, "touched", 25)
    leave(dist, "gone", 25)
    leave(dist, "idle", 25)
    found = {each.ref.text: each for each in abandoned(store, time.time_ns()) if each.ref}
    with store.writer("touched") as writer:
        writer.write(b"y")
    store.abort("gone")
    with store.writer("held"):
        assert {ref: drop(store, each) for ref, each in found.items()} == {
            "held": False,
            "touched": False,
            "gone": False,
            "idle": True,
        }
    assert active(dist) == ["held", "touched"]
    with pytest.raises(ReadOnly):
        drop(Store(dist.root, read_only=True), found["held"])
