"""A place to mount in, cleaned up after each test, and the command that mounts there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounting.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A store and a mountpoint; what is mounted below is unmounted in the end."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("mounting takes root and /dev/fuse")
    place = Place(tmp_path)
    yield place
    place.clean_up()
