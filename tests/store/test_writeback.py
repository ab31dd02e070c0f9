"""Bytes on their way to the disk before they are synced."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Digest, DigestMismatch, Store
from store.writeback import start_writing_back
from tests.fusefs.mounted import until

MIB = 1 << 20
_CACHESTAT = 451  # Linux 6.5


class _Range(ctypes.Structure):
    _fields_ = (("off", ctypes.c_uint64), ("len", ctypes.c_uint64))


class _Pages(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")
    )


def dirty_pages(fd: int) -> int:
    """How many pages of a file are still to be handed to the disk."""
    pages = _Pages()
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (fd, ctypes.byref(_Range(0, 0)), ctypes.byref(pages), 0)
    if libc.syscall(_CACHESTAT, *arguments) != 0:
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EPERM):
            pytest.skip("this kernel does not tell which pages are dirty")
        raise OSError(number, os.strerror(number))
    return int(pages.dirty)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """An empty file on a disk."""
    fd = os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"a page")
    if dirty_pages(fd) == 0:
        pytest.skip("this file system has no pages that wait")
    os.fsync(fd)
    if dirty_pages(fd) != 0:
        pytest.skip("this file system is in memory")
    yield fd
    os.close(fd)


def test_what_is_begun_with_reaches_the_disk(fd: int) -> None:
    """Long before the kernel would do so by itself, which is half a minute."""
    os.pwrite(fd, os.urandom(4 * MIB), 0)
    assert dirty_pages(fd) > 0
    start_writing_back(fd)
    until(lambda: dirty_pages(fd) == 0, "all is handed to the disk")


def test_it_may_be_closed_meanwhile(fd: int) -> None:
    """The file that has the descriptor's number next is not touched, and nobody is left."""
    other = os.dup(fd)
    os.pwrite(fd, os.urandom(4 * MIB), 0)
    start_writing_back(other)
    os.close(other)
    start_writing_back(other)
    until(lambda: dirty_pages(fd) == 0, "all is handed to the disk")
    until(
        lambda: all(thread.name != "writing" for thread in threading.enumerate()),
        "the threads have ended",
    )


def test_a_commit_writes_while_it_hashes(fd: int, tmp_path: Path) -> None:
    """Where much is not hashed yet, as after a restart; here the verdict is no, so none syncs."""
    root = tmp_path / "root"
    with Store(root).writer("ref") as writer:
        for _ in range(24):
            writer.write(os.urandom(MIB))
    with Store(root).writer("ref") as writer:
        assert dirty_pages(writer.fileno()) > 0
        with pytest.raises(DigestMismatch):
            writer.commit(expected=Digest.of(b"something else"))
        until(lambda: dirty_pages(writer.fileno()) == 0, "all is handed to the disk")
        digest = writer.digest()
        assert writer.commit(expected=digest) == digest
    assert Store(root).info(digest).size == 24 * MIB
