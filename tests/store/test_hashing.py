"""The running digest: never twice, beside the writes, and never of other bytes."""

from __future__ import annotations

import errno
import os
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import Digest, Store, UnsupportedAlgorithm
from store.hashing import HashCache, Running, signature
from tests.strategies import pieces, sha256

MIB = 1 << 20


def bytes_read() -> int:
    """How many bytes this process has read so far, as the kernel counts them."""
    with open("/proc/self/io", "rb") as counters:
        return int(counters.readline().split()[1])


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """An empty file."""
    fd = os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@given(parts=pieces, holes=st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_the_digest_is_that_of_the_bytes(
    parts: list[bytes], holes: list[int], tmp_path: Path
) -> None:
    """However the bytes come, small, large, after holes, the digest is theirs, at every moment."""
    fd = os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    running = Running("sha256")
    running.attach(fd, 0)
    content = b""
    for part, hole in zip(parts, holes, strict=False):
        gap = bytes(1 << hole) if hole > 3 else b""
        os.pwrite(fd, part, len(content) + len(gap))
        content += gap + part
        os.ftruncate(fd, len(content))
        running.grew(len(content), b"" if gap else part)
        if hole == 2:
            assert running.digest() == sha256(content)
    assert running.digest() == sha256(content)
    assert running.lag == 0
    running.detach()
    os.close(fd)


def test_large_writes_are_hashed_while_more_come(fd: int) -> None:
    """Without anybody asking for a digest, a thread catches up to less than a MiB."""
    running = Running("sha256")
    running.attach(fd, 0)
    content = os.urandom(MIB) * 8
    for at in range(0, len(content), 128 * 1024):
        os.pwrite(fd, content[at : at + 128 * 1024], at)
        running.grew(at + 128 * 1024, content[at : at + 128 * 1024])
    while any(thread.name == "hashing" for thread in threading.enumerate()):
        time.sleep(0)

    assert running.lag < MIB
    assert running.digest() == sha256(content)
    running.detach()


def test_a_digest_waits_for_no_more_than_there_is(fd: int) -> None:
    """Bytes that come while a digest is computed are in the next one."""
    running = Running("sha512")
    running.attach(fd, 0)
    os.pwrite(fd, bytes(5 * MIB), 0)
    running.grew(5 * MIB, b"")
    assert running.digest() == Digest.of(bytes(5 * MIB), "sha512")
    os.pwrite(fd, b"x", 5 * MIB)
    running.grew(5 * MIB + 1, b"x")

    assert running.digest() == Digest.of(bytes(5 * MIB) + b"x", "sha512")
    running.detach()


def test_starting_over(fd: int) -> None:
    """Once the file is empty again, only what comes after that counts."""
    running = Running("sha256")
    running.attach(fd, 0)
    os.pwrite(fd, bytes(9 * MIB), 0)
    running.grew(9 * MIB, b"")
    os.ftruncate(fd, 0)
    running.restart()
    assert running.digest() == sha256(b"")
    os.pwrite(fd, b"new", 0)
    running.grew(3, b"new")

    assert running.digest() == sha256(b"new")
    running.detach()


def test_bytes_that_went(fd: int) -> None:
    """A file that became shorter is EIO from the digest, each time, and never a wrong digest."""
    running = Running("sha256")
    running.attach(fd, 0)
    os.pwrite(fd, bytes(MIB), 0)
    running.grew(3 * MIB, b"")
    for _ in range(2):
        with pytest.raises(OSError, match="shorter") as caught:
            running.digest()
        assert caught.value.errno == errno.EIO
    os.pwrite(fd, bytes(2 * MIB), MIB)

    assert running.digest() == sha256(bytes(3 * MIB))
    running.detach()


def test_bytes_that_cannot_be_read_in_the_background(tmp_path: Path) -> None:
    """What fails in the thread is raised by the next digest, and the one after goes on."""
    path = tmp_path / "data"
    path.write_bytes(bytes(3 * MIB))
    blind = os.open(path, os.O_WRONLY)
    running = Running("sha256")
    running.attach(blind, 0)
    running.grew(3 * MIB, b"")
    with pytest.raises(OSError, match="Bad file descriptor"):
        running.digest()
    os.close(blind)
    sighted = os.open(path, os.O_RDONLY)
    running.attach(sighted, 3 * MIB)

    assert running.digest() == sha256(bytes(3 * MIB))
    running.detach()
    os.close(sighted)


def test_no_thread_to_be_had(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread, the digest is computed by who asks for it."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    running = Running("sha256")
    running.attach(fd, 0)
    os.pwrite(fd, bytes(3 * MIB), 0)
    running.grew(3 * MIB, b"")

    assert running.lag == 3 * MIB
    assert running.digest() == sha256(bytes(3 * MIB))
    running.detach()


def test_reading_again_what_was_copied(fd: int, tmp_path: Path) -> None:
    """A copy that holds what was hashed is believed; one that does not is EIO."""
    running = Running("sha256")
    running.attach(fd, 0)
    os.pwrite(fd, b"abcdef", 0)
    running.grew(3, b"abc")
    good = os.open(tmp_path / "good", os.O_RDWR | os.O_CREAT)
    bad = os.open(tmp_path / "bad", os.O_RDWR | os.O_CREAT)
    os.pwrite(good, b"abcxyz", 0)
    os.pwrite(bad, b"abxxyz", 0)

    again = running.reread(good, 6)
    assert again.digest() == sha256(b"abcxyz")
    with pytest.raises(OSError, match="not what was written"):
        running.reread(bad, 6)
    for each in (good, bad):
        os.close(each)


def test_unavailable_algorithms() -> None:
    """There is no running digest in an algorithm that is not here."""
    with pytest.raises(UnsupportedAlgorithm):
        Running("md5")


# ------------------------------------------------------------------------------ between writers


def test_to_resume_reads_nothing(store: Store) -> None:
    """The next writer of the same process commits without reading what the first has hashed."""
    content = os.urandom(MIB) * 20
    with store.writer("r") as writer:
        for at in range(0, len(content), MIB):
            writer.write(content[at : at + MIB])
        writer.digest()
    before = bytes_read()
    with store.writer("r") as writer:
        writer.write(b"end")
        assert writer.commit() == sha256(content + b"end")

    assert bytes_read() - before < MIB


def test_after_a_restart_everything_is_read_once(store: Store) -> None:
    """A process that has not hashed the bytes reads them once, and then not again."""
    content = os.urandom(MIB) * 20
    with store.writer("r") as writer:
        writer.write(content)
    fresh = Store(store.root)
    before = bytes_read()
    assert fresh.digest_so_far("r") == sha256(content)
    first = bytes_read()
    assert first - before >= len(content)
    fresh.rename("r", "s")
    with fresh.writer("s") as writer:
        assert writer.digest() == sha256(content)

    assert bytes_read() - first < 2 * len(content)


@pytest.mark.parametrize("how", ["in place", "in place, times restored", "by another file"])
def test_a_change_from_outside_is_noticed(store: Store, how: str) -> None:
    """The digest of an ingest that somebody else has changed since is computed anew."""
    with store.writer("r") as writer:
        writer.write(b"one" * 1000)
        writer.digest()
    data = Path(store.layout.ingest(store.status("r").ref), "data")
    before = data.stat()
    if how == "by another file":
        data.with_name("x").write_bytes(b"two" * 1000)
        data.with_name("x").rename(data)
    else:
        with data.open("r+b") as file:
            file.write(b"two" * 1000)
    if how == "in place, times restored":
        os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert store.digest_so_far("r") == sha256(b"two" * 1000)
    with store.writer("r") as writer:
        assert writer.commit() == sha256(b"two" * 1000)


def test_another_process_at_the_same_moment(store: Store) -> None:
    """Bytes of the same size that another process wrote within a clock tick are not mistaken."""
    other = Store(store.root)
    for n in range(50):
        with store.writer("r") as writer:
            writer.truncate(0)
            writer.write(b"%04d" % n)
            writer.digest()
        with other.writer("r") as writer:
            writer.truncate(0)
            writer.write(b"%04d" % (n + 1000))
        assert store.digest_so_far("r") == sha256(b"%04d" % (n + 1000))


def test_two_thousand_appends_cost_the_same(store: Store) -> None:
    """The last of 2,000 times open, append 4 KiB, close costs what the first ones do."""
    costs = []
    for n in range(2000):
        begin = time.perf_counter()
        with store.writer("r") as writer:
            writer.write(bytes([n % 251]) * 4096)
        costs.append(time.perf_counter() - begin)
    content = b"".join(bytes([n % 251]) * 4096 for n in range(2000))
    before = bytes_read()
    with store.writer("r") as writer:
        assert writer.commit() == sha256(content)

    assert bytes_read() - before < MIB
    assert statistics.median(costs[-200:]) < 3 * statistics.median(costs[:200])


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    """Of more than a thousand ingests the oldest is forgotten."""
    cache = HashCache()
    mark = signature(tmp_path.stat())
    for n in range(1025):
        cache.keep(str(n), mark, Running("sha256"))

    assert cache.take("0", mark) is None
    assert cache.take("1", mark) is not None
    assert cache.take("1", mark) is None
