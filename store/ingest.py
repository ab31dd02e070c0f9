"""An ingest transaction on disk: its folder, what lies in it, who holds it, and the list of all.

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
from store.errors import Busy, Invalid, InvalidSize, NotFound, NotRegular
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
    is_ingest_folder_name,
)
from store.refs import Ref

if TYPE_CHECKING:
    from collections.abc import Iterator

    from store.layout import Layout

__all__ = ["Held", "Ingest", "Ingests", "Status", "parse_size"]

_REMOVED: Final = b"none"
"""In ``expected``: what the ref's own name says was removed, and stays so."""

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
        """Why the last verdict was no, if it was."""
        content = disk.read_small(ERROR, self.fd)
        return content.decode(errors="replace") if content else None

    def started_ns(self) -> int | None:
        """When the ingest was begun, in nanoseconds since the epoch, if known."""
        content = disk.read_small(STARTED, self.fd)
        return None if content is None else times.parse(content.decode(errors="replace").strip())

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
                disk.chmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | stat.S_IWUSR)
            finally:
                os.close(fd)
            return disk.open_regular(DATA, flags, dir_fd=self.fd)

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
        """Write down the expected size in bytes, or that none is known."""
        if size is not None:
            disk.replace_small(TOTAL, self.fd, str(size).encode())
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
        disk.unlink(DATA, dir_fd=self.fd)
        found = set(os.listdir(self.fd))
        for name in found:
            if name.startswith(disk.TEMPORARY):
                disk.unlink(name, dir_fd=self.fd)
        for name in INGEST_FILES:
            if name in found:
                disk.unlink(name, dir_fd=self.fd)
        disk.rmdir(self.path)


class Held(NamedTuple):
    """An ingest and our lock on it."""

    ingest: Ingest
    lock: int

    def release(self) -> None:
        """Let go of both."""
        locks.release(self.lock)
        self.ingest.close()


