"""A real containerd's content root, mounted read-only while containerd works on it."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fusefs.containerd import Containerd, running
from tests.fusefs.mounted import (
    DIGEST,
    EXPECTED_SIZE,
    Mount,
    attribute,
    digest_of,
    refused,
    until,
)

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    """A containerd that holds three blobs."""
    with running() as server:
        for i in range(3):
            server.ingest(f"blob-{i}", b"%d" % i * (i * MIB + 5))
        yield server


def files(root: Path) -> set[str]:
    """The paths of all that is in a folder."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_it_lists_and_verifies_by_hash(
    containerd: Containerd, new_mount: Callable[..., Mount]
) -> None:
    """The mount shows the blobs that containerd says it holds, and each hashes to its name."""
    before = files(containerd.content)
    mount = new_mount("ro", root=containerd.content)
    shown = {f"sha256:{name}" for name in os.listdir(mount.blobs / "sha256")}
    assert shown == containerd.digests()
    assert len(shown) >= 3
    for name in os.listdir(mount.blobs / "sha256"):
        with open(mount.blobs / "sha256" / name, "rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == name
    assert mount.names() == []
    assert files(containerd.content) == before


def test_it_is_read_in_the_middle_of_an_ingest(
    containerd: Containerd, new_mount: Callable[..., Mount]
) -> None:
    """An ingest under way shows its ref, its bytes and its expected size, and then its blob."""
    mount = new_mount("ro", root=containerd.content)
    content = b"containerd" * MIB
    command = containerd.ctr(
        "content", "ingest", "--expected-size", str(len(content)),
        "--expected-digest", digest_of(content), "an/ingest",
    )  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        client.stdin.write(content[: 5 * MIB])
        client.stdin.flush()
        until(lambda: len(mount.names()) == 1, "the ingest is listed")
        ref = mount.ingest / mount.names()[0]
        # containerd puts its namespace and a number before the ref.
        assert ref.name.endswith("%2Fan%2Fingest")
        until(lambda: ref.stat().st_size >= 4 * MIB, "its bytes are there")
        so_far = ref.read_bytes()
        assert so_far == content[: len(so_far)]
        # The last of what was sent may still be on its way.
        until(lambda: attribute(ref, DIGEST) == digest_of(ref.read_bytes()), "its digest is told")
        assert attribute(ref, EXPECTED_SIZE) == str(len(content))
        assert attribute(ref, "user.content.started-at")
        assert str(attribute(ref, "user.content.ref")).endswith("/an/ingest")
        with refused(errno.EROFS):
            os.open(ref, os.O_WRONLY)
        with refused(errno.EROFS):
            ref.unlink()
        client.stdin.write(content[5 * MIB :])
        client.stdin.close()
    assert client.returncode == 0
    until(mount.blob(content).exists, "the blob is there", 1)
    assert mount.blob(content).read_bytes() == content
    assert mount.names() == []
    dist = Path(sys.executable).with_name("dist")
    done = subprocess.run(
        [dist, "--root", containerd.content, "list", "-q"], capture_output=True, check=True
    )
    assert set(done.stdout.decode().split()) == containerd.digests()
