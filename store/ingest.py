"""An ingest transaction on disk: its folder, and the files that lie in it.

A folder with no ``data`` is no ingest.  A folder whose ``data`` is already linked as the blob that
is expected of it is one whose commit was cut short after it had become visible: it counts as
gone, and whoever comes to its ref next removes it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from store import disk, locks, times
from store.digest import Digest
from store.errors import Invalid, InvalidSize, NotRegular
from store.layout import (
    DATA,
    ERROR,
    EXPECTED,
    INGEST_FILES,
    LOCK,
    REF,
    STARTED,
    TOTAL,
    UPDATED,
)
from store.refs import Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from store.layout import Layout

__all__ = ["Ingest", "Status", "drop_folder", "parse_size"]

_REMOVED: Final = b"none"
"""In ``expected``: what the ref's own name says was removed, and stays so."""

_DESCRIPTION: Final = (EXPECTED, TOTAL, STARTED, ERROR)

_SIZE_DIGITS: Final = 19
_SIZE_LIMIT: Final = 2**63


class Status(NamedTuple):
    """What is known of an ingest.

    Attributes:
        ref: its key.
        offset: the bytes that it holds.
        total: the size expected of it in bytes, if known.
        expected: the digest expected of it, set or named by the ref, if any.
        started_ns: when it was begun, in nanoseconds since the epoch, if known.
        updated_ns: when its bytes changed last, in nanoseconds since the epoch.
        locked: whether a writer holds it.
        error: why the last verdict was no, if it was.
    """

    ref: Ref
    offset: int
    total: int | None
    expected: Digest | None
    started_ns: int | None
    updated_ns: int
    locked: bool
    error: str | None


def parse_size(text: str) -> int:
    """A number of bytes in decimal, as ``total`` and ``user.content.expected-size`` hold it.

    Raises:
        InvalidSize: it is not one, or not below 2**63.
    """
    plain = text.isascii() and text.isdigit() and len(text) <= _SIZE_DIGITS
    if not plain or int(text) >= _SIZE_LIMIT:
        raise InvalidSize(text, "it is a decimal number of bytes below 2**63")
    return int(text)


