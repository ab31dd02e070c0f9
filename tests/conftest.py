"""What every test stands on: a place for a store, and a look at what the test has left behind."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from store import Store
from tests.fsck import fsck

# A run is the same each time; what is to be searched, `--hypothesis-profile=deep` searches.
settings.register_profile(
    "quick",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile(
    "deep", settings.get_profile("quick"), derandomize=False, max_examples=5000
)
settings.load_profile("quick")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Where a store may be, not made yet; whatever is there in the end must be a sound one."""
    place = tmp_path / "root"
    yield place
    fsck(place)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder for who makes hundreds of stores: in memory where there is such a file system."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def store(root: Path) -> Store:
    """A store in `root`."""
    return Store(root)


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        # The listing's own descriptor is gone by now.
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _threads() -> set[threading.Thread]:
    # Trio keeps its worker threads for ten seconds in case there is more work.
    return {each for each in threading.enumerate() if not each.name.startswith("Trio thread")}


@pytest.fixture(autouse=True)
def _nothing_left_over(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A test leaves no descriptor, no thread, and no log line that it has not cleared."""
    descriptors = _descriptors()
    threads = _threads()
    yield
    for thread in _threads() - threads:
        thread.join(5)
    assert not _threads() - threads
    if set(_descriptors()) - set(descriptors):
        gc.collect()
    assert {fd: name for fd, name in _descriptors().items() if fd not in descriptors} == {}
    logged = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in logged] == []
