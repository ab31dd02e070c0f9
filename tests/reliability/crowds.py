"""What the tests of many clients share: crowds, how they end, and what a daemon remembers then."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NamedTuple

from tests.reliability.crowd import CALLS_OF_MIX
from tests.reliability.mounted import CHECKOUT, ENVIRONMENT, Mounted, eventually

_SCRIPT = CHECKOUT / "tests" / "reliability" / "crowd.py"
_PATIENCE = 90.0
_CACHES = "/proc/sys/vm/drop_caches"


def crowd(
    role: str, mounted: Mounted, name: str, threads: int, count: int
) -> subprocess.Popen[str]:
    """Start a process of ``threads`` clients that do ``count`` things each."""
    words = [role, str(mounted.point), name, str(threads), str(count)]
    return subprocess.Popen(
        [sys.executable, str(_SCRIPT), *words],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def all_well(processes: list[subprocess.Popen[str]], seconds: float = _PATIENCE) -> None:
    """Wait for processes, of which none may hang or fail."""
    try:
        for process in processes:
            said, _ = process.communicate(timeout=seconds)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def nothing_left(mounted: Mounted) -> None:
    """No file is open, no lock is held, and when the kernel has let go of all, nothing is known."""
    assert eventually(lambda: not mounted.held().files), mounted.held().files
    kept = ("files", "folders", "open blobs", "blob inodes", "ingest inodes", "refs")

    def forgotten() -> bool:
        with open(_CACHES, "w", encoding="ascii") as control:
            control.write("2")
        counts = mounted.counts()
        return not any(counts[what] for what in kept)

    # In a container only the machine may have the kernel let go.
    if os.access(_CACHES, os.W_OK):
        assert eventually(forgotten), mounted.counts()
    assert not mounted.locks()
    assert "Traceback" not in mounted.text()


class Phase(NamedTuple):
    """A part of a long run.

    Attributes:
        calls: the system calls made on the mount so far.
        memory: the daemon's resident memory after it, in bytes.
        files: the files that the daemon has open after it.
        counts: what the daemon remembers after it.
    """

    calls: int
    memory: int
    files: int
    counts: dict[str, int]


def endure(mounted: Mounted, calls: int, phases: int, seconds: float = _PATIENCE) -> list[Phase]:
    """Make ``calls`` system calls of every kind from four processes, and look now and then."""
    rounds = calls // (4 * phases * CALLS_OF_MIX) + 1
    seen = []
    for phase in range(phases):
        all_well([crowd("mix", mounted, f"{phase}.{n}", 1, rounds) for n in range(4)], seconds)
        held = mounted.held()
        done = (phase + 1) * rounds * 4 * CALLS_OF_MIX
        seen.append(Phase(done, held.memory, len(held.files), mounted.counts()))
    return seen
