"""One writer a ref: across threads, processes, forks and deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import Busy, Closed, NotFound, Store
from store.locks import Holders
from tests.strategies import sha256

CONTENT = b"content" * 10_000

# Says when it holds the ref, and lets go of it when it is told to.
HOLDER = """
import sys, store
with store.Store(sys.argv[1]).writer("r") as writer:
    writer.write(b"held")
    print("held", flush=True)
    sys.stdin.readline()
"""

# Takes the ref as often as it can, and says when it has had it: monotonic time is the machine's.
TAKER = """
import sys, time, store
place = store.Store(sys.argv[1])
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    with place.writer("r", timeout=60) as writer:
        begin = time.monotonic_ns()
        writer.write(b"x")
        end = time.monotonic_ns()
    print(begin, end, flush=True)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python program with arguments; it is killed in the end."""
    started = []

    def start(program: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


Start = Callable[..., subprocess.Popen[str]]


def said(process: subprocess.Popen[str]) -> str:
    """The next line of a program."""
    assert process.stdout is not None
    return process.stdout.readline()


def tell(process: subprocess.Popen[str]) -> None:
    """Let a program go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def overlaps(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those intervals that begin before an earlier one has ended."""
    found = []
    last = 0
    for begin, end in sorted(intervals):
        if begin < last:
            found.append((begin, end))
        last = max(last, end)
    return found


def test_another_process_holds_it(store: Store, start: Start) -> None:
    """While another process holds a ref, every change of it is Busy, and names that process."""
    holder = start(HOLDER, store.root)
    assert said(holder) == "held\n"

    for attempt in (store.writer, store.abort, store.settle):
        with pytest.raises(Busy) as caught:
            attempt("r")
        assert caught.value.pid == holder.pid
    with pytest.raises(Busy):
        store.rename("r", "s")
    with store.writer("s"), pytest.raises(Busy):
        store.rename("s", "r")
    assert [(str(each.ref), each.locked) for each in store.active()] == [("r", True), ("s", False)]
    tell(holder)
    holder.wait()
    with store.writer("r") as writer:
        assert writer.offset == 4


def test_a_killed_holder_leaves_no_lock(store: Store, start: Start) -> None:
    """The lock of a process that is killed is free at once, and its bytes are there."""
    holder = start(HOLDER, store.root)
    said(holder)
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert [each.locked for each in store.active()] == [False]
    with store.writer("r") as writer:
        assert writer.offset == 4


def test_waiting_for_a_holder(store: Store, start: Start) -> None:
    """With a timeout a writer is to be had once the other lets go, and not before."""
    holder = start(HOLDER, store.root)
    said(holder)
    begin = time.monotonic()
    with pytest.raises(Busy):
        store.writer("r", timeout=0.1)
    assert time.monotonic() - begin >= 0.1

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.writer, "r", timeout=60)
        tell(holder)
        with waiting.result() as writer:
            assert writer.offset == 4


def test_two_processes_and_twenty_threads_on_one_ref(store: Store, start: Start) -> None:
    """Never do two hold the ref at the same moment, and no byte is lost."""
    takers = [start(TAKER, store.root, "20") for _ in range(2)]
    for taker in takers:
        tell(taker)

    def take() -> tuple[int, int]:
        with store.writer("r", timeout=60) as writer:
            begin = time.monotonic_ns()
            writer.write(b"x")
            return begin, time.monotonic_ns()

    with ThreadPoolExecutor(20) as pool:
        intervals = [each.result() for each in [pool.submit(take) for _ in range(60)]]
    for taker in takers:
        for line in taker.communicate()[0].splitlines():
            begin, end = line.split()
            intervals.append((int(begin), int(end)))

    assert len(intervals) == 100
    assert overlaps(intervals) == []
    assert store.status("r").offset == 100


def test_twenty_threads_commit_one_digest(store: Store) -> None:
    """The same content under twenty refs at once is one blob, and success for each of them."""
    ready = threading.Barrier(20)

    def ingest(n: int) -> str:
        with store.writer(f"r{n}", expected=sha256(CONTENT)) as writer:
            writer.write(CONTENT)
            ready.wait()
            return str(writer.commit())

    with ThreadPoolExecutor(20) as pool:
        results = set(pool.map(ingest, range(20)))

    assert results == {str(sha256(CONTENT))}
    assert [info.size for info in store.walk()] == [len(CONTENT)]
    assert list(store.active()) == []


def test_twenty_threads_begin_in_a_fresh_root(tmp_path: Path) -> None:
    """The folders that they all need first are made by one of them, and found by the others."""
    with ThreadPoolExecutor(20) as pool:
        for n in range(100):
            fresh = Store(tmp_path / str(n))
            ready = threading.Barrier(20)

            def begin(ref: str, fresh: Store = fresh, ready: threading.Barrier = ready) -> None:
                ready.wait()
                fresh.writer(ref).close()

            list(pool.map(begin, [f"r{i}" for i in range(20)]))


def test_begin_and_drop_at_the_same_time(store: Store) -> None:
    """Whoever begins a ref that another drops at that moment gets one that is in the list."""
    rounds = 150
    ready = threading.Barrier(2)

    def drop() -> None:
        for _ in range(rounds):
            ready.wait()
            try:
                store.abort("r")
            except (Busy, NotFound):
                continue

    def begin() -> None:
        for _ in range(rounds):
            ready.wait()
            with store.writer("r", timeout=60) as writer:
                writer.truncate(0)
                writer.write(CONTENT[:100])
                assert store.status("r").offset == 100
                assert store.status("r").locked

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(drop), pool.submit(begin)]:
            each.result()


def test_a_child_inherits_no_lock(store: Store) -> None:
    """A forked child holds nothing: what its parent lets go of is free while the child lives on."""
    writer = store.writer("r")
    writer.write(b"parent")
    gate, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        os.read(gate, 1)
        os._exit(0)
    os.close(gate)
    writer.close()
    with store.writer("r") as again:
        assert again.offset == 6
    os.close(release)
    assert os.waitpid(child, 0)[1] == 0


def test_a_copy_of_a_writer_in_a_child_is_closed(store: Store) -> None:
    """In a forked child the parent's writer can do nothing, and to close it hurts nobody."""
    writer = store.writer("r")
    writer.write(b"parent")
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            with pytest.raises(Closed):
                writer.write(b"child")
            with pytest.raises(Busy):
                store.writer("r")
            writer.abort()
            writer.close()
            outcome = 0
        finally:
            os._exit(outcome)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(Busy):
        store.writer("r")
    writer.write(b" again")
    assert writer.commit() == sha256(b"parent again")


def test_looking_takes_no_lock(store: Store) -> None:
    """Who looks at the holders, as often as they like, never makes a writer fail."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            list(store.active())

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        for _ in range(100):
            with store.writer("r") as writer:
                writer.write(b"x")
        stop.set()
        for each in looking:
            each.result()


def test_nobody_holds_what_is_no_file(tmp_path: Path) -> None:
    """A folder has no holder, whatever its inode."""
    assert Holders().pid(tmp_path.stat()) is None
