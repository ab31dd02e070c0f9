"""A recorded run of the workload, and its survivals at many moments, judged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.reliability.mounted import ENVIRONMENT, eventually
from tests.reliability.power.disk import RecordedDisk
from tests.reliability.power.judge import judge

_HERE = Path(__file__).parent
_PATIENCE = 300.0


class Fault(NamedTuple):
    """A moment at which a promise was not kept.

    Attributes:
        moment: its place on the tape.
        what: the promise.
    """

    moment: int
    what: str


class Sweep(NamedTuple):
    """What a sweep has shown.

    Attributes:
        moments: at how many moments the power was cut.
        faults: what was wrong.
        stored: the blobs that had been acknowledged in the end.
    """

    moments: int
    faults: list[Fault]
    stored: int


def record(
    kind: str,
    work: Path,
    seed: int,
    *,
    threads: int = 1,
    count: int = 40,
    leave_out: str = "",
    places: Path | None = None,
) -> RecordedDisk:
    """Run the workload on a recorded disk, and cut the power at its end.

    Args:
        kind: the file system.
        work: an empty folder.
        seed: what the work is chosen by.
        threads: how many work at the same time.
        count: how many steps each does.
        leave_out: the place whose fsync is left out.
        places: a file to note all places in.
    """
    environment = {**ENVIRONMENT, "LEAVE_OUT": leave_out}
    if places is not None:
        environment["PLACES"] = str(places)
    disk = RecordedDisk(kind, work)
    point = work / "mnt"
    point.mkdir()
    with disk.recording():
        root = disk.point / "root"
        root.mkdir()
        words = [str(root), str(point), "-f", "--log-file", str(work / "log")]
        daemon = subprocess.Popen(
            [sys.executable, _HERE / "daemon.py", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        try:
            assert eventually(lambda: os.path.ismount(point)), "the mount does not come"
            words = [str(root), str(point), str(disk.marks), str(seed), str(threads), str(count)]
            subprocess.run(
                [sys.executable, _HERE / "workload.py", *words],
                env=environment,
                check=True,
                timeout=_PATIENCE,
            )
        finally:
            # The power goes: nothing more may reach the disk than what has.
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            subprocess.run(["umount", "-l", point], check=False)
    return disk


def sweep(disk: RecordedDisk, keep: str, most: int, *, first: bool = False) -> Sweep:
    """Judge what is left at many moments of a recording.

    Args:
        disk: the recording.
        keep: as of `RecordedDisk.survivals`.
        most: how many moments at the most.
        first: whether the first fault is enough.
    """
    faults: list[Fault] = []
    moments = stored = 0
    for moment, marks, point in disk.survivals(keep, most):
        moments += 1
        stored = len({mark for mark in marks if mark.startswith("stored ")})
        try:
            said = judge(point / "root", marks)
        except Exception as error:  # noqa: BLE001 - a store that cannot be looked at is a fault
            said = [f"{type(error).__name__}: {error}"]
        faults += [Fault(moment, what) for what in said]
        if first and faults:
            break
    return Sweep(moments, faults, stored)
