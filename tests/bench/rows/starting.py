"""Commands from their start: a mount until it answers, and dist list."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

from tests.bench import mounts
from tests.bench.lab import ENVIRONMENT, Lab, fill, run, timed
from tests.bench.model import OURS, Case, Goal, Kind, Row, Wrong, times

_TIMES: Final = 5  # a start is short: a sample is the median of so many
_MANY: Final = 100_000
_MORE: Final = 1_000_000
_PYTHON: Final = ("python3", "-c", "pass")


def _several(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(_TIMES))


def _python(lab: Lab) -> dict[str, float]:
    def once() -> float:
        lab.settle()
        return timed(lambda: run(*_PYTHON))

    return {"": _several(once) * 1e3}


# ------------------------------------------------------------------------------------------- mount


def _start(root: str, lab: Lab) -> float:
    point = lab.new_folder("mount")

    def work() -> None:
        subprocess.run([mounts.CONTENTFS, root, point], env=ENVIRONMENT, check=True)
        if sorted(os.listdir(point)) != ["blobs", "ingest"]:
            raise Wrong("the mount shows something else")

    lab.settle()
    try:
        seconds = timed(work)
    finally:
        servers = mounts.servers_of(point)
        mounts.unmount(point)
    for pid in servers:
        mounts.await_end(pid)
    os.rmdir(point)
    return seconds


def _start_cases(lab: Lab) -> Sequence[Case]:
    root = lab.new_folder("store")
    fill(root, [b"%d\n" % number for number in range(10)])
    ours = functools.partial(_start, root, lab)
    return (
        Case(OURS, lambda: {"": _several(ours) * 1e3}),
        Case("python3 -c pass", functools.partial(_python, lab)),
    )


# --------------------------------------------------------------------------------------- dist list


def _command(words: Sequence[str], count: int, lab: Lab) -> float:
    output = lab.new_path("names")
    lab.settle()
    seconds = timed(lambda: run(*words, output=output))
    with open(output, "rb") as file:
        lines = file.read().count(b"\n")
    os.unlink(output)
    if lines != count:
        raise Wrong(f"{' '.join(words)} tells of {lines} blobs instead of {count}")
    return seconds * 1e3


def _dist(lab: Lab) -> dict[str, float]:
    with lab.folder_for_now("store") as root:
        words = (mounts.DIST, "--root", root, "list", "-q")
        sample = {"empty store": _several(lambda: _command(words, 0, lab))}
    for full in (_MANY, _MORE):
        words = (mounts.DIST, "--root", lab.store_of(lab.count(full)), "list", "-q")
        sample[f"{full:,} blobs"] = _command(words, lab.count(full), lab)
    return sample


def _ls(lab: Lab) -> dict[str, float]:
    sample = {}
    for full in (_MANY, _MORE):
        folder = mounts.Mount(lab.store_of(lab.count(full))).blobs
        sample[f"{full:,} blobs"] = _command(("ls", "-U", folder), lab.count(full), lab)
    return sample


def _dist_cases(lab: Lab) -> Sequence[Case]:
    for full in (_MANY, _MORE):
        run("ls", "-U", mounts.Mount(lab.store_of(lab.count(full))).blobs)
    return (
        Case("dist list -q", functools.partial(_dist, lab)),
        Case("python3 -c pass", functools.partial(_python, lab)),
        Case("ls -U", functools.partial(_ls, lab)),
    )


ROWS: Final = (
    Row(
        "start",
        "contentfs, from its exec to the first answered listing",
        "ms",
        _start_cases,
        (Goal("python", (OURS, ""), Kind.MORE, 150, ("python3 -c pass", "")),),
    ),
    Row(
        "dist-list",
        "dist list -q of an empty store, of 100,000 and of 1,000,000 blobs",
        "ms",
        _dist_cases,
        (
            times("empty", ("dist list -q", "empty store"), 3, ("python3 -c pass", "")),
            *(
                times(str(full), ("dist list -q", measure), 3, ("ls -U", measure))
                for full in (_MANY, _MORE)
                for measure in (f"{full:,} blobs",)
            ),
        ),
    ),
)
