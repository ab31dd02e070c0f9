"""What a loss of power has left of a store, held against what was promised before it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from store import DigestMismatch, Store
from tests.reliability.power.workload import content_of


class _Promises:
    """What the marks say.

    Attributes:
        stored: the blobs that must be there.
        foreign: the blobs that another program has written: whole only once they are stored.
        synced: for each name that a synced ingest began with, its key and its durable bytes.
        names: the names that it may have by now.
    """

    def __init__(self, marks: list[str]) -> None:
        self.stored: set[str] = set()
        self.foreign: set[str] = set()
        self.synced: dict[str, tuple[str, int]] = {}
        self.names: dict[str, set[str]] = {}
        for mark in marks:
            verb, *words = mark.split(" ")
            if verb == "stored":
                self.stored.add(words[0])
            elif verb == "deleting":
                self.stored.discard(words[0])
            elif verb == "foreign":
                self.foreign.add(words[0])
            elif verb == "synced":
                self.synced[words[0]] = (words[1].replace("_", " "), int(words[2]))
                self.names[words[0]] = {words[0]}
            elif verb == "moving":
                self.names[words[0]].add(words[1])
            elif verb == "ending":
                del self.synced[words[0]]


def judge(root: Path, marks: list[str]) -> list[str]:
    """Look at a store as it was left, resume and commit or remove its ingests, and tell faults."""
    promises = _Promises(marks)
    faults = _blobs(root, promises)
    store = Store(root)
    listed = {status.ref.text: status.offset for status in store.active()}
    for began, (key, size) in promises.synced.items():
        there = [name for name in promises.names[began] if listed.get(name, -1) >= size]
        if not there:
            found = {name: listed.get(name) for name in promises.names[began]}
            faults.append(f"ingest {began}: {size} bytes were synced, there are {found}")
            continue
        with contextlib.suppress(StopIteration):
            faults += _resume(store, there[0], content_of(key), size)
            del listed[there[0]]
    for ref in listed:
        store.abort(ref)
    faults += [f"ingest {status.ref} cannot be removed" for status in store.active()]
    faults += _blobs(root, promises)
    return faults


def _blobs(root: Path, promises: _Promises) -> list[str]:
    folder = root / "blobs" / "sha256"
    there = set(os.listdir(folder)) if folder.exists() else set()
    wrong = [
        name
        for name in there - (promises.foreign - promises.stored)
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != name
    ]
    return [f"blob {name} has other bytes" for name in wrong] + [
        f"blob {name} was acknowledged and is gone" for name in promises.stored - there
    ]


def _resume(store: Store, ref: str, content: bytes, size: int) -> list[str]:
    """Go on with an ingest, of which ``size`` bytes must be right, and commit it."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with store.writer(ref) as writer:
        if os.pread(writer.fileno(), size, 0) != content[:size]:
            return [f"ingest {ref}: its {size} synced bytes are others"]
        try:
            writer.write(content[writer.offset :])
            writer.commit(len(content), digest)
        except DigestMismatch:
            # What was not synced may be anything; starting over must do.
            writer.truncate(0)
            writer.write(content)
            writer.commit(len(content), digest)
    return []
