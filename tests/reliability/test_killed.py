"""The daemon ended while it is busy: nothing acknowledged is lost, all goes on, no lock is left."""

from __future__ import annotations

import random
import subprocess
import time
from hashlib import sha256
from pathlib import Path

import pytest

from store import Store
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


def test_what_is_closed_right_before_umount_is_finished(tmp_path: Path, seed: int) -> None:
    """The kernel drops the RELEASEs of a mount that ends: nothing may depend on them."""
    mounted = Mounted(tmp_path)
    chance = random.Random(seed)
    whole = [chance.randbytes(3_000_000) for _ in range(10)]
    store = Store(mounted.root)
    for content in whole:
        with store.writer(f"sha256:{sha256(content).hexdigest()}") as writer:
            writer.write(content)
    try:
        mounted.start()
        for number in range(100):
            (mounted.ingest / f"plain {number}").write_bytes(chance.randbytes(10_000))
        for content in whole:
            # Nothing is written, so it is left to the RELEASE to hash it all and to decide.
            (mounted.ingest / f"sha256:{sha256(content).hexdigest()}").open("ab").close()
        assert mounted.unmount() == 0
    finally:
        mounted.stop()
    assert {status.ref.text for status in store.active()} == {f"plain {n}" for n in range(100)}
    assert {status.offset for status in store.active()} == {10_000}
    for content in whole:
        with store.open(f"sha256:{sha256(content).hexdigest()}") as blob:
            assert blob.read() == content
    assert "Traceback" not in mounted.text()
