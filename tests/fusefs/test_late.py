"""Late names: what the process that wrote an ingest still finds after its commit."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fusefs.late import LateNames
from fusefs.nodes import IngestNode
from store import Ref
from tests.fusefs.actors import elsewhere
from tests.fusefs.mounted import (
    DIGEST,
    ERROR,
    EXPECTED_DIGEST,
    EXPECTED_SIZE,
    Mount,
    append,
    digest_of,
    expect,
    refused,
)


def content_of(mount: Mount) -> bytes:
    """Content that no other test has."""
    return f"content {mount.ref().name}".encode()


@pytest.fixture
def content(mount: Mount) -> bytes:
    """The content of the ingest that is committed."""
    return content_of(mount)


@pytest.fixture
def late(mount: Mount, content: bytes) -> Path:
    """The path of an ingest that this process has just committed."""
    ref = mount.ref(f"@{digest_of(content)}")
    append(ref, content)
    assert mount.stored(content).exists()
    return ref


def test_who_wrote_it_finds_it_as_the_finished_file(
    mount: Mount, late: Path, content: bytes
) -> None:
    """The writer's stat, open and getxattr see the blob's size, time, digest and bytes."""
    found = late.stat()
    assert (found.st_size, found.st_mtime_ns) == (
        len(content), mount.stored(content).stat().st_mtime_ns,
    )  # fmt: skip
    assert late.read_bytes() == content
    assert os.getxattr(late, DIGEST).decode() == digest_of(content)
    assert os.access(late, os.R_OK)


def test_no_listing_shows_it(mount: Mount, late: Path) -> None:
    """A listing does not show a late name, not even to the process that wrote it."""
    assert late.name not in mount.names()
    assert late.exists()


def test_nobody_else_finds_it(mount: Mount, late: Path) -> None:
    """For every other process the name is gone at once."""
    with refused(errno.ENOENT):
        elsewhere(late.stat)
    assert subprocess.run(["test", "-e", late], check=False).returncode == 1
    with refused(errno.ENOENT):
        elsewhere(lambda: os.close(os.open(late, os.O_RDONLY)))
    # That somebody else has looked in vain takes nothing away.
    assert late.exists()


def test_every_thread_of_the_process_finds_it(mount: Mount, content: bytes) -> None:
    """One thread writes and closes, another copies the attributes."""
    ref = mount.ref(f"@{digest_of(content)}")
    writer = threading.Thread(target=append, args=(ref, content))
    writer.start()
    writer.join()
    assert ref.stat().st_size == len(content)
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(ref.stat().st_size))
    reader.start()
    reader.join()
    assert found == [len(content)]


TOUCHES: dict[str, Callable[[Path], object]] = {
    "chmod": lambda ref: ref.chmod(0o600),
    "utimens": lambda ref: os.utime(ref, (1, 1)),
    "chown": lambda ref: os.chown(ref, 0, 0),
    "setxattr of the right digest": lambda ref: os.setxattr(
        ref, EXPECTED_DIGEST, ref.name.partition("@")[2].encode()
    ),
    "setxattr of the size": lambda ref: os.setxattr(ref, EXPECTED_SIZE, b"%d" % ref.stat().st_size),
    "truncate to its size": lambda ref: os.truncate(ref, ref.stat().st_size),
    "open to read": lambda ref: ref.read_bytes(),
    "rename": lambda ref: ref.rename(ref.with_name("elsewhere")),
    "unlink": lambda ref: ref.unlink(),
}


@pytest.mark.parametrize("name", TOUCHES)
def test_what_is_done_to_it_succeeds_without_effect(
    name: str, mount: Mount, late: Path, content: bytes
) -> None:
    """What tools do to a path after their last close succeeds, and changes nothing."""
    before = mount.stored(content).stat()
    TOUCHES[name](late)
    after = mount.stored(content).stat()
    assert (before.st_mode, before.st_mtime_ns, before.st_size, before.st_nlink) == (
        after.st_mode, after.st_mtime_ns, after.st_size, after.st_nlink,
    )  # fmt: skip
    assert late.exists()
    assert late.name not in mount.names()
    assert "elsewhere" not in mount.names()
    assert mount.blob(content).read_bytes() == content


def test_what_others_do_to_it_is_enoent(mount: Mount, late: Path) -> None:
    """The same calls of another process find nothing."""
    for touch in TOUCHES.values():
        with refused(errno.ENOENT):
            elsewhere(lambda touch=touch: touch(late) and None)  # type: ignore[misc]


def test_o_excl_is_eexist(mount: Mount, late: Path) -> None:
    """The process that wrote it cannot make it anew with O_EXCL; another one can."""
    with refused(errno.EEXIST):
        os.open(late, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with refused(errno.EEXIST):
        os.mknod(late)
    elsewhere(lambda: os.close(os.open(late, os.O_WRONLY | os.O_CREAT | os.O_EXCL)))
    assert late.name in mount.names()
    assert late.stat().st_size == 0


@pytest.mark.parametrize("flags", ["O_CREAT", "O_TRUNC", "O_APPEND", "O_RDWR"])
def test_to_open_it_for_writing_begins_a_new_transaction(
    flags: str, mount: Mount, late: Path, content: bytes
) -> None:
    """The new one is empty, is listed, and what is written to it begins at 0."""
    mount.stored(content).unlink()
    fd = os.open(late, os.O_RDWR | getattr(os, flags))
    assert os.fstat(fd).st_size == 0
    assert late.name in mount.names()
    assert elsewhere(lambda: late.stat().st_size) == 0
    os.write(fd, content)
    assert late.read_bytes() == content
    os.close(fd)
    mount.assert_committed(late, content)


def test_another_process_begins_anew_and_the_late_name_is_gone(
    mount: Mount, late: Path, content: bytes
) -> None:
    """When somebody else begins a transaction under the ref, all see that one."""
    elsewhere(lambda: os.close(os.open(late, os.O_WRONLY | os.O_CREAT)))
    assert late.stat().st_size == 0
    late.unlink()
    with refused(errno.ENOENT):
        late.stat()


def test_what_made_the_committing_call_finds_it_too(mount: Mount, content: bytes) -> None:
    """Who commits by setxattr finds the name late, as does who wrote the bytes."""
    ref = mount.ref()
    elsewhere(lambda: append(ref, content))
    expect(ref, content)
    assert ref.stat().st_size == len(content)
    os.setxattr(ref, EXPECTED_DIGEST, digest_of(content).encode())
    other = mount.ref()
    more = content + b"!"
    append(other, more)

    def commit() -> int:
        expect(other, more)
        return other.stat().st_size

    assert elsewhere(commit) == len(more)
    assert other.stat().st_size == len(more)


def test_a_commit_by_rename_is_found_late_under_the_new_name(mount: Mount, content: bytes) -> None:
    """After a rename that commits, the process finds the new name and not the old one."""
    ref, new = mount.ref(), mount.ref(f"@{digest_of(content)}")
    append(ref, content)
    ref.rename(new)
    assert new.stat().st_size == len(content)
    assert not ref.exists()
    os.utime(new)


def test_a_refused_setxattr_on_a_late_name_is_not_judged(mount: Mount, late: Path) -> None:
    """A late name takes any expectation without effect: it is a blob, and judged already."""
    os.setxattr(late, EXPECTED_DIGEST, digest_of(b"another").encode())
    assert not mount.folder(late.name).exists()
    with refused(errno.ENODATA):
        os.getxattr(late, ERROR)


def test_it_is_gone_after_ten_seconds() -> None:
    """A late name is found for ten seconds by its process, and not a moment longer."""
    now = 1000.0
    names: LateNames[IngestNode] = LateNames(clock=lambda: now)
    ref = Ref("a")
    node = IngestNode(1, ref, os.stat("/"))
    node.processes.add(os.getpid())
    names.add(ref, node)
    now += 9.9
    assert names.find(ref, os.getpid()) is node
    assert names.find(ref, os.getppid()) is None
    assert names.find(ref, 0) is None
    names.add(Ref("b"), IngestNode(2, Ref("b"), os.stat("/")))
    assert names.find(ref, os.getpid()) is node
    now += 0.1
    assert names.find(ref, os.getpid()) is None


def test_they_do_not_pile_up() -> None:
    """Names whose time is over are forgotten when the next one comes."""
    now = 0.0
    names: LateNames[IngestNode] = LateNames(clock=lambda: now)
    for i in range(1000):
        names.add(Ref(str(i)), IngestNode(i, Ref(str(i)), os.stat("/")))
        now += 1.0
    assert len(names._names) <= 11
