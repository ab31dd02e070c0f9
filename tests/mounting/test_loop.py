"""The loop under load: other tasks get their turn, and it ends when it is told to."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounting.place import SECONDS, Place

LOOPS = pytest.mark.parametrize("fast", ["0", "1"])


@contextlib.contextmanager
def load(path: Path, clients: int = 3) -> Iterator[list[int]]:
    """Ask for a path again and again in several processes, which are killed in the end."""
    processes = []
    for _ in range(clients):
        process = os.fork()
        if process == 0:
            with contextlib.suppress(OSError):
                while True:
                    os.stat(path)
            os._exit(0)
        processes.append(process)
    try:
        yield processes
    finally:
        for process in processes:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


@LOOPS
def test_it_ends_under_load(place: Place, fast: str) -> None:
    """The signal is heard while requests come without a pause."""
    place.odd()
    process = place.start(CONTENTFS_FAST_LOOP=fast)
    with load(place.point / "file"):
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert place.mounted is None


@LOOPS
def test_worker_threads_get_their_turn_under_load(place: Place, fast: str) -> None:
    """What waits for a thread is answered while requests come without a pause."""
    place.odd()
    process = place.start(CONTENTFS_FAST_LOOP=fast)
    with load(place.point / "file"):
        begun = time.monotonic()
        for _ in range(50):
            os.stat(place.point / "thread")
        assert time.monotonic() - begun < SECONDS / 2
    assert "stalled" not in place.log.read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


def test_clients_that_are_killed_do_not_stop_it(place: Place) -> None:
    """A request that has gone when it is to be read is not waited for."""
    place.odd()
    process = place.start(CONTENTFS_FAST_LOOP="1")
    for _ in range(60):
        with load(place.point / "file", clients=1):
            os.stat(place.point / "file")
        # Nobody asks for anything now, so nothing would wake it.
        assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert "stalled" not in place.log.read_text()
