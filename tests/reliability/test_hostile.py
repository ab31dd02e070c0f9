"""Hostile clients and hostile folders: only the contract's errnos, no traceback, no way out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.reliability.fuzzing import fuzz_mount, outside
from tests.reliability.mounted import Mounted, can_mount, dist, seeds

pytestmark = can_mount


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    """A mount."""
    made = Mounted(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def tree(folder: Path) -> list[tuple[str, int, int]]:
    """Everything in a folder, with its size and time of change."""
    return sorted(
        (str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")
    )


@pytest.mark.parametrize("seed", seeds())
def test_random_calls_meet_only_what_the_contract_says(
    tmp_path: Path, mounted: Mounted, seed: int
) -> None:
    """For ten seconds: no other errno, no traceback, no hang, nothing changed outside the store."""
    canary = tmp_path / "canary"
    (canary / "ingest").mkdir(parents=True)
    (canary / "ingest" / "file").write_bytes(b"do not touch")
    before = tree(canary)
    seen = fuzz_mount(mounted, 10, seed)
    assert sum(seen.values()) > 500, seen
    assert tree(canary) == before
    assert outside(mounted.root) == []
    assert mounted.terminate() == 0
    assert "Traceback" not in mounted.text()


def _symlink(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "in it").touch()


PLANTS: list[Callable[[Path], None]] = [_symlink, _dangling, os.mkfifo, _folder]


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_among_the_blobs_is_not_followed(
    mounted: Mounted, plant: Callable[[Path], None]
) -> None:
    """It is not listed, not there to look at, never replaced: a commit of that digest is EIO."""
    content = b"wanted"
    name = sha256(content).hexdigest()
    folder = mounted.root / "blobs" / "sha256"
    folder.mkdir(parents=True)
    plant(folder / name)
    assert os.listdir(mounted.blobs) == []
    with pytest.raises(FileNotFoundError):
        (mounted.blobs / name).stat()
    ref = mounted.ingest / f"sha256:{name}"
    with pytest.raises(OSError, match="Input/output") as caught:
        ref.write_bytes(content)
    assert caught.value.errno == errno.EIO
    assert ref.read_bytes() == content
    assert not (folder / name).is_file() or (folder / name).is_symlink()
    assert dist(mounted.root, "get", f"sha256:{name}").returncode == 1
    assert "Traceback" not in mounted.text()


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_in_an_ingest_is_not_followed(
    mounted: Mounted, plant: Callable[[Path], None]
) -> None:
    """Nothing waits for it, nothing is written through it, and other ingests go on."""
    passwords = Path("/etc/passwd").read_bytes()
    for file in ("data", "lock", "ref", "expected", "total", "error"):
        one = mounted.ingest / f"with a planted {file}"
        one.write_bytes(b"bytes")
        folder = mounted.root / "ingest" / sha256(one.name.encode()).hexdigest()
        (folder / file).unlink(missing_ok=True)
        plant(folder / file)
        assert answers_of(one) <= {errno.ENOENT, errno.EIO}
        other = mounted.ingest / f"beside {file}"
        other.write_bytes(b"bytes")
        assert other.name in os.listdir(mounted.ingest)
    assert Path("/etc/passwd").read_bytes() == passwords
    assert "Traceback" not in mounted.text()


def answers_of(one: Path) -> set[int | None]:
    """The errnos with which what can be done with an ingest fails."""
    answers = set()
    for call in (
        one.stat,
        one.read_bytes,
        lambda: one.open("ab").close(),
        lambda: one.write_bytes(b"others"),
        lambda: os.setxattr(one, "user.content.expected-size", b"100"),
        lambda: one.rename(one.with_name(f"{one.name}, renamed")),
        one.unlink,
    ):
        try:
            call()
        except OSError as error:
            answers.add(error.errno)
    return answers


@pytest.mark.parametrize(
    "folder", ["blobs/sha256", f"ingest/{sha256(b'one').hexdigest()}"], ids=["blobs", "ingest"]
)
def test_a_folder_of_the_store_that_is_a_symlink_leads_nowhere(
    tmp_path: Path, mounted: Mounted, folder: str
) -> None:
    """What it points to is neither shown nor written to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = mounted.root / folder
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(elsewhere)
    assert os.listdir(mounted.ingest) == os.listdir(mounted.blobs) == []
    with pytest.raises(OSError, match="Input/output"):
        commit(mounted, b"x")
    assert os.listdir(elsewhere) == []
    assert "Traceback" not in mounted.text()


def commit(mounted: Mounted, content: bytes) -> None:
    """Store some bytes, after something under the ref ``one``."""
    (mounted.ingest / "one").write_bytes(content)
    (mounted.ingest / f"sha256:{sha256(content).hexdigest()}").write_bytes(content)
