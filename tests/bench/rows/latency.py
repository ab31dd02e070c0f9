"""How long another client waits for a stat while a large file is read or written."""

from __future__ import annotations

import functools
import itertools
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Final

from tests.bench import mounts
from tests.bench.lab import ENVIRONMENT, MIB, Lab, Source, drop_caches, fill, run, warm
from tests.bench.model import OURS, Case, Goal, Kind, Row, Wrong

_BIG: Final = 1024 * MIB
_BLOBS: Final = 20_000
_PAUSE: Final = 0.0005  # seconds between two stats


def _waits(command: Sequence[str], paths: Iterator[str]) -> dict[str, float]:
    """Stat one path after the other while a command runs: the median and the 99th percentile.

    Each path is a new one, so that none is answered by the kernel alone.
    """
    waits = []
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=ENVIRONMENT)
    try:
        while process.poll() is None:
            path = next(paths)
            begin = time.perf_counter()
            os.stat(path)
            waits.append(time.perf_counter() - begin)
            time.sleep(_PAUSE)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise Wrong(f"{' '.join(command)} failed")
    return {
        "p50": statistics.median(waits) * 1e3,
        "p99": statistics.quantiles(waits, n=100, method="inclusive")[-1] * 1e3,
        "most": max(waits) * 1e3,
    }


def _read(root: str, names: Sequence[str], big: str, lab: Lab, view: str) -> dict[str, float]:
    stored = mounts.Mount(root).blobs
    lab.settle()
    drop_caches()
    run("ls", "-l", stored)  # the stats are not to wait for the disk
    with mounts.VIEWS[view](lab, root) as mount:
        lab.settle()
        paths = (os.path.join(mount.blobs, name) for name in itertools.cycle(names))
        path = os.path.join(mount.blobs, big)
        return _waits(("dd", f"if={path}", f"of={os.devnull}", "bs=1M", "status=none"), paths)


def _copy(root: str, names: Sequence[str], source: Source, lab: Lab, view: str) -> dict[str, float]:
    warm(source.path)
    run("ls", "-l", mounts.Mount(root).blobs)
    with mounts.VIEWS[view](lab, root) as mount:
        lab.settle()
        paths = (os.path.join(mount.blobs, name) for name in itertools.cycle(names))
        # A peer is given a path that it may write to.
        ref = f"sha256:{source.hex}" if view == OURS else "copy"
        sample = _waits(("cp", source.path, os.path.join(mount.ingest, ref)), paths)
    stored = mounts.Mount(root)
    copy = (stored.blobs, source.hex) if view == OURS else (stored.ingest, "copy")
    if os.stat(os.path.join(*copy)).st_size != source.size:
        raise Wrong("the copy is not whole")
    os.unlink(os.path.join(*copy))
    return sample


def _cases(lab: Lab) -> Sequence[Case]:
    source = lab.source(lab.bytes(_BIG))
    root = lab.new_folder("store")
    names = fill(root, (b"%d\n" % number for number in range(_BLOBS)))
    (big,) = fill(root, [b"to be replaced"])
    folder = mounts.Mount(root).blobs
    os.unlink(os.path.join(folder, big))
    # The bytes are the source's own, but the mount is not asked for a digest here.
    os.link(source.path, os.path.join(folder, big))

    def both(view: str) -> dict[str, float]:
        read, copy = _read(root, names, big, lab, view), _copy(root, names, source, lab, view)
        return {
            **{f"read, {name}": value for name, value in read.items()},
            **{f"cp, {name}": value for name, value in copy.items()},
        }

    return [Case(view, functools.partial(both, view), at_most=3) for view in mounts.VIEWS]


ROWS: Final = (
    Row(
        "latency",
        "another client's stat during a cold read, and during a cp, of 1 GiB",
        "ms",
        _cases,
        (
            Goal("read", (OURS, "read, p99"), Kind.LIMIT, 5),
            Goal("cp", (OURS, "cp, p99"), Kind.LIMIT, 5),
        ),
    ),
)
