"""Does a store look as it should?  Names what does not, and repairs nothing.

What is listed here harms nobody: it is passed over by every listing, and an ingest is repaired by
its next writer.  But nobody should have to wonder what it is.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from store import disk, locks, times
from store.digest import Digest
from store.errors import Invalid, NotRegular
from store.ingest import parse_size
from store.layout import DATA, EXPECTED, LOCK, REF, STARTED, TOTAL, UPDATED, is_ingest_folder_name
from store.refs import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from store.layout import Layout
    from store.store import Store

__all__ = ["Oddity", "oddities"]


class Oddity(NamedTuple):
    """Something that is not as it should be.

    Attributes:
        path: where, relative to the store's folder.
        ref: the ingest that it is of, if it is of one that says so.
        problem: what is wrong, in a few words.
    """

    path: str
    ref: Ref | None
    problem: str


def oddities(store: Store) -> Iterator[Oddity]:
    """What is odd under ``blobs/`` and ``ingest/``; what is under way in an ingest is not.

    Raises:
        OSError: a folder cannot be read.
    """
    yield from _blobs(store.layout)
    yield from _ingests(store.layout)


def _scan(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        yield from entries


def _blobs(layout: Layout) -> Iterator[Oddity]:
    for folder in _scan(layout.blobs):
        path = f"blobs/{folder.name}"
        if not folder.is_dir():
            yield Oddity(path, None, "no folder")
            continue
        for entry in _scan(folder.path):
            if layout.digest_of(folder.name, entry.name) is None:
                yield Oddity(f"{path}/{entry.name}", None, "not the name of a blob")
            elif not entry.is_file(follow_symlinks=False):
                yield Oddity(f"{path}/{entry.name}", None, "not a regular file")


def _ingests(layout: Layout) -> Iterator[Oddity]:
    for entry in _scan(layout.ingests):
        path = f"ingest/{entry.name}"
        if not is_ingest_folder_name(entry.name) or not entry.is_dir(follow_symlinks=False):
            yield Oddity(path, None, "not the folder of an ingest")
            continue
        try:
            fd = disk.open_dir(entry.path)
        except (FileNotFoundError, NotRegular):
            continue
        try:
            ref = _ref(fd, layout, entry.path)
            # Asked after the folder was looked at: what nobody holds now nobody was making then.
            problems = list(_ingest(fd, ref))
            if problems and not _held(fd):
                yield from (Oddity(path, ref, problem) for problem in problems)
        finally:
            os.close(fd)


def _ref(fd: int, layout: Layout, path: str) -> Ref | None:
    content = disk.read_small(REF, fd)
    try:
        ref = None if content is None else Ref(content.decode())
    except (Invalid, UnicodeDecodeError):
        return None
    return ref if ref is not None and layout.ingest(ref) == path else None


def _held(fd: int) -> bool:
    try:
        lock = os.stat(LOCK, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return locks.Holders().pid(lock) is not None


def _ingest(fd: int, ref: Ref | None) -> Iterator[str]:
    try:
        data = os.stat(DATA, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        yield "half made: it has no data"
        return
    if ref is None:
        yield "its ref is missing or another's, so it is not listed"
    if not stat.S_ISREG(data.st_mode):
        yield "its data is not a regular file"
    for name, parse in _PARSERS.items():
        content = disk.read_small(name, fd)
        if content is not None and not parse(content.decode(errors="replace").strip()):
            yield f"its {name} does not parse"


def _is_size(text: str) -> bool:
    try:
        parse_size(text)
    except Invalid:
        return False
    return True


def _is_expectation(text: str) -> bool:
    try:
        Digest.parse(text)
    except Invalid:
        return text == "none"
    return True


def _is_time(text: str) -> bool:
    return times.parse(text) is not None


_PARSERS: Final[dict[str, Callable[[str], bool]]] = {
    TOTAL: _is_size,
    EXPECTED: _is_expectation,
    STARTED: _is_time,
    UPDATED: _is_time,
}
