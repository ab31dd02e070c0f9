"""An ingest that is opened, appended to and closed again and again."""

from __future__ import annotations

import functools
import hashlib
import os
import statistics
import time
from collections.abc import Sequence
from typing import Final

from tests.bench import mounts
from tests.bench.lab import SMALL, Lab
from tests.bench.model import OURS, Case, Row, Wrong, times

_APPENDS: Final = 2000
_REF: Final = "log"


def _append(path: str, part: bytes) -> float:
    begin = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, part)
    os.close(fd)
    return time.perf_counter() - begin


def _appends(lab: Lab, view: str) -> dict[str, float]:
    parts = [os.urandom(SMALL) for _ in range(lab.count(_APPENDS))]
    tenth = len(parts) // 10
    with lab.folder_for_now("store") as root:
        stored = os.path.join(root, "ingest")
        os.mkdir(stored)
        with mounts.VIEWS[view](lab, root) as mount:
            lab.settle()
            path = os.path.join(mount.ingest, _REF)
            took = [_append(path, part) for part in parts]
        if view == OURS:
            stored = os.path.join(stored, hashlib.sha256(_REF.encode()).hexdigest())
        with open(os.path.join(stored, "data" if view == OURS else _REF), "rb") as file:
            if file.read() != b"".join(parts):
                raise Wrong("other bytes than were appended")
    return {
        "the first tenth": statistics.fmean(took[:tenth]) * 1e6,
        "the last tenth": statistics.fmean(took[-tenth:]) * 1e6,
    }


def _cases(lab: Lab) -> Sequence[Case]:
    return [Case(view, functools.partial(_appends, lab, view)) for view in mounts.VIEWS]


ROWS: Final = (
    Row(
        "append",
        "2,000 appends of 4 KiB to an ingest, opened and closed each time",
        "µs",
        _cases,
        (times("flat", (OURS, "the last tenth"), 1.2, (OURS, "the first tenth")),),
    ),
)
