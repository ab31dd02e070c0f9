"""The system calls that change a store."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import NotRegular, disk
from store.sharedsync import SharedSync
from tests.faults import Counting, Failing, Os, using


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """An open, empty folder, `place`."""
    (tmp_path / "folder").mkdir()
    fd = disk.open_dir(str(tmp_path / "folder"))
    yield fd
    os.close(fd)


@pytest.fixture
def place(tmp_path: Path, folder: int) -> Path:
    """The path of `folder`."""
    return tmp_path / "folder"


def test_descriptors_are_not_inherited(place: Path) -> None:
    """What is opened here no child process gets."""
    fd = disk.open_regular(str(place / "f"), os.O_RDWR | os.O_CREAT)

    assert not os.get_inheritable(fd)
    os.close(fd)


def test_a_small_file(place: Path, folder: int) -> None:
    """It is made once, replaced in one step, read whole; what is not there reads as None."""
    disk.create_small("f", folder, b"one")
    with pytest.raises(FileExistsError):
        disk.create_small("f", folder, b"two")
    assert disk.read_small("f", folder) == b"one"
    disk.replace_small("f", folder, b"two")

    assert disk.read_small("f", folder) == b"two"
    assert disk.read_small("g", folder) is None
    assert os.listdir(place) == ["f"]


def test_what_cannot_be_read_is_not_taken_for_absent(folder: int) -> None:
    """A file that is there and cannot be opened, here for want of descriptors, is an error."""
    disk.create_small("f", folder, b"one")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (folder + 1, limits[1]))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(folder))
        with pytest.raises(OSError, match="Too many"):
            disk.read_small("f", folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)


@pytest.mark.parametrize("step", range(3))
def test_a_replacement_that_fails(place: Path, folder: int, step: int) -> None:
    """Whichever step fails, the old content stays, and no temporary file."""
    disk.create_small("f", folder, b"old")
    with using(Failing(step, errno.ENOSPC)), pytest.raises(OSError, match="No space"):
        disk.replace_small("f", folder, b"new")

    assert disk.read_small("f", folder) == b"old"
    assert os.listdir(place) == ["f"]


def test_a_write_that_the_disk_takes_in_parts(place: Path) -> None:
    """All of it is written, however little the disk takes at once."""

    class Mean(Os):
        """Writes at most three bytes at a time."""

        def pwrite(self, fd: int, data: bytes, at: int) -> int:
            """Write some."""
            return os.pwrite(fd, memoryview(data).cast("B")[:3], at)

    fd = disk.open_regular(str(place / "f"), os.O_RDWR | os.O_CREAT)
    with using(Mean()):
        disk.write_all(fd, b"ten bytes!", 2)
    os.close(fd)

    assert (place / "f").read_bytes() == b"\0\0ten bytes!"


def test_a_failed_fsync_is_final(place: Path, folder: int) -> None:
    """An fsync that failed fails again, without a try, until the file is written anew or empty."""
    for cure in ("renew", "truncate"):
        fd = disk.open_regular(cure, os.O_RDWR | os.O_CREAT, dir_fd=folder)
        os.write(fd, b"bytes")
        with using(Failing(0, errno.EIO)), pytest.raises(OSError, match="Input/output"):
            disk.fsync(fd)
        with using(Counting()) as calls, pytest.raises(OSError, match="earlier fsync"):
            disk.fsync(fd)
        assert calls.steps == []
        assert disk.is_doubtful(os.fstat(fd))
        if cure == "renew":
            os.close(fd)
            fd = disk.renew(cure, folder)
            assert (place / cure).read_bytes() == b"bytes"
        else:
            disk.truncate(fd, 0)
        assert not disk.is_doubtful(os.fstat(fd))
        disk.fsync(fd)
        os.close(fd)


def test_the_fsync_of_a_small_file_that_failed_is_honest_the_next_time(
    place: Path, folder: int
) -> None:
    """When it is tried again, another file of the same bytes stands there."""
    disk.create_small("f", folder, b"bytes")
    before = (place / "f").stat()
    with using(Failing(0, errno.EIO)), pytest.raises(OSError, match="Input/output"):
        disk.fsync_name("f", folder)

    assert (place / "f").stat().st_ino != before.st_ino
    assert (place / "f").read_bytes() == b"bytes"
    disk.fsync_name("f", folder)


def test_a_copy_that_is_refused(place: Path, folder: int) -> None:
    """Where the check of a renewed file fails, the old file stays, and nothing else."""
    disk.create_small("f", folder, b"bytes")
    before = (place / "f").stat()

    def check(copy: int) -> None:
        assert os.pread(copy, 100, 0) == b"bytes"
        raise OSError(errno.EIO, "not these")

    with pytest.raises(OSError, match="not these"):
        disk.renew("f", folder, check)
    assert os.path.samestat((place / "f").stat(), before)
    assert os.listdir(place) == ["f"]


def test_names(place: Path, folder: int) -> None:
    """To make, link or remove what is there, or is not there, says so."""
    assert disk.make_dir(str(place / "d"))
    assert not disk.make_dir(str(place / "d"))
    disk.create_small("f", folder, b"")
    assert disk.link("f", folder, str(place / "d" / "g"))
    assert not disk.link("f", folder, str(place / "d" / "g"))
    disk.rmdir(str(place / "d"))
    assert disk.unlink("f", dir_fd=folder)
    assert not disk.unlink("f", dir_fd=folder)
    assert not disk.unlink("d", dir_fd=folder)
    assert disk.unlink(str(place / "d" / "g"))
    disk.rmdir(str(place / "d"))
    disk.rmdir(str(place / "d"))
    assert os.listdir(place) == []


def test_only_what_is_in_doubt_is_superseded(place: Path, folder: int) -> None:
    """A file takes the place of one whose fsync failed, and of no other."""
    disk.create_small("new", folder, b"bytes")
    disk.create_small("old", folder, b"bytes")
    old = str(place / "old")
    assert not disk.supersede("new", folder, str(place / "none"))
    assert not disk.supersede("new", folder, old)
    fd = disk.open_regular(old, os.O_RDONLY)
    with using(Failing(0, errno.EIO)), pytest.raises(OSError, match="Input/output"):
        disk.fsync(fd)
    os.close(fd)

    assert disk.supersede("new", folder, old)
    assert os.listdir(place) == ["old"]
    assert not disk.is_doubtful(os.stat(old))


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT])
def test_only_regular_files_are_opened(place: Path, flags: int) -> None:
    """A fifo, a folder and a link are NotRegular, at once and whatever the mode."""
    os.mkfifo(place / "fifo")
    (place / "folder").mkdir()
    (place / "link").symlink_to(place / "folder")
    for name in ("fifo", "folder", "link", "/dev/null"):
        with pytest.raises(NotRegular):
            disk.open_regular(str(place / name), flags)
    for name in ("fifo", "link"):
        with pytest.raises(NotRegular):
            disk.open_dir(str(place / name))
    with pytest.raises(FileNotFoundError):
        disk.open_dir(str(place / "none"))


# ------------------------------------------------------------------------------- shared syncs


class Gated(Os):
    """Each fsync says that it has begun, and waits until it may go on; some fail.

    Attributes:
        begun: as many as have begun.
        errors: what the fsyncs raise, in order; None for nothing.
    """

    def __init__(self, *errors: BaseException | None) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.errors = list(errors)

    def fsync(self, fd: int) -> None:
        """Wait."""
        self.steps.append("fsync")
        self.begun.release()
        self.go_on.acquire()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


def waiting_for(condition: threading.Condition, count: int) -> bool:
    """Whether so many threads wait."""
    return len(condition._waiters) == count  # type: ignore[attr-defined]


def crowd(
    sync: SharedSync, disk_gate: Gated, pool: ThreadPoolExecutor
) -> list[BaseException | None]:
    """One sync under way, five who ask meanwhile, then the gate opens; what each of them got."""
    asked = [pool.submit(sync)]
    disk_gate.begun.acquire()
    asked += [pool.submit(sync) for _ in range(5)]
    while not waiting_for(sync._turn, 5):
        os.sched_yield()
    for _ in range(10):
        disk_gate.go_on.release()
    return [each.exception() for each in asked]


def test_who_asks_during_a_sync_waits_for_the_next(place: Path) -> None:
    """Five who ask while one is under way are served by one more, which begins after they asked."""
    with using(Gated()) as gate, ThreadPoolExecutor(6) as pool:
        assert crowd(SharedSync(str(place)), gate, pool) == [None] * 6

    assert gate.steps == ["fsync", "fsync"]


def test_a_shared_sync_that_fails(place: Path) -> None:
    """All whom it served get the error; the one before is not concerned."""
    failure = OSError(errno.EIO, "Input/output error")
    with using(Gated(None, failure)) as gate, ThreadPoolExecutor(6) as pool:
        found = crowd(SharedSync(str(place)), gate, pool)

    assert found[0] is None
    assert [type(each) for each in found[1:]] == [OSError] * 5
    assert {each.errno for each in found[1:] if isinstance(each, OSError)} == {errno.EIO}


def test_a_shared_sync_whose_thread_is_interrupted(place: Path) -> None:
    """The others are not told that it succeeded: another of them syncs for all."""
    with using(Gated(None, InterruptedError())) as gate, ThreadPoolExecutor(6) as pool:
        gate.errors[1] = KeyboardInterrupt()
        found = crowd(SharedSync(str(place)), gate, pool)

    assert gate.steps == ["fsync"] * 3
    assert sorted(type(each).__name__ for each in found) == ["KeyboardInterrupt"] + ["NoneType"] * 5
