"""Many at once: no deadlock, no wrong byte, no refusal that is not promised, nothing left over."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.reliability.crowds import all_well, crowd, endure, nothing_left
from tests.reliability.disks import mounted_disk
from tests.reliability.mounted import DIST, ENVIRONMENT, Mounted, can_mount, dist, eventually, seeds

pytestmark = can_mount

Mount = Callable[..., Mounted]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a root in a folder of its own; all are ended with the test."""
    made: list[Mounted] = []

    def begin(*options: str, root: Path | None = None) -> Mounted:
        work = tmp_path / str(len(made))
        work.mkdir()
        made.append(Mounted(work, *options, root=root, watched=True))
        made[-1].start()
        return made[-1]

    yield begin
    for mounted in made:
        mounted.stop()


@pytest.mark.parametrize("seed", seeds())
def test_a_hundred_writers_and_a_hundred_readers_on_one_mount(mount: Mount, seed: int) -> None:
    """All get on, nobody is refused, every byte is right, and nothing is left over."""
    mounted = mount()
    processes = [crowd("write", mounted, f"{seed}w{n}", 10, 4) for n in range(10)]
    processes += [crowd("read", mounted, f"{seed}r{n}", 10, 3) for n in range(10)]
    all_well(processes)
    assert os.listdir(mounted.ingest) == []
    nothing_left(mounted)
    # Idle threads end by themselves after ten seconds.
    assert eventually(lambda: mounted.counts()["threads"] <= 3, 30), mounted.counts()


@pytest.mark.parametrize("seed", seeds())
def test_two_mounts_and_the_command_line_share_a_root(mount: Mount, seed: int) -> None:
    """What one stores the others have; the same content comes in from twenty sides at once."""
    one = mount()
    two = mount(root=one.root)
    processes = [crowd("same", one, f"{seed}a", 8, 2), crowd("same", two, f"{seed}b", 8, 2)]
    processes += [crowd("write", m, f"{seed}w{n}", 4, 4) for n, m in enumerate((one, two))]
    processes += [crowd("read", m, f"{seed}r{n}", 4, 4) for n, m in enumerate((one, two))]
    content = random.Random("same 0").randbytes(1_500_000)
    digest = hashlib.sha256(content).hexdigest()
    source = one.root.with_name("source")
    source.write_bytes(content)
    for number in range(4):
        words = [*DIST, "--root", str(one.root), "ingest"]
        words += ["--expected-digest", f"sha256:{digest}", f"dist {number}"]
        with source.open("rb") as file:
            processes.append(
                subprocess.Popen(
                    words,
                    env=ENVIRONMENT,
                    stdin=file,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
    all_well(processes)
    assert os.listdir(one.ingest) == os.listdir(two.ingest)
    assert sorted(os.listdir(one.blobs)) == sorted(os.listdir(two.blobs))
    assert (two.blobs / digest).read_bytes() == content
    for mounted in (one, two):
        nothing_left(mounted)


def test_a_deleted_blob_is_read_on(mount: Mount) -> None:
    """Who has a blob open or mapped reads it to its end; everyone else finds it gone."""
    one = mount("-o", "allow_delete")
    two = mount(root=one.root)
    content = random.Random("deleted").randbytes(5_000_000)
    digest = hashlib.sha256(content).hexdigest()
    (one.ingest / f"sha256:{digest}").write_bytes(content)
    readers = [(m.blobs / digest).open("rb") for m in (one, two) for _ in range(10)]
    try:
        for number, reader in enumerate(readers):
            assert reader.read(number * 1000) == content[: number * 1000]
        (one.blobs / digest).unlink()
        assert not (one.blobs / digest).exists()
        assert eventually(lambda: not (two.blobs / digest).exists(), 2)
        for number, reader in enumerate(readers):
            assert os.fstat(reader.fileno()).st_size == len(content)
            assert reader.read() == content[number * 1000 :]
    finally:
        for reader in readers:
            reader.close()
    assert dist(one.root, "delete", f"sha256:{digest}").returncode == 1
    nothing_left(one)
    nothing_left(two)


def test_memory_does_not_grow_with_work(tmp_path: Path) -> None:
    """After 20,000 calls of every kind the daemon takes little more than after 5,000.

    What it remembers for ten seconds is in this; the long run shows that it stays at that.
    """
    with mounted_disk("tmpfs", "64M", tmp_path) as root:
        mounted = Mounted(tmp_path, root=root, watched=True)
        try:
            mounted.start()
            phases = endure(mounted, 20_000, 4)
            assert phases[-1].memory - phases[0].memory < 6 * 1024 * 1024, phases
            nothing_left(mounted)
        finally:
            mounted.stop()
