"""The behaviour suite, through the Python API."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from store import (
    BeyondSize,
    Busy,
    Digest,
    InvalidRef,
    NotAppend,
    NotFound,
    RefTooLong,
    Rejected,
    Store,
    StoreError,
    Writer,
)
from tests.contract import Contract, Door

ERRNOS: list[tuple[type[StoreError], int]] = [
    (RefTooLong, errno.ENAMETOOLONG),
    (InvalidRef, errno.EINVAL),
    (NotFound, errno.ENOENT),
    (Busy, errno.EBUSY),
    (NotAppend, errno.EPERM),
    (BeyondSize, errno.EFBIG),
    (Rejected, errno.EBADMSG),
]

Result = TypeVar("Result")


@contextlib.contextmanager
def as_os_errors() -> Iterator[None]:
    """Raise the store's own errors as the contract's errnos."""
    try:
        yield
    except StoreError as error:
        for kind, number in ERRNOS:
            if isinstance(error, kind):
                raise OSError(number, str(error)) from error
        raise


class PythonPen:
    """A writer that commits what is complete when it is closed, as a file of the mount does."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    @as_os_errors()
    def write(self, data: bytes, at: int | None = None) -> None:
        """Write."""
        assert self.writer.write(data, at) == len(data)

    @as_os_errors()
    def truncate(self, size: int) -> None:
        """Truncate."""
        self.writer.truncate(size)

    @as_os_errors()
    def sync(self) -> None:
        """Sync."""
        self.writer.sync()

    @as_os_errors()
    def close(self) -> None:
        """Commit or close."""
        with self.writer as writer:
            if writer.is_complete():
                writer.commit()


class PythonDoor:
    """The store, called."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @as_os_errors()
    def begin(self, ref: str) -> PythonPen:
        """Begin."""
        return PythonPen(self.store.writer(ref))

    @as_os_errors()
    def read(self, ref: str) -> bytes:
        """Read."""
        with open(self.store.ingests.open_data(self.store.status(ref).ref), "rb") as data:
            return data.read()

    def refs(self) -> set[str]:
        """List."""
        return {str(status.ref) for status in self.store.active()}

    @as_os_errors()
    def abort(self, ref: str) -> None:
        """Abort."""
        self.store.abort(ref)

    @as_os_errors()
    def rename(self, old: str, new: str) -> None:
        """Rename."""
        self.store.rename(old, new)

    @as_os_errors()
    def truncate(self, ref: str, size: int) -> None:
        """Truncate, and settle."""
        pen = self.begin(ref)
        pen.truncate(size)
        pen.close()

    @as_os_errors()
    def expect_digest(self, ref: str, digest: Digest | None) -> None:
        """Expect, and settle."""
        self._expect(ref, lambda: self.store.expect_digest(ref, digest))

    @as_os_errors()
    def expect_size(self, ref: str, size: int | None) -> None:
        """Expect, and settle."""
        self._expect(ref, lambda: self.store.expect_size(ref, size))

    def _expect(self, ref: str, change: Callable[[], None]) -> None:
        change()
        with contextlib.suppress(Busy):
            self.store.settle(ref)

    @as_os_errors()
    def expected(self, ref: str) -> tuple[str | None, int | None]:
        """Look."""
        status = self.store.status(ref)
        return (None if status.expected is None else str(status.expected)), status.total

    @as_os_errors()
    def digest(self, ref: str) -> str:
        """Hash."""
        return str(self.store.digest_so_far(ref))

    @as_os_errors()
    def error(self, ref: str) -> str | None:
        """Look."""
        return self.store.status(ref).error

    @as_os_errors()
    def blob(self, digest: Digest) -> bytes:
        """Read."""
        with self.store.open(digest) as blob:
            return blob.read()

    def blobs(self) -> set[str]:
        """List."""
        return {str(info.digest) for info in self.store.walk()}


@pytest.fixture
def door(store: Store) -> Door:
    """The Python API."""
    return PythonDoor(store)


class TestPythonDoor(Contract):
    """Everything in the contract holds for the Python API."""
