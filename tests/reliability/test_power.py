"""The power fails: what was acknowledged is there, and all else is absent or can be gone on with.

The long run sweeps three file systems, and each fsync left out; this is a part of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.mounted import can_mount, seeds
from tests.reliability.power.sweep import record, sweep

pytestmark = [can_mount, pytest.mark.parametrize("seed", seeds())]


@pytest.mark.parametrize("keep", ["none", "random:1"])
def test_nothing_that_was_acknowledged_is_lost(tmp_path: Path, seed: int, keep: str) -> None:
    """Twenty moments of mixed work on ext4: blobs are there and whole, ingests go on."""
    disk = record("ext4", tmp_path, seed, count=15)
    found = sweep(disk, keep, 20)
    assert not found.faults, f"seed {seed}"
    assert found.stored > 5


@pytest.mark.parametrize("left_out", ["data._fsync fsync", "shared sha256"])
def test_an_fsync_that_is_left_out_is_noticed(tmp_path: Path, seed: int, left_out: str) -> None:
    """Without the fsync of the bytes, or of the folder of blobs, the same sweep fails."""
    disk = record("ext4", tmp_path, seed, count=5, leave_out=left_out)
    assert sweep(disk, "none", 20, first=True).faults, f"seed {seed}"
