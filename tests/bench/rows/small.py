"""Many small files into the store, by one writer and by four."""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from typing import Final

from tests.bench import mounts
from tests.bench.containerd import containerd
from tests.bench.lab import SMALL, Lab, Source
from tests.bench.model import OURS, Case, Row, Wrong, faster, times

_FILES: Final = 1000
_WRITERS: Final = 4
_CTR_FILES: Final = 100  # it takes long, and the cost of one is the same

_Content = tuple[str, bytes]
_Write = Callable[[str, _Content], None]


def _contents(count: int) -> list[_Content]:
    """Bytes that no store has yet, with their SHA-256."""
    parts = (os.urandom(SMALL) for _ in range(count))
    return [(hashlib.sha256(part).hexdigest(), part) for part in parts]


def _write_ours(folder: str, content: _Content) -> None:
    name, data = content
    path = os.path.join(folder, f"sha256:{name}")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, data)
    os.close(fd)


def _write_floor(folder: str, content: _Content) -> None:
    """The least that makes a file appear whole and durable."""
    name, data = content
    path = os.path.join(folder, name)
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)
    os.rename(f"{path}.new", path)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def _writer(write: _Write, folder: str, contents: Sequence[_Content], start: Barrier) -> None:
    start.wait()
    for content in contents:
        write(folder, content)


def _in_turn(write: _Write, folder: str, contents: Sequence[_Content], writers: int) -> float:
    """Let processes write their shares at the same time; the seconds until the last is done."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(writers + 1)
    shares = [contents[number::writers] for number in range(writers)]
    processes = [
        context.Process(target=_writer, args=(write, folder, share, start)) for share in shares
    ]
    for process in processes:
        process.start()
    start.wait()
    begin = time.perf_counter()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - begin
    if any(process.exitcode for process in processes):
        raise Wrong("a writer failed")
    return seconds


def _check(folder: str, contents: Sequence[_Content]) -> None:
    for name, data in contents:
        with open(os.path.join(folder, name), "rb") as file:
            if file.read() != data:
                raise Wrong(f"{name} has other bytes than were written")


def _measure(write: _Write, lab: Lab, folder: str, stored: str, writers: int) -> dict[str, float]:
    contents = _contents(lab.count(_FILES))
    lab.settle()
    seconds = _in_turn(write, folder, contents, writers)
    _check(stored, contents)
    return {"a file": seconds / len(contents) * 1e3}


def _ours(lab: Lab, writers: int) -> dict[str, float]:
    with lab.folder_for_now("store") as root, mounts.contentfs(lab, root) as mount:
        return _measure(_write_ours, lab, mount.ingest, mounts.Mount(root).blobs, writers)


def _floor(lab: Lab, writers: int) -> dict[str, float]:
    with lab.folder_for_now("floor") as folder:
        return _measure(_write_floor, lab, folder, folder, writers)


def _containerd(lab: Lab) -> dict[str, float]:
    contents = _contents(lab.count(_CTR_FILES))
    with lab.folder_for_now("files") as folder, containerd(lab) as daemon:
        sources = []
        for name, data in contents:
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(data)
            sources.append(Source(path, len(data), name))
        lab.settle()
        begin = time.perf_counter()
        for source in sources:
            daemon.ingest(source)
        seconds = time.perf_counter() - begin
        for source in sources:
            if os.stat(daemon.blob(source.hex)).st_size != source.size:
                raise Wrong("containerd has a file of another size")
    return {"a file": seconds / len(contents) * 1e3}


def _cases(lab: Lab) -> Sequence[Case]:
    return (
        Case(OURS, functools.partial(_ours, lab, 1)),
        Case("write, fsync, rename, fsync", functools.partial(_floor, lab, 1)),
        Case(f"{OURS}, four writers", functools.partial(_ours, lab, _WRITERS)),
        Case("the same, four writers", functools.partial(_floor, lab, _WRITERS)),
        Case("ctr", functools.partial(_containerd, lab), at_most=3),
    )


ROWS: Final = (
    Row(
        "small",
        "1,000 files of 4 KiB through the mount, verified and durable, by one writer and by four",
        "ms",
        _cases,
        (
            times(
                "floor",
                (OURS, "a file"),
                1.5,
                ("write, fsync, rename, fsync", "a file"),
                disk_only=True,
            ),
            faster("four", (f"{OURS}, four writers", "a file"), 2, (OURS, "a file")),
            faster("ctr", (OURS, "a file"), 5, ("ctr", "a file")),
        ),
    ),
)
