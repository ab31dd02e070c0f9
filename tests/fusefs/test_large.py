"""Files of every size: from nothing to what does not fit into any buffer."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fusefs.mounted import DIGEST, ERROR, Mount, append, attribute, digest_of

KIB: Final = 1024
MIB: Final = 1024 * KIB
# Around a page, around a pipe, around the largest request of the kernel, and beyond.
SIZES: Final = (0, 1, 4095, 4096, 4097, 65_537, MIB - 1, MIB, MIB + 1, 3 * MIB + 7, 64 * MIB)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of 64 MiB and a byte, of chance."""
    path = tmp_path_factory.mktemp("large") / "source"
    with open("/dev/urandom", "rb") as chance, open(path, "wb") as file:
        file.writelines(chance.read(MIB) for _ in range(64))
        file.write(b"!")
    yield path
    path.unlink()


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_any_size(size: int, mount: Mount, source: Path, tmp_path: Path) -> None:
    """It goes in by cp, comes out whole, and is refused whole under another digest."""
    path = tmp_path / "file"
    with open(source, "rb") as file:
        path.write_bytes(file.read(size))
    with open(path, "rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    subprocess.run(["cp", path, mount.ingest / f"sha256:{name}"], check=True)
    subprocess.run(["cmp", path, mount.blob(name)], check=True)
    subprocess.run(["cmp", path, mount.stored(name)], check=True)
    mount.stored(name).unlink()
    wrong = mount.ref(f"@{digest_of(b'something else')}")
    done = subprocess.run(["cp", path, wrong], capture_output=True, check=False)
    assert (done.returncode, attribute(wrong, ERROR) is None) == ((1, False) if size else (0, True))
    subprocess.run(["cmp", path, wrong], check=True)
    wrong.rename(mount.ingest / f"sha256:{name}")
    if size:
        assert mount.blob(name).stat().st_size == size
        mount.stored(name).unlink()
    path.unlink()


def test_the_loop_does_not_wait_for_a_large_copy(mount: Mount, source: Path) -> None:
    """While a large file is copied in, hashed and committed, whoever looks is answered."""
    with open(source, "rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    ref = mount.ingest / f"sha256:{name}"
    slowest, looks = 0.0, 0
    with subprocess.Popen(["cp", source, ref]) as copy:
        while copy.poll() is None:
            begun = time.monotonic()
            os.listdir(mount.blobs)
            os.stat(mount.blobs / "sha256")
            slowest = max(slowest, time.monotonic() - begun)
            looks += 1
    assert copy.returncode == 0
    assert looks > 10
    assert slowest < 1
    assert mount.blob(name).stat().st_size == source.stat().st_size
    mount.stored(name).unlink()


def test_appends_cost_the_same_to_the_end(mount: Mount) -> None:
    """What is hashed already is not hashed again by the next open, however much it is."""

    def appends(ref: Path) -> float:
        begun = time.monotonic()
        for _ in range(50):
            append(ref, b"x" * 4096)
            assert attribute(ref, DIGEST)
        return time.monotonic() - begun

    small, large = mount.ref(), mount.ref()
    with open(large, "wb") as file:
        file.writelines(b"y" * MIB for _ in range(64))
    assert attribute(large, DIGEST)
    # To hash 64 MiB fifty times takes two seconds.
    assert appends(large) < appends(small) + 1
