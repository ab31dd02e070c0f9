"""A file system on a recorded disk, and what a loss of power would have left of it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.reliability.mounted import ENVIRONMENT, eventually
from tests.reliability.power.recorder import ENTRY, FLUSH, MARK, WRITE

_MKFS: Final = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "nodiscard"],
    "xfs": ["mkfs.xfs", "-q", "-K"],
    "btrfs": ["mkfs.btrfs", "-q", "-K"],
}
_SIZES: Final = {"ext4": 96 << 20, "xfs": 320 << 20, "btrfs": 256 << 20}
# Neither the commit every five seconds nor the guess about renames is to save what was not synced.
_OPTIONS: Final = {"ext4": "commit=300,noauto_da_alloc", "xfs": "nouuid", "btrfs": "commit=300"}
_SECTORS: Final = 4096


class Entry(NamedTuple):
    """An entry of the tape.

    Attributes:
        kind: `WRITE`, `FLUSH` or `MARK`.
        offset: where in the image, in bytes.
        data: what was written, or said.
    """

    kind: bytes
    offset: int
    data: bytes


def read_tape(path: Path) -> list[Entry]:
    """All entries, in their order."""
    entries = []
    with path.open("rb") as tape:
        while len(head := tape.read(ENTRY.size)) == ENTRY.size:
            kind, offset, length = ENTRY.unpack(head)
            entries.append(Entry(kind, offset, tape.read(length)))
    return entries


class RecordedDisk:
    """A file system of a kind, fresh, on a disk that keeps a record.

    Attributes:
        kind: ``ext4``, ``xfs`` or ``btrfs``.
        point: where it is mounted.
        marks: the file to write marks to.
    """

    def __init__(self, kind: str, work: Path) -> None:
        """Choose the places; nothing is made yet."""
        self.kind = kind
        self._work = work
        self._fresh = work / "fresh"
        self._live = work / "live"
        self._tape = work / "tape"
        self._fuse = work / "recorder"
        self.point = work / "disk"
        self.marks = self._fuse / "marks"

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Have it mounted, and recorded.  In the end it is unmounted, which is not on the tape.

        Skips where the machine cannot do that.
        """
        self._make()
        server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("recorder.py"), self._live, self._tape,
             self._fuse],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            if not eventually(lambda: os.path.ismount(self._fuse) or server.poll() is not None):
                pytest.fail("the recorder does not mount")
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(mounted(self.kind, self._fuse / "disk", self.point))
                except subprocess.CalledProcessError as error:
                    pytest.skip(f"no loop device to be had: {error.stderr}")
                yield
                end = self._tape.stat().st_size
            os.truncate(self._tape, end)
        finally:
            unmount(self._fuse)
            server.wait(20)

    def _make(self) -> None:
        if shutil.which(_MKFS[self.kind][0]) is None:
            pytest.skip(f"{_MKFS[self.kind][0]} is not installed")
        for folder in (self._fuse, self.point):
            folder.mkdir()
        with self._fresh.open("wb") as image:
            image.truncate(_SIZES[self.kind])
        _run(*_MKFS[self.kind], self._fresh)
        copy_sparse(self._fresh, self._live)

    def survivals(self, keep: str, most: int) -> Iterator[tuple[int, list[str], Path]]:
        """Each moment just before a flush, and the end: what was said by then, and what is left.

        Args:
            keep: what becomes of the writes that no flush covers: ``none`` of them survives,
                ``all`` do, or ``random:SEED`` decides for each 4 KiB.
            most: so many moments at the most, evenly spread.

        Yields:
            The place on the tape, the marks before it, and the folder where what is left is
            mounted, until the next is asked for.
        """
        tape = read_tape(self._tape)
        said = next(at for at, entry in enumerate(tape) if entry.kind == MARK)
        moments = [at for at, entry in enumerate(tape) if entry.kind == FLUSH and at > said]
        moments.append(len(tape))
        if len(moments) > most:
            step = (len(moments) - 1) / (most - 1)
            moments = sorted({moments[round(number * step)] for number in range(most)})
        durable, crashed, point = (self._work / name for name in ("durable", "crashed", "crash"))
        copy_sparse(self._fresh, durable)
        point.mkdir(exist_ok=True)
        done = 0
        marks: list[str] = []
        for moment in moments:
            flushed = max(
                (at for at in range(done, moment) if tape[at].kind == FLUSH), default=done
            )
            write_entries(durable, tape[done:flushed], "all")
            marks += [e.data.decode().rstrip("\n") for e in tape[done:moment] if e.kind == MARK]
            copy_sparse(durable, crashed)
            write_entries(crashed, tape[flushed:moment], f"{keep}/{moment}")
            # What is between the flush and this moment is looked at again for the next.
            marks_kept = sum(e.kind == MARK for e in tape[flushed:moment])
            done = flushed
            with mounted(self.kind, crashed, point):
                yield moment, list(marks), point
            marks = marks[: len(marks) - marks_kept]


def write_entries(image: Path, entries: list[Entry], keep: str) -> None:
    """Write to an image what was written to the disk, or what chance leaves of it."""
    kind, _, seed = keep.partition(":")
    chance = random.Random(seed)
    kind = kind.partition("/")[0]
    if kind == "none":
        return
    with image.open("r+b", buffering=0) as file:
        for entry in entries:
            if entry.kind != WRITE:
                continue
            for at in range(0, len(entry.data), _SECTORS if kind == "random" else len(entry.data)):
                if kind == "all" or chance.random() < 1 / 2:
                    part = entry.data[at : at + _SECTORS] if kind == "random" else entry.data
                    os.pwrite(file.fileno(), part, entry.offset + at)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file, holes as holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


@contextlib.contextmanager
def mounted(kind: str, image: Path, point: Path) -> Iterator[None]:
    """Have an image mounted.

    The loop device is detached for sure in the end: mount(8) would take one that still stands on
    the image for the next content of it, and show what that device has in its cache.
    """
    loop = _run("losetup", "--find", "--show", image)
    try:
        _run("mount", "-t", kind, "-o", _OPTIONS[kind], loop, point)
        try:
            yield
        finally:
            unmount(point)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
        if not eventually(lambda: not _run("losetup", "--associated", image)):
            pytest.fail(f"{loop} cannot be detached")


def _run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def unmount(point: Path) -> None:
    """Unmount, once nobody is there any more."""
    if os.path.ismount(point) and not eventually(
        lambda: not subprocess.run(["umount", point], capture_output=True, check=False).returncode
    ):
        subprocess.run(["umount", "-l", point], check=True)
