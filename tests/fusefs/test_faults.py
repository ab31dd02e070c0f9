"""A fault of ours is EIO to one caller, a traceback in the log, and the mount lives on."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import store
from fusefs.errors import ERRNO, errno_of
from store import Store, StoreError
from tests.fusefs import broken
from tests.fusefs.mounted import (
    DIGEST,
    EXPECTED_SIZE,
    Mount,
    append,
    digest_of,
    expect,
    refused,
    until,
)

BLOB: Final = b"some content"


def with_file(path: Path, call: Callable[[int], object]) -> None:
    """A call on a file that is open for writing."""
    fd = os.open(path, os.O_RDWR)
    try:
        call(fd)
    finally:
        os.close(fd)


class Scene(NamedTuple):
    """A mount, an ingest in it, and a blob."""

    mount: Mount
    ref: Path
    blob: Path


# What is broken, and what somebody does who then gets EIO.
FAULTS: Final[dict[str, Callable[[Scene], object]]] = {
    "fusefs.ingests:IngestView.lookup": lambda s: s.ref.stat(),
    "fusefs.blobs:BlobView.lookup": lambda s: s.mount.blob("0" * 64).stat(),
    "fusefs.blobs:BlobView.open": lambda s: s.blob.read_bytes(),
    "fusefs.reading:FileReader.read": lambda s: s.ref.read_bytes(),
    "fusefs.ingests:IngestView.open_to_read": lambda s: s.ref.read_bytes(),
    "fusefs.ingests:IngestView.open_to_write": lambda s: append(s.ref, b""),
    "fusefs.ingests:IngestView.create": lambda s: append(s.mount.ref(), b""),
    "fusefs.ingests:IngestView.make": lambda s: os.mknod(s.mount.ref()),
    "fusefs.ingests:IngestView.unlink": lambda s: s.ref.unlink(),
    "fusefs.ingests:IngestView.rename": lambda s: s.ref.rename(s.mount.ref()),
    "fusefs.ingests:IngestView.truncate": lambda s: os.truncate(s.ref, 0),
    "fusefs.ingests:IngestView.list": lambda s: s.mount.names(),
    "fusefs.ingests:IngestListing.entries": lambda s: s.mount.names(),
    "fusefs.ingests:IngestListing.show": lambda s: s.mount.names(),
    "fusefs.bloblisting:BlobListing._read": lambda s: os.listdir(s.blob.parent),
    "fusefs.bloblisting:BlobListing._at": lambda s: os.listdir(s.blob.parent),
    "fusefs.writing:OpenIngest.write": lambda s: with_file(
        s.ref, lambda fd: os.pwrite(fd, b"more", 5)
    ),
    "fusefs.writing:OpenIngest.truncate": lambda s: with_file(
        s.ref, lambda fd: os.ftruncate(fd, 100)
    ),
    "fusefs.writing:OpenIngest.sync": lambda s: with_file(s.ref, os.fsync),
    "fusefs.writing:OpenIngest.flush": lambda s: append(s.ref, b"more"),
    "fusefs.xattrs:IngestXattrs.get": lambda s: os.getxattr(s.ref, DIGEST),
    "fusefs.xattrs:IngestXattrs.names": lambda s: os.listxattr(s.ref),
    "fusefs.xattrs:IngestXattrs.set": lambda s: os.setxattr(s.ref, EXPECTED_SIZE, b"100"),
    "fusefs.xattrs:IngestXattrs.remove": lambda s: os.removexattr(s.ref, EXPECTED_SIZE),
    "fusefs.operations:blob_xattr": lambda s: os.getxattr(s.blob, DIGEST),
    "store.writer:Writer.write": lambda s: append(s.ref, b"more"),
    "store.writer:Writer.commit": lambda s: append(s.mount.ref(f"@{digest_of(b'x')}"), b"x"),
    "store.store:Store.writer": lambda s: append(s.ref, b"more"),
}


def breaking(
    new_mount: Callable[..., Mount], folder: Path, target: str, deed: str = "raise"
) -> tuple[Mount, Path]:
    """A mount of which a function is broken as long as a file is there, and the file's path."""
    trigger = folder / "trigger"
    command = (sys.executable, broken.__file__, target, str(trigger), deed)
    return new_mount(command=command), trigger


