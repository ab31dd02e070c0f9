"""The daemon ended while it is busy: nothing acknowledged is lost, all goes on, no lock is left."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.reliability.disks import mounted_disk
from tests.reliability.killing import ENDS, by_kill, run
from tests.reliability.mounted import Mounted, can_mount, eventually, seeds

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


def test_a_digest_of_a_terabyte_does_not_hold_up_the_end(tmp_path: Path, seed: int) -> None:
    """A signal ends the daemon in the middle of a verification, whose ingest is kept."""
    with mounted_disk("tmpfs", "64M", tmp_path) as root:
        mounted = Mounted(tmp_path, root=root)
        path = mounted.ingest / f"sha256:{seed:064x}"
        try:
            mounted.start()
            # Its close hashes all of it.
            client = subprocess.Popen(["truncate", "-s", "1T", path])
            assert eventually(lambda: path.exists() and path.stat().st_size == 1 << 40)
            begun = time.monotonic()
            assert mounted.terminate() == 0
            assert time.monotonic() - begun < _SECONDS
            client.wait(20)
            mounted.start()
            assert path.stat().st_size == 1 << 40
            path.unlink()
        finally:
            mounted.stop()
