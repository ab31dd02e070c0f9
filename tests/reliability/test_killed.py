"""The daemon killed: nothing acknowledged is lost, every ingest goes on, no lock is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.killing import run
from tests.reliability.mounted import can_mount, seeds

pytestmark = can_mount


@pytest.mark.parametrize("seed", seeds())
def test_a_killed_daemon_loses_nothing(tmp_path: Path, seed: int) -> None:
    """After each of six SIGKILLs under ten writers and ten readers everything goes on."""
    reckoning = run(tmp_path, seed, kills=6)
    assert not reckoning.faults, f"seed {seed}: " + "\n".join(reckoning.faults)
    assert reckoning.stored > 10
    assert reckoning.read > 10
