"""Things that are no files, planted where files should be, are not followed nor waited on."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store import NotFound, NotRegular, Store
from tests.strategies import sha256

CONTENT = b"content" * 1000
SECRET = b"not to be seen, nor to be written to"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file outside of the store that no planted link may lead to."""
    path = tmp_path / "outside"
    path.write_bytes(SECRET)
    return path


@pytest.fixture(autouse=True)
def _nothing_happens_outside(outside: Path) -> Iterator[None]:
    yield
    assert outside.read_bytes() == SECRET


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _dangle(path: Path, outside: Path) -> None:
    path.symlink_to(outside.with_name("nowhere"))


def _fifo(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, outside: Path) -> None:
    path.mkdir()


def _socket(path: Path, outside: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    # The name of a socket must be short, and a path through /proc is.
    fd = os.open(path.parent, os.O_PATH)
    listener.bind(f"/proc/self/fd/{fd}/{path.name}")
    os.close(fd)
    listener.close()


PLANTS = {
    "symlink": _link,
    "dangling": _dangle,
    "fifo": _fifo,
    "folder": _folder,
    "socket": _socket,
}
Plant = Callable[[Path, Path], None]
plants = pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)


def remove(path: Path) -> None:
    """Remove a plant."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


def waiting(store: Store) -> Path:
    """The folder of an ingest that waits."""
    with store.writer("r", size=len(CONTENT), expected=sha256(CONTENT)) as writer:
        writer.write(CONTENT)
    return Path(store.layout.ingest(store.status("r").ref))


@plants
def test_for_a_blob(store: Store, plant: Plant, outside: Path) -> None:
    """It is not there to look at, EIO to open or to commit; the bytes are kept, and are no blob."""
    waiting(store)
    path = Path(store.layout.blob(sha256(CONTENT)))
    path.parent.mkdir(parents=True)
    plant(path, outside)

    assert list(store.walk()) == []
    assert not store.exists(sha256(CONTENT))
    for look in (store.info, store.path, store.delete):
        with pytest.raises(NotFound):
            look(sha256(CONTENT))
    with pytest.raises(NotRegular):
        store.open(sha256(CONTENT))
    with pytest.raises(NotRegular):
        store.settle("r")
    assert store.status("r").offset == len(CONTENT)
    remove(path)
    assert store.settle("r") == sha256(CONTENT)


@plants
@pytest.mark.parametrize("name", ["sha256", "blobs"])
def test_for_a_folder_of_blobs(store: Store, plant: Plant, name: str, outside: Path) -> None:
    """It lists as empty, and a commit fails with the bytes kept; an empty folder is one, though."""
    waiting(store)
    path = Path(store.layout.blobs if name == "blobs" else store.layout.algorithm(name))
    path.parent.mkdir(exist_ok=True)
    plant(path, outside)

    assert list(store.walk()) == []
    with pytest.raises(NotFound):
        store.open(sha256(CONTENT))
    if plant is not _folder:
        with pytest.raises(NotRegular):
            store.settle("r")
        assert store.status("r").offset == len(CONTENT)
        remove(path)
    assert store.settle("r") == sha256(CONTENT)


def test_for_a_folder_of_blobs_a_link_to_one(store: Store, tmp_path: Path) -> None:
    """A link to a folder elsewhere is not followed: nothing is listed, made or deleted there."""
    waiting(store)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / sha256(CONTENT).hex).write_bytes(CONTENT)
    path = Path(store.layout.algorithm("sha256"))
    path.parent.mkdir()
    path.symlink_to(elsewhere)

    assert list(store.walk()) == []
    with pytest.raises(NotFound):
        store.delete(sha256(CONTENT))
    with pytest.raises(NotRegular):
        store.settle("r")
    assert [each.name for each in elsewhere.iterdir()] == [sha256(CONTENT).hex]


@plants
def test_for_the_data_of_an_ingest(store: Store, plant: Plant, outside: Path) -> None:
    """The ingest is not there to look at, and EIO to open for writing."""
    folder = waiting(store)
    (folder / "data").unlink()
    plant(folder / "data", outside)

    assert list(store.active()) == []
    for look in (store.status, store.abort, store.digest_so_far, store.settle):
        with pytest.raises(NotFound):
            look("r")
    with pytest.raises(NotRegular):
        store.writer("r")
    remove(folder / "data")
    with store.writer("r") as writer:
        assert writer.offset == 0


@plants
def test_for_the_lock_of_an_ingest(store: Store, plant: Plant, outside: Path) -> None:
    """The ingest is listed, not held; and EIO to open for writing."""
    folder = waiting(store)
    (folder / "lock").unlink()
    plant(folder / "lock", outside)

    assert [status.locked for status in store.active()] == [False]
    with pytest.raises(NotRegular):
        store.writer("r")
    with pytest.raises(NotRegular):
        store.abort("r")
    remove(folder / "lock")
    assert store.settle("r") == sha256(CONTENT)


@plants
@pytest.mark.parametrize("name", ["total", "expected", "startedat", "updatedat", "error"])
def test_for_what_is_known_of_an_ingest(
    store: Store, plant: Plant, name: str, outside: Path
) -> None:
    """It counts as absent; the bytes are read and written on, and become a blob."""
    folder = waiting(store)
    (folder / name).unlink(missing_ok=True)
    plant(folder / name, outside)

    (status,) = store.active()
    assert (status.total is None) == (name == "total")
    assert (status.expected is None) == (name == "expected")
    assert (status.started_ns is None) == (name == "startedat")
    with_folder = plant is _folder and name == "startedat"
    if with_folder:
        with pytest.raises(NotRegular):
            store.writer("r")
        remove(folder / name)
    with store.writer("r") as writer:
        assert writer.offset == len(CONTENT)
        assert writer.commit() == sha256(CONTENT)
    assert list(store.active()) == []


@plants
@pytest.mark.parametrize("name", ["total", "expected"])
def test_in_the_way_of_what_is_to_be_set(
    store: Store, plant: Plant, name: str, outside: Path
) -> None:
    """To set an expectation replaces what is no folder, and never writes through it."""
    folder = waiting(store)
    (folder / name).unlink()
    plant(folder / name, outside)
    refusal = pytest.raises(NotRegular) if plant is _folder else contextlib.nullcontext()
    with refusal:
        if name == "total":
            store.expect_size("r", 3)
        else:
            store.expect_digest("r", sha256(b"x"))

    status = store.status("r")
    if plant is _folder:
        assert None in (status.total, status.expected)
    else:
        assert status.total == 3 or status.expected == sha256(b"x")


@plants
def test_for_the_ref_of_an_ingest(store: Store, plant: Plant, outside: Path) -> None:
    """The ingest is not listed; whoever asks for its ref finds the bytes, and it is repaired."""
    folder = waiting(store)
    (folder / "ref").unlink()
    plant(folder / "ref", outside)

    assert list(store.active()) == []
    if plant is _folder:
        with pytest.raises(NotRegular):
            store.writer("r")
        remove(folder / "ref")
    with store.writer("r") as writer:
        assert writer.offset == len(CONTENT)
    assert [str(status.ref) for status in store.active()] == ["r"]


@plants
@pytest.mark.parametrize("what", ["ingest", "all"])
def test_for_a_folder_of_ingests(store: Store, plant: Plant, what: str, outside: Path) -> None:
    """It lists as nothing, and an ingest there cannot be begun; an empty folder is one, though."""
    os.mkdir(store.root)
    path = Path(store.layout.ingests)
    if what == "ingest":
        path.mkdir()
        folder = waiting(store)
        store.abort("r")
        path = folder
    plant(path, outside)

    assert list(store.active()) == []
    for look in (store.status, store.abort):
        with pytest.raises(NotFound):
            look("r")
    if plant is not _folder:
        with pytest.raises(NotRegular):
            store.writer("r")
        remove(path)
    assert waiting(store).is_dir()


@plants
def test_under_the_new_ref_of_a_rename(store: Store, plant: Plant, outside: Path) -> None:
    """A rename onto an ingest whose data is no file replaces that, unless it is a folder."""
    waiting(store)
    with store.writer("new"):
        pass
    data = Path(store.layout.ingest(store.status("new").ref), "data")
    data.unlink()
    plant(data, outside)

    if plant is _folder:
        with pytest.raises(NotRegular):
            store.rename("r", "new")
        assert store.status("r").offset == len(CONTENT)
    else:
        store.rename("r", "new")
        assert store.status("new").offset == len(CONTENT)
