"""A disk that fills up: the tool is told, nothing is torn, and with space freed it all succeeds."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.disks import mounted_disk
from tests.reliability.mounted import Mounted, can_mount, dist

pytestmark = can_mount

_MIB = 1024 * 1024


class Scene:
    """A mount on a small disk, with one blob and one big unfinished ingest on it.

    Attributes:
        mounted: the mount.
        free: about how many bytes are free.
    """

    def __init__(self, disk: Path, work: Path) -> None:
        root = disk / "root"
        root.mkdir()
        self.mounted = Mounted(work, root=root)
        self.mounted.start()
        self.work = work
        self.kept = self.source("kept", 300_000)
        self.copy("kept", expect=0)

    def source(self, name: str, size: int) -> bytes:
        """Make a file to be copied in, and return its bytes."""
        content = random.Random(name).randbytes(size)
        (self.work / name).write_bytes(content)
        return content

    def ref(self, name: str) -> Path:
        """Where it is copied to."""
        digest = hashlib.sha256((self.work / name).read_bytes()).hexdigest()
        return self.mounted.ingest / f"{name}@sha256:{digest}"

    def copy(self, name: str, *, expect: int) -> None:
        """Run cp, which is to end with no error, or with an errno that its message names."""
        done = subprocess.run(
            ["cp", self.work / name, self.ref(name)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "LC_ALL": "C"},
        )
        if expect:
            assert done.returncode == 1
            assert os.strerror(expect) in done.stderr
        else:
            assert done.returncode == 0, done.stderr

    def free(self) -> int:
        """The bytes that are free, as the mount tells."""
        found = os.statvfs(self.mounted.point)
        return found.f_bavail * found.f_frsize


def fill(fd: int, content: bytes, step: int = 100_000) -> int:
    """Write ``content``; the errno that stopped it, or 0."""
    done = 0
    while done < len(content):
        try:
            done += os.write(fd, content[done : done + step])
        except OSError as error:
            return error.errno or -1
    return 0


def begin_many(ingest: Path, count: int) -> None:
    """Begin many small ingests."""
    for number in range(count):
        (ingest / f"another {number}").write_bytes(b"x")


@pytest.fixture(params=["tmpfs", "ext4"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """A mount on a disk of 24 MiB."""
    with mounted_disk(request.param, "24M", tmp_path) as disk:
        made = Scene(disk, tmp_path)
        try:
            yield made
        finally:
            made.mounted.stop()


@pytest.mark.parametrize("freed_by", ["rm", "dist abort"])
def test_a_copy_that_met_a_full_disk_succeeds_once_there_is_space(
    scene: Scene, freed_by: str
) -> None:
    """ENOSPC reaches cp; what is there stays whole; space is freed by aborting; cp succeeds."""
    mounted = scene.mounted
    (mounted.ingest / "big").write_bytes(bytes(scene.free() - 2 * _MIB))
    content = scene.source("wanted", 4 * _MIB)
    scene.copy("wanted", expect=errno.ENOSPC)

    assert not (mounted.blobs / hashlib.sha256(content).hexdigest()).exists()
    assert (mounted.blobs / hashlib.sha256(scene.kept).hexdigest()).read_bytes() == scene.kept
    held = scene.ref("wanted").read_bytes()
    assert held == content[: len(held)]

    if freed_by == "rm":
        (mounted.ingest / "big").unlink()
    else:
        assert dist(mounted.root, "abort", "big").returncode == 0
    scene.copy("wanted", expect=0)
    assert (mounted.blobs / hashlib.sha256(content).hexdigest()).read_bytes() == content
    assert os.listdir(mounted.ingest) == []
    assert "Traceback" not in mounted.text()


def test_a_write_that_met_a_full_disk_can_go_on_where_it_stopped(scene: Scene) -> None:
    """A writer that keeps its descriptor appends what is left once there is space."""
    mounted = scene.mounted
    (mounted.ingest / "big").write_bytes(bytes(scene.free() - 2 * _MIB))
    content = scene.source("wanted", 4 * _MIB)
    fd = os.open(scene.ref("wanted"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        assert fill(fd, content) == errno.ENOSPC
        assert 0 < os.fstat(fd).st_size < len(content)
        (mounted.ingest / "big").unlink()
        assert fill(fd, content[os.fstat(fd).st_size :]) == 0
    finally:
        os.close(fd)
    assert (mounted.blobs / hashlib.sha256(content).hexdigest()).read_bytes() == content


def test_a_disk_that_is_full_to_the_last_byte_still_lets_go(scene: Scene) -> None:
    """With nothing left at all one can list, read, refuse, abort and unmount."""
    mounted = scene.mounted
    scene.source("wanted", 200_000)
    with (mounted.ingest / "filler").open("wb", buffering=0) as file:
        for step in (65_536, 512, 1):
            assert fill(file.fileno(), bytes(24 * _MIB), step) == errno.ENOSPC
    scene.copy("wanted", expect=errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        begin_many(mounted.ingest, 10_000)
    assert (mounted.blobs / hashlib.sha256(scene.kept).hexdigest()).read_bytes() == scene.kept
    for name in os.listdir(mounted.ingest):
        (mounted.ingest / name).unlink()
    assert os.listdir(mounted.ingest) == os.listdir(mounted.root / "ingest") == []
    scene.copy("wanted", expect=0)
    assert mounted.unmount() == 0
    assert "Traceback" not in mounted.text()


def test_a_quota_is_told_from_a_full_disk(tmp_path: Path) -> None:
    """EDQUOT reaches cp, and with space freed the same copy succeeds."""
    with mounted_disk("btrfs", "200M", tmp_path) as disk:
        limited = disk / "limited"
        for command in (
            ["btrfs", "quota", "enable", str(disk)],
            ["btrfs", "subvolume", "create", str(limited)],
            ["btrfs", "qgroup", "limit", "8M", str(limited)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no quota to be had: {done.stderr.strip()}")
        scene = Scene(limited, tmp_path)
        try:
            (scene.mounted.ingest / "big").write_bytes(bytes(4 * _MIB))
            content = scene.source("wanted", 6 * _MIB)
            scene.copy("wanted", expect=errno.EDQUOT)
            (scene.mounted.ingest / "big").unlink()
            os.sync()  # btrfs counts what was removed once that is on the disk
            scene.copy("wanted", expect=0)
            name = hashlib.sha256(content).hexdigest()
            assert (scene.mounted.blobs / name).read_bytes() == content
        finally:
            scene.mounted.stop()
