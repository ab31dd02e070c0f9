"""The daemon ended while it is busy: nothing acknowledged is lost, all goes on, no lock is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.killing import ENDS, by_kill, run
from tests.reliability.mounted import can_mount, seeds

pytestmark = [can_mount, pytest.mark.parametrize("seed", seeds())]

_SECONDS = 8.0


def test_a_killed_daemon_loses_nothing(tmp_path: Path, seed: int) -> None:
    """After each of six SIGKILLs under ten writers and ten readers everything goes on."""
    reckoning = run(tmp_path, seed, 6, by_kill)
    assert not reckoning.faults, f"seed {seed}: " + "\n".join(reckoning.faults)
    assert reckoning.stored > 10
    assert reckoning.read > 10


@pytest.mark.parametrize("end", ENDS)
def test_an_end_that_was_asked_for_is_clean(tmp_path: Path, seed: int, end: str) -> None:
    """A busy mount ends with status 0 within seconds, and everything goes on in the next."""
    reckoning = run(tmp_path, seed, 1, ENDS[end], each=4)
    assert not reckoning.faults, f"seed {seed}: " + "\n".join(reckoning.faults)
    assert reckoning.slowest < _SECONDS