class Ingests:
    """The ingests of one store.  Safe from many threads."""

    __slots__ = ("_layout", "sync_folder")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.sync_folder = disk.SharedSync(layout.ingests)

    # ---------------------------------------------------------------------------------- looking

    def open(self, ref: Ref) -> Ingest:
        """The ingest of a ref.

        Raises:
            NotFound: there is none.
            NotRegular: something that is no folder stands in its place.
        """
        try:
            ingest = Ingest(ref, self._layout)
        except (FileNotFoundError, NotRegular):
            raise NotFound("ingest", ref.text) from None
        if ingest.live() is None:
            ingest.close()
            raise NotFound("ingest", ref.text)
        return ingest

    def stat(self, ref: Ref) -> os.stat_result:
        """The stat of an ingest's data.

        Raises:
            NotFound: there is none.
        """
        try:
            data = os.lstat(f"{self._layout.ingest(ref)}/{DATA}")
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("ingest", ref.text) from None
        if data.st_nlink == 1 and stat.S_ISREG(data.st_mode):
            return data
        ingest = self.open(ref)
        ingest.close()
        return data

    def open_data(self, ref: Ref) -> int:
        """A descriptor for reading the bytes that an ingest holds.

        Raises:
            NotFound: there is none.
            NotRegular: its data is no file.
        """
        ingest = self.open(ref)
        try:
            return disk.open_regular(DATA, os.O_RDONLY, dir_fd=ingest.fd)
        except FileNotFoundError:
            raise NotFound("ingest", ref.text) from None
        finally:
            ingest.close()

    def status(self, ref: Ref) -> Status:
        """All that is known of an ingest.

        Raises:
            NotFound: there is none.
        """
        ingest = self.open(ref)
        try:
            data = ingest.live()
            if data is None:
                raise NotFound("ingest", ref.text)
            return ingest.status(data, locks.Holders())
        finally:
            ingest.close()

    def refs(self) -> Iterator[Ref]:
        """The refs of all folders that may be ingests, as they come."""
        try:
            entries = os.scandir(self._layout.ingests)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                if is_ingest_folder_name(entry.name) and entry.is_dir(follow_symlinks=False):
                    ref = self._ref_of(entry.name)
                    if ref is not None:
                        yield ref

    def _ref_of(self, folder: str) -> Ref | None:
        """The ref that a folder says it is of, if that is true."""
        try:
            fd = disk.open_dir(self._layout.ingest_folder(folder))
        except (OSError, NotRegular):
            return None
        try:
            content = disk.read_small(REF, fd)
            ref = None if content is None else Ref(content.decode())
        except (UnicodeDecodeError, Invalid):
            return None
        finally:
            os.close(fd)
        if ref is None or self._layout.ingest(ref) != self._layout.ingest_folder(folder):
            return None
        return ref

    def all(self) -> Iterator[Status]:
        """What is known of every ingest, as they come; one that goes meanwhile is passed over."""
        holders = locks.Holders()
        for ref in self.refs():
            try:
                ingest = self.open(ref)
            except (NotFound, OSError):
                continue
            try:
                data = ingest.live()
                if data is not None:
                    yield ingest.status(data, holders)
            finally:
                ingest.close()

    # --------------------------------------------------------------------------------- changing

    def hold(self, ref: Ref, *, create: bool) -> Held:
        """Take the lock on an ingest.

        Args:
            ref: the ingest's key.
            create: whether to make the folder where there is none, and to take it without data.

        Raises:
            Busy: somebody else holds it.
            NotFound: ``create`` is False and there is no ingest.
            NotRegular: something else stands in a place of ours.
            OSError: as of mkdir(2) and open(2).
        """
        while True:
            held = self._try_hold(ref, create=create)
            if held is None:
                # It was dropped between our opening and our locking.
                continue
            data = held.ingest.stat(DATA)
            if data is not None and held.ingest.published(data):
                self._drop(held)
                continue
            if data is None and not create:
                held.release()
                raise NotFound("ingest", ref.text)
            return held

    def _try_hold(self, ref: Ref, *, create: bool) -> Held | None:
        if create:
            self._make_folder(self._layout.ingest(ref))
        try:
            ingest = Ingest(ref, self._layout)
        except FileNotFoundError:
            if create:
                return None
            raise NotFound("ingest", ref.text) from None
        try:
            lock = disk.open_regular(LOCK, os.O_RDWR | os.O_CREAT, dir_fd=ingest.fd)
        except FileNotFoundError:
            ingest.close()
            return None
        except BaseException:
            ingest.close()
            raise
        try:
            ours = locks.acquire(lock)
        except BaseException:
            os.close(lock)
            ingest.close()
            raise
        if not ours:
            holder = locks.Holders().pid(os.fstat(lock))
            os.close(lock)
            ingest.close()
            raise Busy(ref.text, holder)
        held = Held(ingest, lock)
        if self._is_current(held):
            return held
        held.release()
        return None

    def _is_current(self, held: Held) -> bool:
        """Whether the names still lead to what we hold: a dropped folder's lock means nothing."""
        try:
            folder = os.lstat(held.ingest.path)
            lock = os.stat(LOCK, dir_fd=held.ingest.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(folder, os.fstat(held.ingest.fd)) and os.path.samestat(
            lock, os.fstat(held.lock)
        )

    def _make_folder(self, path: str) -> None:
        try:
            disk.make_dir(path)
        except FileNotFoundError:
            disk.make_dir(self._layout.root)
            disk.make_dir(self._layout.ingests)
            disk.make_dir(path)

    @staticmethod
    def _drop(held: Held) -> None:
        try:
            held.ingest.drop()
        finally:
            held.release()

    def abort(self, ref: Ref) -> None:
        """Remove an ingest and its bytes.

        Raises:
            NotFound: there is none.
            Busy: a writer holds it.
            OSError: some of it is still there.
        """
        self._drop(self.hold(ref, create=False))

    def rename(self, old: Ref, new: Ref) -> None:
        """Give an ingest another ref, in one step: its data moves, by one rename(2).

        What was set of the old one goes along; what stood under the new ref is replaced.

        Raises:
            NotFound: there is no ingest ``old``.
            Busy: a writer holds either.
            OSError: both are as they were.
        """
        source = self.hold(old, create=False)
        try:
            if new == old:
                return
            target = self.hold(new, create=True)
            try:
                self._move(source.ingest, target.ingest)
            finally:
                target.release()
            source.ingest.drop()
        finally:
            source.release()

    def _move(self, source: Ingest, target: Ingest) -> None:
        before = (target.expected_as_set(), target.total(), target.live() is not None)
        try:
            target.prepare()
            self._describe(target, source.expected_as_set(), source.total())
            # The names that make the moved bytes findable must not be lost where they are not.
            disk.fsync_name(REF, target.fd)
            disk.fsync(target.fd)
            self.sync_folder()
            disk.move(DATA, source.fd, target.fd)
        except BaseException:
            with contextlib.suppress(OSError):
                expected, total, stood = before
                if stood:
                    self._describe(target, expected, total)
                else:
                    target.drop()
            raise

    @staticmethod
    def _describe(ingest: Ingest, expected: Digest | None, total: int | None) -> None:
        if expected is not None:
            ingest.set_expected(expected)
        else:
            disk.unlink(EXPECTED, dir_fd=ingest.fd)
        ingest.set_total(total)


def _digest_or_none(content: bytes | None) -> Digest | None:
    try:
        return None if content is None else Digest.parse(content.decode().strip())
    except (Invalid, UnicodeDecodeError):
        return None
