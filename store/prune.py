"""Ingests that were abandoned: found, and dropped.

An ingest whose writer went away waits for the next one, for ever if none comes.  Likewise a crash
may leave a folder that is not yet an ingest, or no longer one.  Whatever of this nobody holds and
nobody has touched for long enough is dropped; blobs never are.
"""

from __future__ import annotations

import os
import stat
from errno import ENOTEMPTY
from typing import TYPE_CHECKING, NamedTuple

from store import disk, locks
from store.errors import Busy, NotRegular, ReadOnly
from store.ingest import drop_folder
from store.layout import DATA, LOCK, is_ingest_folder_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from store.refs import Ref
    from store.store import Store

__all__ = ["Abandoned", "abandoned", "drop"]


class Abandoned(NamedTuple):
    """The folder of an ingest that nobody holds.

    Attributes:
        folder: its name under ``ingest/``.
        ref: the ingest's key; None where the folder does not say.
        size: the bytes that dropping it frees (none where they are a blob's as well).
        touched_ns: when anything in it changed last, in nanoseconds since the epoch.
    """

    folder: str
    ref: Ref | None
    size: int
    touched_ns: int


def abandoned(store: Store, before_ns: int) -> Iterator[Abandoned]:
    """The ingests that nobody holds, and in which nothing changed since ``before_ns``.

    Raises:
        OSError: the folder of ingests cannot be read.
    """
    holders = locks.Holders()
    try:
        names = sorted(os.listdir(store.layout.ingests))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if not is_ingest_folder_name(name):
            continue
        try:
            fd = disk.open_dir(store.layout.ingest_folder(name))
        except (OSError, NotRegular):
            continue
        try:
            files = _files(fd)
            # The folder changes with the names in it, so with the setting of an expectation.
            touched = max(_touched(files), os.fstat(fd).st_mtime_ns)
        finally:
            os.close(fd)
        lock = files.get(LOCK)
        if touched <= before_ns and (lock is None or holders.pid(lock) is None):
            yield Abandoned(name, store.ingests.ref_of(name), _size(files), touched)


def drop(store: Store, found: Abandoned) -> bool:
    """Remove an abandoned ingest, unless it is not abandoned any more.

    Returns:
        False where somebody holds it, has touched it since, or has removed it.

    Raises:
        ReadOnly: the store was opened to look only.
        OSError: some of it is still there, for instance a file that is none of ours.
    """
    if store.read_only:
        raise ReadOnly(store.root)
    path = store.layout.ingest_folder(found.folder)
    try:
        dropped = _drop_known(store, found, found.ref) if found.ref else _drop(store, found, path)
    except (Busy, FileNotFoundError):
        return False
    if dropped and os.path.lexists(path):
        raise OSError(ENOTEMPTY, os.strerror(ENOTEMPTY), path)
    return dropped


def _drop_known(store: Store, found: Abandoned, ref: Ref) -> bool:
    os.lstat(store.layout.ingest(ref))
    # `create`, since what is no ingest for want of data is to be dropped as well.
    held = store.ingests.hold(ref, create=True)
    try:
        if _touched(_files(held.ingest.fd)) > found.touched_ns:
            return False
        held.ingest.drop()
    finally:
        held.release()
    return True


def _drop(store: Store, found: Abandoned, path: str) -> bool:
    """As `drop`, where the folder does not say whose it is."""
    fd = disk.open_dir(path)
    try:
        lock = locks.acquire(fd)
        if lock is None:
            return False
        try:
            files = _files(fd)
            if _touched(files) > found.touched_ns or not os.path.samestat(
                os.lstat(path), os.fstat(fd)
            ):
                return False
            if DATA in files and files[DATA].st_nlink > 1:
                # The data may be a blob whose own name is not durable yet.
                for algorithm in store.blobs.algorithms():
                    if os.path.isdir(store.layout.algorithm(algorithm)):
                        disk.fsync_dir(store.layout.algorithm(algorithm))
            drop_folder(fd, path)
        finally:
            lock.release()
    finally:
        os.close(fd)
    return True


def _files(fd: int) -> dict[str, os.stat_result]:
    """The stat of everything in an open folder, by name."""
    found = {}
    for name in os.listdir(fd):
        try:
            found[name] = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
    return found


def _touched(files: dict[str, os.stat_result]) -> int:
    # The lock file is left out: it may have been made only now, by who wants to drop it all.
    return max((each.st_mtime_ns for name, each in files.items() if name != LOCK), default=0)


def _size(files: dict[str, os.stat_result]) -> int:
    data = files.get(DATA)
    if data is None or not stat.S_ISREG(data.st_mode) or data.st_nlink > 1:
        return 0
    return data.st_size