class Ingest:
    """An ingest's folder, open.  Its files are reached through it, whatever its name does.

    Attributes:
        ref: the ingest's key.
        path: the folder.
        fd: the folder's descriptor.
    """

    __slots__ = ("_blob_path", "fd", "path", "ref")

    def __init__(self, ref: Ref, layout: Layout) -> None:
        """Open the folder.

        Raises:
            FileNotFoundError: there is none.
            NotRegular: something else stands there.
        """
        self.ref = ref
        self.path = layout.ingest(ref)
        self.fd = disk.open_dir(self.path)
        self._blob_path = layout.blob

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self.fd)

    # ---------------------------------------------------------------------------------- looking

    def stat(self, name: str) -> os.stat_result | None:
        """The stat of a regular file in the folder; None where there is none."""
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def live(self) -> os.stat_result | None:
        """The stat of the data; None when there is none, or it is committed."""
        data = self.stat(DATA)
        return None if data is None or self.published(data) else data

    def published(self, data: os.stat_result) -> bool:
        """Whether the data is already the blob that is expected of the ingest."""
        if data.st_nlink == 1:
            return False
        expected = self.expected()
        if expected is None:
            return False
        try:
            blob = os.lstat(self._blob_path(expected))
        except OSError:
            return False
        return (blob.st_dev, blob.st_ino) == (data.st_dev, data.st_ino)

    def expected(self) -> Digest | None:
        """The digest that is expected: the one that was set, else the one that the ref names."""
        content = disk.read_small(EXPECTED, self.fd)
        if content == _REMOVED:
            return None
        return _digest_or_none(content) or self.ref.implied_digest

    def expected_as_set(self) -> Digest | None:
        """The digest that somebody set, whatever the ref's name says."""
        return _digest_or_none(disk.read_small(EXPECTED, self.fd))

    def total(self) -> int | None:
        """The expected size in bytes, if one is known."""
        content = disk.read_small(TOTAL, self.fd)
        try:
            return None if content is None else parse_size(content.decode().strip())
        except (Invalid, UnicodeDecodeError):
            return None

    def error(self) -> str | None:
        """Why the last verdict was no, if it was and the note of it can be read."""
        content = self._note(ERROR)
        return content.decode(errors="replace") if content else None

    def started_ns(self) -> int | None:
        """When the ingest was begun, in nanoseconds since the epoch, if known."""
        content = self._note(STARTED)
        return None if content is None else times.parse(content.decode(errors="replace").strip())

    def _note(self, name: str) -> bytes | None:
        """The content of a file on which nothing depends."""
        try:
            return disk.read_small(name, self.fd)
        except OSError:
            return None

    def status(self, data: os.stat_result, holders: locks.Holders) -> Status:
        """All that is known, given the data's stat and a look at the locks."""
        lock = self.stat(LOCK)
        return Status(
            ref=self.ref,
            offset=data.st_size,
            total=self.total(),
            expected=self.expected(),
            started_ns=self.started_ns(),
            updated_ns=data.st_mtime_ns,
            locked=lock is not None and holders.pid(lock) is not None,
            error=self.error(),
        )

    # --------------------------------------------------------------------------------- changing

    def forget(self) -> None:
        """Remove what an ingest that has gone left in its folder.  The caller holds the lock.

        Whoever sets an expectation needs no lock, so it may come after the ingest was dropped.
        """
        _remove(self.fd, (name for name in INGEST_FILES if name not in (DATA, LOCK)))

    def prepare(self) -> None:
        """Have the files that describe the ingest there.  The caller holds the lock."""
        ref = self.ref.text.encode()
        now = times.rfc3339(time.time_ns()).encode()
        try:
            disk.create_small(REF, self.fd, ref)
            disk.create_small(STARTED, self.fd, now)
            disk.create_small(UPDATED, self.fd, now)
        except FileExistsError:
            # The folder's name is the proof of its ref: what a crash left half-made is repaired.
            if disk.read_small(REF, self.fd) != ref:
                disk.replace_small(REF, self.fd, ref)
            if self.started_ns() is None:
                disk.replace_small(STARTED, self.fd, now)

    def open_data(self) -> int:
        """The data for reading and writing, made empty where there is none.

        Raises:
            NotRegular: something else stands there.
        """
        flags = os.O_RDWR | os.O_CREAT
        try:
            return disk.open_regular(DATA, flags, dir_fd=self.fd)
        except PermissionError:
            # A commit that was cut short has made it read-only, which only root can open.
            fd = disk.open_regular(DATA, os.O_RDONLY, dir_fd=self.fd)
            try:
                found = os.fstat(fd)
                if found.st_nlink == 1:
                    disk.chmod(fd, stat.S_IMODE(found.st_mode) | stat.S_IWUSR)
            finally:
                os.close(fd)
            # What is a blob as well stays read-only: the writer makes a copy before it writes.
            return disk.open_regular(DATA, flags if found.st_nlink == 1 else 0, dir_fd=self.fd)

    def set_expected(self, digest: Digest | None) -> None:
        """Write down the expected digest, or that none is expected whatever the ref's name says."""
        if digest is not None:
            disk.replace_small(EXPECTED, self.fd, str(digest).encode())
        elif self.ref.implied_digest is not None:
            disk.replace_small(EXPECTED, self.fd, _REMOVED)
        else:
            disk.unlink(EXPECTED, dir_fd=self.fd)
        self.clear_error()

    def set_total(self, size: int | None) -> None:
        """Write down the expected size in bytes, or that none is known.

        Raises:
            InvalidSize: it is not between 0 and 2**63 - 1.
        """
        if size is not None:
            disk.replace_small(TOTAL, self.fd, str(parse_size(str(size))).encode())
        else:
            disk.unlink(TOTAL, dir_fd=self.fd)
        self.clear_error()

    def set_error(self, verdict: str) -> None:
        """Write down why the last verdict was no."""
        disk.replace_small(ERROR, self.fd, verdict.encode(errors="replace"))

    def clear_error(self) -> None:
        """The last verdict holds no longer."""
        disk.unlink(ERROR, dir_fd=self.fd)

    def touch(self) -> None:
        """Write down that the bytes changed last now."""
        now = times.rfc3339(time.time_ns()).encode()
        with contextlib.suppress(OSError, NotRegular):
            fd = disk.open_regular(UPDATED, os.O_WRONLY | os.O_CREAT, dir_fd=self.fd)
            try:
                disk.write_all(fd, now, 0)
                disk.truncate(fd, len(now))
            finally:
                os.close(fd)

    def drop(self) -> None:
        """Remove the ingest.  The caller holds the lock; what is not ours is left alone.

        Raises:
            OSError: some of it is still there; call again.
        """
        drop_folder(self.fd, self.path)

    # ---------------------------------------------------------------------------------- moving

    def description(self) -> dict[str, bytes | None]:
        """What is written down of the ingest, by file name; None for what is not."""
        return {name: disk.read_small(name, self.fd) for name in _DESCRIPTION}

    def description_for(self, ref: Ref) -> dict[str, bytes | None]:
        """What of `description` goes along when the ingest gets the ref ``ref``.

        That an expectation was removed does not: the new name may state another.  Nor does a
        verdict on what is no longer expected.
        """
        going = self.description()
        expected = self.expected_as_set()
        if expected is None:
            going[EXPECTED] = None
        if (expected or ref.implied_digest) != self.expected():
            going[ERROR] = None
        return going

    def describe(self, description: Mapping[str, bytes | None]) -> None:
        """Write down what is in ``description``, and remove what is None there."""
        for name, content in description.items():
            if content is None:
                disk.unlink(name, dir_fd=self.fd)
            else:
                disk.replace_small(name, self.fd, content)


def drop_folder(fd: int, path: str) -> None:
    """As `Ingest.drop`, for the folder of an ingest whose ref need not be known.

    Args:
        fd: the folder, open.
        path: where it is.
    """
    disk.unlink(DATA, dir_fd=fd)
    _remove(fd, INGEST_FILES)
    disk.rmdir(path)


def _remove(fd: int, names: Iterable[str]) -> None:
    found = os.listdir(fd)
    for name in found:
        if name.startswith(disk.TEMPORARY):
            disk.unlink(name, dir_fd=fd)
    for name in names:
        if name in found:
            disk.unlink(name, dir_fd=fd)


def _digest_or_none(content: bytes | None) -> Digest | None:
    try:
        return None if content is None else Digest.parse(content.decode().strip())
    except (Invalid, UnicodeDecodeError):
        return None
