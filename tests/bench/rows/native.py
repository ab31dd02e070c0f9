"""Reads that the kernel answers by itself: `-o native_blobs` beside the bare file."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Sequence
from typing import Final

from tests.bench import mounts
from tests.bench.lab import ENVIRONMENT, SMALL, Lab, drop_caches, expect_digest
from tests.bench.model import OURS, Case, Missing, Row, faster
from tests.bench.rows.reading import BIG, RANDOM_BYTES, fio, read, store_of_one

_OPTION: Final = "native_blobs"


def _measure(blob: str, lab: Lab) -> dict[str, float]:
    size = lab.bytes(RANDOM_BYTES)
    reads = size // SMALL
    lab.settle()
    drop_caches()
    sample = {}
    for measure in ("cold", "again"):
        lab.settle()
        sample[measure] = read(blob)
    lab.settle()
    sample["at random"] = fio(blob, 1, size) * reads / 1e6
    expect_digest(blob, os.path.basename(blob))
    return sample


def _bare(root: str, name: str, lab: Lab) -> dict[str, float]:
    return _measure(os.path.join(mounts.Mount(root).blobs, name), lab)


def _ours(root: str, name: str, lab: Lab) -> dict[str, float]:
    known = subprocess.check_output([mounts.CONTENTFS, "--help"], env=ENVIRONMENT, text=True)
    if _OPTION not in known:
        raise Missing(f"this contentfs has no -o {_OPTION}")
    with mounts.contentfs(lab, root, "-o", _OPTION) as mount:
        blob = os.path.join(mount.blobs, name)
        return _measure(blob, lab)


def _cases(lab: Lab) -> Sequence[Case]:
    root, name = store_of_one(lab, lab.bytes(BIG))
    return (
        Case("bare", functools.partial(_bare, root, name, lab)),
        Case(OURS, functools.partial(_ours, root, name, lab)),
    )


ROWS: Final = (
    Row(
        "native",
        "a blob of 1 GiB under -o native_blobs: from the disk, again, and 64 MiB at random",
        "s",
        _cases,
        [
            faster(measure, (OURS, measure), 0.95, ("bare", measure))
            for measure in ("cold", "again", "at random")
        ],
    ),
)