@pytest.mark.parametrize("target", FAULTS)
def test_an_unforeseen_exception_is_eio_to_one_caller(
    target: str, new_mount: Callable[..., Mount], tmp_path: Path
) -> None:
    """Who meets it gets EIO, the log gets the traceback, and all else goes on as before."""
    mount, trigger = breaking(new_mount, tmp_path, target)
    mount.foresee("a fault in")
    mount.foresee("nobody has foreseen this")
    append(mount.ingest / digest_of(BLOB), BLOB)
    ref = mount.ref()
    append(ref, b"bytes")
    assert mount.names() == [ref.name]
    trigger.touch()
    with refused(errno.EIO):
        FAULTS[target](Scene(mount, ref, mount.blob(BLOB)))
    trigger.unlink()
    lines = [line for line in mount.log().splitlines() if "a fault in" in line]
    assert lines
    for line in lines:
        assert "Traceback" in line
        assert "ZeroDivisionError: nobody has foreseen this" in line
    assert ref.name in mount.names()
    assert ref.read_bytes().startswith(b"bytes")
    append(ref, b"!")
    assert ref.read_bytes().endswith(b"!")
    assert mount.blob(BLOB).read_bytes() == BLOB
    ref.unlink()


@pytest.mark.parametrize(
    "target", ["fusefs.writing:OpenIngest._put_down", "fusefs.nodes:IngestNodes.forget"]
)
def test_a_fault_in_a_release_blocks_nobody(
    target: str, new_mount: Callable[..., Mount], tmp_path: Path
) -> None:
    """A fault where no caller waits is in the log, and the ref is free all the same."""
    mount, trigger = breaking(new_mount, tmp_path, target)
    mount.foresee("a fault in")
    mount.foresee("unclosed writer")
    ref = mount.ref()
    fd = os.open(ref, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"bytes")
    trigger.touch()
    os.close(fd)
    until(lambda: "nobody has foreseen this" in mount.log(), "the fault has happened")
    trigger.unlink()
    append(ref, b" and more")
    assert ref.read_bytes() == b"bytes and more"


def test_a_fault_in_a_forget_is_survived(new_mount: Callable[..., Mount], tmp_path: Path) -> None:
    """FORGET has no caller at all; a fault in it is in the log, and the mount lives on."""
    mount, trigger = breaking(new_mount, tmp_path, "fusefs.nodes:IngestNodes.forget")
    mount.foresee("a fault in")
    ref = mount.ref()
    append(ref, b"bytes")
    trigger.touch()
    ref.unlink()
    assert not ref.exists()
    until(lambda: "nobody has foreseen this" in mount.log(), "the fault has happened")
    trigger.unlink()
    append(ref, b"new")
    assert ref.read_bytes() == b"new"


