"""Blobs through each view: one large one from end to end, many small ones, and at random."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.bench import mounts
from tests.bench.lab import ENVIRONMENT, MIB, SMALL, Lab, expect_digest, fill, run, timed, warm
from tests.bench.model import OURS, Case, Missing, Row, Wrong, faster, times

BIG: Final = 1024 * MIB
_SMALL_BLOBS: Final = 10_000
RANDOM_BYTES: Final = 64 * MIB


def store_of_one(lab: Lab, size: int) -> tuple[str, str]:
    """A store that holds one blob: its root, and the blob's name in hex.

    The blob is another link of the shared source, whose bytes are in the page cache.
    """
    source = lab.source(size)
    root = lab.new_folder("store")
    fill(root, ())
    os.link(source.path, os.path.join(mounts.Mount(root).blobs, source.hex))
    return root, source.hex


def _cases_of(
    lab: Lab,
    measure: Callable[[Lab, str], Mapping[str, float]],
    names: Sequence[str] = tuple(mounts.VIEWS),
) -> list[Case]:
    return [Case(name, functools.partial(measure, lab, name)) for name in names]


# -------------------------------------------------------------------------------------- sequential


def read(path: str) -> float:
    """The seconds that dd takes for all of a file."""
    return timed(lambda: run("dd", f"if={path}", f"of={os.devnull}", "bs=1M", "status=none"))


def _sequential(root: str, name: str, lab: Lab, view: str) -> dict[str, float]:
    warm(os.path.join(mounts.Mount(root).blobs, name))
    with mounts.VIEWS[view](lab, root) as mount:
        path = os.path.join(mount.blobs, name)
        sample = {}
        for measure in ("cold", "again"):
            lab.settle()
            sample[measure] = read(path)
        expect_digest(path, name)
    return sample


def _sequential_cases(lab: Lab) -> Sequence[Case]:
    root, name = store_of_one(lab, lab.bytes(BIG))
    return _cases_of(lab, functools.partial(_sequential, root, name))


# ------------------------------------------------------------------------------------- small blobs


def _read_all(folder: str, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        fd = os.open(f"{folder}/{name}", os.O_RDONLY)
        found = os.read(fd, SMALL)
        os.close(fd)
        if found != content:
            raise Wrong(f"{name} has other bytes than were stored")


def _open(root: str, contents: Mapping[str, bytes], lab: Lab, view: str) -> dict[str, float]:
    _read_all(mounts.Mount(root).blobs, contents)
    sample = {}
    with mounts.VIEWS[view](lab, root) as mount:
        for measure in ("first", "again"):
            lab.settle()
            seconds = timed(lambda: _read_all(mount.blobs, contents))
            sample[measure] = seconds / len(contents) * 1e6
    return sample


def _open_cases(lab: Lab) -> Sequence[Case]:
    contents = [os.urandom(SMALL) for _ in range(lab.count(_SMALL_BLOBS))]
    root = lab.new_folder("store")
    names = fill(root, contents)
    return _cases_of(lab, functools.partial(_open, root, dict(zip(names, contents, strict=True))))


# ------------------------------------------------------------------------------------------ random


def fio(path: str, jobs: int, size: int) -> float:
    """The microseconds that fio takes for one read of 4 KiB, all jobs together.

    Args:
        path: the file.
        jobs: how many processes read at the same time.
        size: how many bytes they read in all.

    Raises:
        Missing: fio is not installed.
        Wrong: it did not read that much.
    """
    command = (
        *("fio", "--name=bench", f"--filename={path}", "--readonly", "--rw=randread"),
        *(f"--bs={SMALL}", "--ioengine=psync", f"--io_size={size // jobs}", f"--numjobs={jobs}"),
        *("--group_reporting", "--output-format=json", "--randrepeat=1", "--invalidate=1"),
    )
    try:
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True)
    except OSError as error:
        raise Missing("fio is not installed") from error
    except subprocess.CalledProcessError as error:
        raise Wrong(f"fio: {error.stderr.decode(errors='replace')}") from error
    (job,) = json.loads(done.stdout)["jobs"]
    if job["error"] or job["read"]["io_bytes"] != size:
        raise Wrong(f"fio read {job['read']['io_bytes']} bytes instead of {size}")
    return 1e6 / float(job["read"]["iops"])


def _random(root: str, name: str, lab: Lab, view: str) -> dict[str, float]:
    size = lab.bytes(RANDOM_BYTES)
    sample = {}
    for jobs in (1, 8):
        with mounts.VIEWS[view](lab, root) as mount:
            # fio empties the page cache of what it is given, which for the bare file is its own.
            warm(os.path.join(mounts.Mount(root).blobs, name))
            measure = "1 job" if jobs == 1 else f"{jobs} jobs"
            lab.settle()
            sample[measure] = fio(os.path.join(mount.blobs, name), jobs, size)
    return sample


def _random_cases(lab: Lab) -> Sequence[Case]:
    root, name = store_of_one(lab, lab.bytes(BIG))
    names = [view for view in mounts.VIEWS if view != "bare"]
    return _cases_of(lab, functools.partial(_random, root, name), names)


ROWS: Final = (
    Row(
        "open",
        "open, read and close of 10,000 blobs of 4 KiB, first and again",
        "µs",
        _open_cases,
        (
            times("first", (OURS, "first"), 1.0, ("bindfs", "first")),
            times("again", (OURS, "again"), 1.0, ("bindfs", "again")),
        ),
    ),
    Row(
        "read",
        "sequential read of a blob of 1 GiB, the mount's cache cold (the backing file's warm), and"
        " again",
        "s",
        _sequential_cases,
        (
            faster("cold-bindfs", (OURS, "cold"), 1.1, ("bindfs", "cold")),
            faster("cold-passthrough", (OURS, "cold"), 1.5, ("passthrough_ll", "cold")),
            faster("again-bindfs", (OURS, "again"), 2.5, ("bindfs", "again")),
            faster("again-passthrough", (OURS, "again"), 0.95, ("passthrough_ll", "again")),
        ),
    ),
    Row(
        "random",
        "random reads of 4 KiB, the mount's cache cold (fio, 1 and 8 jobs)",
        "µs",
        _random_cases,
        (
            faster("one", (OURS, "1 job"), 0.5, ("bindfs", "1 job")),
            faster("eight", (OURS, "8 jobs"), 0.5, ("bindfs", "8 jobs")),
        ),
    ),
)
