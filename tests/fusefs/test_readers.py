"""Other programs read blobs, in all the ways in which files are read."""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from store import Digest, Store
from tests.fusefs.image import TAG, make_image
from tests.fusefs.mounted import Mount, append, digest_of, sha256

SIZE: Final = 5 * 1024 * 1024 + 123


@pytest.fixture(scope="module")
def content() -> bytes:
    """What the blob holds."""
    return random.Random("readers").randbytes(SIZE)


@pytest.fixture
def blob(mount: Mount, content: bytes) -> Path:
    """A blob in the mount."""
    path = mount.blob(content)
    if not path.exists():
        with Store(mount.root).writer("direct") as writer:
            writer.write(content)
            writer.commit()
    return path


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_checksum_tools(algorithm: str, mount: Mount) -> None:
    """sha256sum and the like agree with the name of every blob."""
    content = f"content {mount.ref().name}".encode() * 1000
    name = digest_of(content, algorithm)
    append(mount.ingest / name, content)
    path = mount.blobs / algorithm / name.partition(":")[2]
    lines = f"{path.name}  {path}\n".encode()
    subprocess.run([f"{algorithm}sum", "-c", "--quiet"], input=lines, check=True)


def test_random_ranges(blob: Path, content: bytes) -> None:
    """Any range reads as it does of the stored file, also around the end."""
    chance = random.Random("ranges")
    fd = os.open(blob, os.O_RDONLY)
    for _ in range(300):
        offset = chance.choice(
            [chance.randrange(SIZE), SIZE - chance.randrange(9000), SIZE + chance.randrange(9)]
        )
        size = chance.choice([0, 1, chance.randrange(9000), chance.randrange(SIZE)])
        assert os.pread(fd, size, offset) == content[offset : offset + size]
    os.close(fd)


def test_direct_io(blob: Path, content: bytes) -> None:
    """O_DIRECT reads the same bytes, past the page cache."""
    fd = os.open(blob, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1024 * 1024)
    for offset in (0, 4096, SIZE // 4096 * 4096, 2 * 1024 * 1024):
        got = os.preadv(fd, [buffer], offset)
        assert buffer[:got] == content[offset : offset + 1024 * 1024]
    os.close(fd)


def test_mmap(blob: Path, content: bytes) -> None:
    """A shared mapping, and a private one that is written to, show the bytes."""
    with open(blob, "rb") as file:
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == content
            assert mapped.find(content[-50:]) == SIZE - 50
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            mapped[:5] = b"*****"
    assert blob.read_bytes() == content


def test_sendfile(blob: Path, content: bytes) -> None:
    """sendfile(2) into a socket sends the bytes."""
    ours, theirs = socket.socketpair()
    received = bytearray()

    def receive() -> None:
        while piece := theirs.recv(1024 * 1024):
            received.extend(piece)

    thread = threading.Thread(target=receive)
    thread.start()
    with ours, open(blob, "rb") as file:
        assert ours.sendfile(file) == SIZE
    thread.join()
    theirs.close()
    assert received == content


def test_splice(blob: Path, content: bytes) -> None:
    """splice(2) through a pipe, as `cp` and `cat` may do it, brings out the bytes."""
    reader, writer = os.pipe()
    received = bytearray()
    with open(blob, "rb", buffering=0) as file:
        while moved := os.splice(file.fileno(), writer, 65536):
            received += os.read(reader, moved)
    os.close(reader)
    os.close(writer)
    assert received == content
    done = subprocess.run(["cat", blob], capture_output=True, check=True)
    assert done.stdout == content


def test_seek_data_and_hole(blob: Path) -> None:
    """A blob is all data to lseek(2), with the one hole that every file ends in."""
    with open(blob, "rb", buffering=0) as file:
        assert os.lseek(file.fileno(), 100, os.SEEK_DATA) == 100
        assert os.lseek(file.fileno(), 100, os.SEEK_HOLE) == SIZE
        assert os.lseek(file.fileno(), -1, os.SEEK_END) == SIZE - 1


def test_many_readers_side_by_side(blob: Path, content: bytes) -> None:
    """Eight programs that read the same blob at the same time all see its bytes."""
    command = f"exec sha256sum <'{blob}'"
    readers = [
        subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True) for _ in range(8)
    ]
    assert {reader.communicate()[0].split()[0] for reader in readers} == {sha256(content)}


def test_a_blob_of_nothing(mount: Mount) -> None:
    """The blob of no bytes reads as such in every way."""
    append(mount.ingest / digest_of(b""), b"")
    blob = mount.blob(b"")
    assert blob.read_bytes() == b""
    assert blob.stat().st_size == 0
    subprocess.run(["cmp", blob, "/dev/null"], check=True)


def test_an_ingest_reads_in_every_way_too(mount: Mount, content: bytes) -> None:
    """What has been written so far can be mapped, sent, and read at random."""
    ref = mount.ref()
    with open(ref, "wb", buffering=0) as writer:
        writer.write(content)
        with open(ref, "rb") as file:
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                assert mapped[:] == content
            assert os.pread(file.fileno(), 1000, SIZE - 500) == content[-500:]
        subprocess.run(["cmp", ref, "-"], input=content, check=True)
    ref.unlink()


def test_tar_reads_an_archive(mount: Mount, tmp_path: Path) -> None:
    """`tar -t` and `tar -x` read an archive that is a blob."""
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / name).write_text(name * 1000)
    subprocess.run(["tar", "-C", tmp_path / "in", "-czf", tmp_path / "t", "a", "b"], check=True)
    archive = (tmp_path / "t").read_bytes()
    append(mount.ingest / digest_of(archive), archive)
    done = subprocess.run(["tar", "-tzf", mount.blob(archive)], capture_output=True, check=True)
    assert done.stdout == b"a\nb\n"
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "out", "-xzf", mount.blob(archive)], check=True)
    assert (tmp_path / "out/b").read_text() == "b" * 1000


@pytest.fixture
def layout(mount: Mount, tmp_path: Path) -> Iterator[tuple[Path, dict[str, bytes]]]:
    """An image layout whose blobs folder is a link into the mount, and the image's files."""
    folder = tmp_path / "layout"
    folder.mkdir()

    def store(content: bytes) -> None:
        append(mount.ingest / str(Digest.of(content)), content)

    files = make_image(folder, store)
    (folder / "blobs").symlink_to(mount.blobs)
    yield folder, files
    for blob in (mount.root / "blobs/sha256").iterdir():
        blob.unlink()


def test_skopeo_copies_an_image_out(layout: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    """`skopeo copy` takes an image whose blobs lie in the mount, and all its blobs are right."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    target = tmp_path / "copy"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{layout[0]}:{TAG}",
         f"oci:{target}:{TAG}"],
        check=True,
    )  # fmt: skip
    blobs = list((target / "blobs/sha256").iterdir())
    assert len(blobs) == 5
    assert all(sha256(blob.read_bytes()) == blob.name for blob in blobs)
    (entry,) = json.loads((target / "index.json").read_bytes())["manifests"]
    assert (layout[0] / "blobs/sha256" / entry["digest"].partition(":")[2]).exists()


def test_umoci_unpacks_an_image(layout: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    """`umoci unpack` makes the image's files of layers that lie in the mount."""
    if shutil.which("umoci") is None:
        pytest.skip("umoci is not installed")
    bundle = tmp_path / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{layout[0]}:{TAG}", bundle], check=True)
    for name, content in layout[1].items():
        assert (bundle / "rootfs" / name).read_bytes() == content