def test_a_slow_disk_makes_nobody_busy(new_mount: Callable[..., Mount], tmp_path: Path) -> None:
    """However many closes are under way on a slow disk, an open that follows one is not EBUSY."""
    mount, trigger = breaking(new_mount, tmp_path, "store.disk:fsync", "0.2")
    trigger.touch()
    failures: list[OSError] = []

    def work(ref: Path) -> None:
        try:
            for _ in range(2):
                append(ref, b"bytes")
        except OSError as error:
            failures.append(error)

    refs = [mount.ref() for _ in range(40)]
    threads = [threading.Thread(target=work, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    # Meanwhile whoever looks does not wait for the disk.
    assert mount.blobs.stat()
    for thread in threads:
        thread.join()
    trigger.unlink()
    assert failures == []
    assert all(ref.read_bytes() == b"bytesbytes" for ref in refs)


def test_who_asks_for_durable_bytes_waits_for_the_disk(
    new_mount: Callable[..., Mount], tmp_path: Path
) -> None:
    """fsync, O_SYNC, O_DSYNC and a commit wait for the disk's answer; a plain write does not."""
    mount, trigger = breaking(new_mount, tmp_path, "store.disk:fsync", "0.2")
    trigger.touch()

    def seconds(call: Callable[[], object]) -> float:
        begun = time.monotonic()
        call()
        return time.monotonic() - begun

    for flags in (0, os.O_SYNC, os.O_DSYNC):
        ref = mount.ref()
        fd = os.open(ref, os.O_WRONLY | os.O_CREAT | flags)
        taken = seconds(lambda fd=fd: os.write(fd, b"xxx"))  # type: ignore[misc]
        assert (taken >= 0.2) == bool(flags)
        assert seconds(lambda fd=fd: os.fsync(fd)) >= 0.2  # type: ignore[misc]
        assert seconds(lambda fd=fd: os.fdatasync(fd)) >= 0.2  # type: ignore[misc]
        assert seconds(lambda ref=ref: expect(ref, b"xxx")) < 0.2  # type: ignore[misc]
        assert seconds(lambda fd=fd: os.close(fd)) >= 0.2  # type: ignore[misc]
        mount.stored(b"xxx").unlink()


@pytest.mark.parametrize("deed", ["close", "setxattr", "rename"])
def test_a_blob_that_is_deleted_as_soon_as_it_is_there(
    deed: str, new_mount: Callable[..., Mount], tmp_path: Path
) -> None:
    """The call that committed succeeds, though somebody deletes the blob before it returns."""
    mount, trigger = breaking(new_mount, tmp_path, "store.blobs:Blobs.stat", "0.3")
    append(mount.ref(), b"")
    ref = mount.ref(f"@{digest_of(BLOB)}")
    name = mount.ref()
    if deed != "close":
        append(name, BLOB)
    trigger.touch()

    def delete() -> None:
        until(mount.stored(BLOB).exists, "it is there")
        mount.stored(BLOB).unlink()

    other = threading.Thread(target=delete)
    other.start()
    if deed == "close":
        append(ref, BLOB)
    elif deed == "setxattr":
        expect(name, BLOB)
    else:
        name.rename(ref)
    other.join()
    trigger.unlink()
    assert len(mount.names()) == 1
    assert not mount.blob(BLOB).exists()
    append(ref, BLOB)
    mount.assert_committed(ref, BLOB)


def test_a_truncation_that_fails_blocks_nobody(
    new_mount: Callable[..., Mount], tmp_path: Path
) -> None:
    """An open with O_TRUNC that fails leaves the ref free, with its bytes."""
    mount, trigger = breaking(new_mount, tmp_path, "store.disk:truncate")
    mount.foresee("a fault in")
    ref = mount.ref()
    append(ref, b"bytes")
    trigger.touch()
    with refused(errno.EIO):
        os.open(ref, os.O_WRONLY | os.O_TRUNC)
    trigger.unlink()
    append(ref, b" and more")
    assert ref.read_bytes() == b"bytes and more"


def subclasses(kind: type[StoreError]) -> set[type[StoreError]]:
    """A class and all that inherit from it."""
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_the_table_of_errnos_is_total() -> None:
    """Every error of the store has its errno, by its own name or by that of its base."""
    # The commands have errors of their own, which no mount meets.
    kinds = {kind for kind in subclasses(StoreError) if kind.__module__ == "store.errors"}
    kinds -= {StoreError}
    assert {getattr(store, name) for name in store.__all__ if name[0].isupper()} >= set(ERRNO)
    assert {kind for kind in kinds if not set(kind.__mro__) & set(ERRNO)} == set()
    assert set(ERRNO.values()) <= set(errno.errorcode)


def test_enosys_is_never_an_answer() -> None:
    """An OSError keeps its errno, but for ENOSYS, which would switch a call off for all."""
    for number in errno.errorcode:
        expected = errno.EIO if number == errno.ENOSYS else number
        assert errno_of(OSError(number, "text")) == expected
    assert errno_of(OSError("no number")) == errno.EIO


def test_the_store_is_sound_after_faults(new_mount: Callable[..., Mount], tmp_path: Path) -> None:
    """A commit that meets a fault leaves its bytes, and the next close commits them."""
    mount, trigger = breaking(new_mount, tmp_path, "store.disk:link")
    mount.foresee("a fault in")
    ref = mount.ingest / digest_of(BLOB)
    trigger.touch()
    with refused(errno.EIO):
        append(ref, BLOB)
    assert ref.read_bytes() == BLOB
    assert list(Store(mount.root).digests()) == []
    trigger.unlink()
    append(ref, b"")
    mount.assert_committed(ref, BLOB)
