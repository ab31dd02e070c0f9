"""Large files into the store: a whole one with cp, and one in small writes with dd."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Final

from tests.bench import mounts
from tests.bench.containerd import containerd
from tests.bench.lab import MIB, SMALL, Lab, Source, expect_digest, run, timed
from tests.bench.model import OURS, Case, Row, Wrong, faster, times

_COPY_SIZE: Final = 1024 * MIB
_WRITES_SIZE: Final = 128 * MIB

# -------------------------------------------------------------------------------------------- cp


def _copy(lab: Lab, source: Source) -> dict[str, float]:
    with lab.folder_for_now("store") as root:
        with mounts.contentfs(lab, root) as mount:
            lab.settle()
            target = os.path.join(mount.ingest, f"sha256:{source.hex}")
            seconds = timed(lambda: run("cp", source.path, target))
            if os.path.lexists(target):
                raise Wrong("the ingest was not committed by its close")
        expect_digest(os.path.join(root, "blobs", "sha256", source.hex), source.hex)
    return {"": seconds}


def _floor(lab: Lab, source: Source, verify: str, *, durable: bool) -> dict[str, float]:
    """Copy, verify with one of two programs, and make it durable or not."""
    with lab.folder_for_now("copy") as folder:
        target = os.path.join(folder, "copy")
        sums = os.path.join(folder, "sums")
        with open(sums, "w", encoding="ascii") as file:
            file.write(f"{source.hex}  {target}\n")

        def work() -> None:
            run("cp", source.path, target)
            if verify == "sha256sum":
                run("sha256sum", "--status", "-c", sums)
            elif verify == "hashlib":
                expect_digest(target, source.hex)
            if durable:
                run("sync", target, folder)

        lab.settle()
        seconds = timed(work)
        expect_digest(target, source.hex)
    return {"": seconds}


def _containerd(lab: Lab, source: Source) -> dict[str, float]:
    with containerd(lab) as daemon:
        lab.settle()
        seconds = timed(lambda: daemon.ingest(source))
        expect_digest(daemon.blob(source.hex), source.hex)
    return {"": seconds}


def _copy_cases(lab: Lab) -> Sequence[Case]:
    source = lab.source(lab.bytes(_COPY_SIZE))
    floor = functools.partial(_floor, lab, source)
    return (
        Case(OURS, functools.partial(_copy, lab, source)),
        Case("cp", functools.partial(floor, "", durable=False)),
        Case("cp; hashlib", functools.partial(floor, "hashlib", durable=False)),
        Case("cp; hashlib; fsync", functools.partial(floor, "hashlib", durable=True)),
        Case("cp; sha256sum; fsync", functools.partial(floor, "sha256sum", durable=True)),
        Case("ctr", functools.partial(_containerd, lab, source), at_most=3),
    )


# -------------------------------------------------------------------------------------------- dd


def _dd(source: Source, target: str) -> float:
    words = (f"if={source.path}", f"of={target}", f"bs={SMALL}", "status=none")
    return timed(lambda: run("dd", *words))


def _write_ours(lab: Lab, source: Source, *, commit: bool) -> dict[str, float]:
    with lab.folder_for_now("store") as root:
        with mounts.contentfs(lab, root) as mount:
            lab.settle()
            ref = f"sha256:{source.hex}" if commit else "plain"
            seconds = _dd(source, os.path.join(mount.ingest, ref))
        folder = hashlib.sha256(ref.encode()).hexdigest()
        stored = ("blobs", "sha256", source.hex) if commit else ("ingest", folder, "data")
        expect_digest(os.path.join(root, *stored), source.hex)
    return {"": seconds}


def _write_peer(lab: Lab, source: Source, name: str) -> dict[str, float]:
    with lab.folder_for_now("copy") as folder:
        with mounts.VIEWS[name](lab, folder) as mount:
            lab.settle()
            seconds = _dd(source, os.path.join(mount.path, "copy"))
        expect_digest(os.path.join(folder, "copy"), source.hex)
    return {"": seconds}


def _write_cases(lab: Lab) -> Sequence[Case]:
    source = lab.source(lab.bytes(_WRITES_SIZE))
    return (
        Case(OURS, functools.partial(_write_ours, lab, source, commit=True)),
        Case(f"{OURS}, uncommitted", functools.partial(_write_ours, lab, source, commit=False)),
        *(
            Case(name, functools.partial(_write_peer, lab, source, name))
            for name in ("bare", "bindfs", "passthrough_ll")
        ),
    )


ROWS: Final = (
    Row(
        "cp",
        "cp of 1 GiB into the mount, verified, committed, durable",
        "s",
        _copy_cases,
        (
            times("sha256sum", (OURS, ""), 0.5, ("cp; sha256sum; fsync", "")),
            times("hashlib", (OURS, ""), 1.0, ("cp; hashlib", "")),
            faster("ctr", (OURS, ""), 3, ("ctr", "")),
        ),
    ),
    Row(
        "dd",
        "dd bs=4k of 128 MiB into an ingest, hashed and committed",
        "s",
        _write_cases,
        (faster("bindfs", (OURS, ""), 2, ("bindfs", "")),),
    ),
)
