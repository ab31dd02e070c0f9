"""What memory is taken: by the mount after listings and during a long copy, and by dist list."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Final

from tests.bench import mounts
from tests.bench.lab import ENVIRONMENT, MIB, Lab, run
from tests.bench.model import OURS, Case, Goal, Kind, Row, Wrong, times

_MANY: Final = 100_000
_MORE: Final = 1_000_000
_LONG: Final = 4096 * MIB
_PAUSE: Final = 0.02  # seconds between two looks at a daemon during a copy
_MB: Final = 1e6

_ALLOWED: Final = 40.0  # MB
_ALLOWED_A_BLOB: Final = 0.0002  # MB


def _memory(pid: int, field: str) -> float | None:
    """A figure of a process in MB: VmRSS is what it has now, VmHWM the most it ever had."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * 1024 / _MB
    return None  # it has ended, and nobody has asked how


def _now(pid: int, field: str = "VmRSS") -> float:
    value = _memory(pid, field)
    if value is None:
        raise Wrong("the daemon has ended")
    return value


def _while_running(command: Sequence[str], look: Callable[[], object]) -> None:
    """Look again and again while a command runs."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    try:
        while process.poll() is None:
            look()
            time.sleep(_PAUSE)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise Wrong(f"{' '.join(command)} failed")


# ------------------------------------------------------------------------------------------- mount


def _listed(lab: Lab, full: int) -> dict[str, float]:
    root = lab.store_of(lab.count(full))
    with mounts.contentfs(lab, root) as mount:
        run("ls", "-l", mount.blobs)
        return {
            f"{full:,} listed": _now(mount.pid),
            f"{full:,} listed, peak": _now(mount.pid, "VmHWM"),
        }


def _copied(lab: Lab, name: str) -> dict[str, float]:
    size = lab.bytes(_LONG)
    with lab.folder_for_now("store") as root, mounts.contentfs(lab, root) as mount:
        started = _now(mount.pid)
        looks: list[float] = []
        target = os.path.join(mount.ingest, f"sha256:{name}")
        words = ("if=/dev/zero", f"of={target}", "bs=1M", f"count={size // MIB}", "status=none")
        _while_running(("dd", *words), lambda: looks.append(_now(mount.pid)))
        if os.stat(os.path.join(mount.blobs, name)).st_size != size:
            raise Wrong("the copy is not whole")
        quarter = len(looks) // 4
        return {
            "started": started,
            "copy, first quarter": max(looks[:quarter]),
            "copy, last quarter": max(looks[-quarter:]),
            "copy, peak": _now(mount.pid, "VmHWM"),
        }


def _ours(lab: Lab, name: str) -> dict[str, float]:
    return {**_listed(lab, _MANY), **_listed(lab, _MORE), **_copied(lab, name)}


def _cases(lab: Lab) -> Sequence[Case]:
    digest = hashlib.sha256()
    for _ in range(lab.bytes(_LONG) // MIB):
        digest.update(bytes(MIB))
    return (Case(OURS, functools.partial(_ours, lab, digest.hexdigest()), at_most=2),)


# --------------------------------------------------------------------------------------- dist list


def _dist_peak(lab: Lab, full: int) -> float:
    root = lab.store_of(lab.count(full))
    output = lab.new_path("names")
    peak = 0.0
    with open(output, "wb") as file:
        process = subprocess.Popen(
            [mounts.DIST, "--root", root, "list", "-q"], stdout=file, env=ENVIRONMENT
        )
        # The peak of wait4(2) would be ours where it is higher: it counts from before the exec.
        while process.poll() is None:
            peak = max(peak, _memory(process.pid, "VmHWM") or 0.0)
    with open(output, "rb") as file:
        lines = file.read().count(b"\n")
    os.unlink(output)
    if process.returncode != 0 or lines != lab.count(full):
        raise Wrong(f"dist list tells of {lines} blobs instead of {lab.count(full)}")
    return peak


def _dist(lab: Lab) -> dict[str, float]:
    return {f"{full:,}": _dist_peak(lab, full) for full in (_MANY, _MORE)}


def _dist_cases(lab: Lab) -> Sequence[Case]:
    return (Case("dist list -q", functools.partial(_dist, lab), at_most=3),)


def _limit(key: str, measure: str, limit: float) -> Goal:
    return Goal(key, (OURS, measure), Kind.LIMIT, limit)


ROWS: Final = (
    Row(
        "memory",
        "memory of the mount's server: blobs listed with ls -l, and a copy of 4 GiB",
        "MB",
        _cases,
        (
            *(
                _limit(
                    f"listed-{full}", f"{full:,} listed, peak", _ALLOWED + full * _ALLOWED_A_BLOB
                )
                for full in (_MANY, _MORE)
            ),
            _limit("copy", "copy, peak", _ALLOWED),
            times("flat", (OURS, "copy, last quarter"), 1.05, (OURS, "copy, first quarter")),
        ),
    ),
    Row(
        "dist-memory",
        "memory of dist list -q",
        "MB",
        _dist_cases,
        (times("flat", ("dist list -q", "1,000,000"), 1.1, ("dist list -q", "100,000")),),
    ),
)
