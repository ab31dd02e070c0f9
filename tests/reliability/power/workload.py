"""Mixed work on a store, through a mount, the store itself and the command line.

Run as ``workload.py ROOT MOUNTPOINT MARKS SEED THREADS COUNT``; the mount stands.  Before and after
each step it marks what it is about to take back and what it has been promised:

=========================  ================================================================
mark                       says
=========================  ================================================================
``stored DIGEST``          the blob is there, durably
``deleting DIGEST``        it need not be there any more
``foreign DIGEST``         another program writes it, in place, and does not sync it
``synced REF KEY SIZE``    the first SIZE bytes of the content of KEY are in the ingest, durably
``moving REF REF``         the ingest may be under either from now on
``ending REF``             the ingest need not be there any more
=========================  ================================================================
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from store import Store
from tests.reliability.mounted import DIST, ENVIRONMENT
from tests.reliability.power import leftout

_SMALL = 20_000
_LARGE = 1_200_000
_SHARED = 6


def content_of(key: str) -> bytes:
    """The bytes that a key stands for."""
    chance = random.Random(key)
    return chance.randbytes(chance.randint(_LARGE // 4, _LARGE if "large" in key else _SMALL * 16))


class Worker:
    """One after another of everything that can be done."""

    def __init__(self, root: Path, point: Path, marks: int, name: str) -> None:
        self._store = Store(root)
        self._point = point
        self._marks = marks
        self._name = name
        self._chance = random.Random(name)
        self._count = 0
        self._ways: list[Callable[[str, bytes], None]] = [
            self._through_the_mount, self._through_the_mount, self._through_the_store,
            self._in_two_sittings, self._given_up, self._renamed, self._by_its_new_name,
            self._set_afterwards, self._put_there_by_another, self._left,
        ]  # fmt: skip

    def _mark(self, text: str) -> None:
        os.write(self._marks, f"{text}\n".encode())

    def step(self) -> None:
        """Do one thing."""
        self._count += 1
        size = self._chance.choice(("small", "small", "small", "large"))
        key = f"{self._name}/{self._count} {size}"
        if self._chance.random() < 1 / 6:
            key = f"shared {self._chance.randrange(_SHARED)} {size}"
        content = content_of(key)
        self._chance.choice(self._ways)(key, content)
        if self._chance.random() < 1 / 12:
            self._delete()

    def _ref(self) -> str:
        return f"{self._name}.{self._count}"

    def _path(self, ref: str) -> Path:
        return self._point / "ingest" / ref

    def _stored(self, content: bytes) -> None:
        self._mark(f"stored {hashlib.sha256(content).hexdigest()}")

    def _named(self, content: bytes) -> str:
        return f"{self._ref()}@sha256:{hashlib.sha256(content).hexdigest()}"

    def _synced(self, ref: str, key: str, content: bytes) -> None:
        """Write an ingest and have its bytes durable."""
        with self._path(ref).open("wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())
            self._mark(f"synced {ref} {key.replace(' ', '_')} {len(content)}")

    def _through_the_mount(self, key: str, content: bytes) -> None:
        self._path(self._named(content)).write_bytes(content)
        self._stored(content)

    def _through_the_store(self, key: str, content: bytes) -> None:
        with self._store.writer(self._ref(), expected=_digest(content)) as writer:
            for at in range(0, len(content), 300_000):
                writer.write(content[at : at + 300_000])
            writer.commit()
        self._stored(content)

    def _through_dist(self, key: str, content: bytes) -> None:
        words = [*DIST, "--root", self._store.root, "ingest", "--expected-digest", _digest(content)]
        subprocess.run(
            [*words, self._ref()], input=content, env=ENVIRONMENT, check=True, capture_output=True
        )
        self._stored(content)

    def _put_there_by_another(self, key: str, content: bytes) -> None:
        """The blob is there already, written by a program that did not sync it."""
        blob = Path(self._store.layout.blobs, "sha256", hashlib.sha256(content).hexdigest())
        self._mark(f"foreign {blob.name}")
        with contextlib.suppress(FileExistsError), blob.open("xb") as file:
            file.write(content)
        self._path(self._named(content)).write_bytes(content)
        self._stored(content)

    def _in_two_sittings(self, key: str, content: bytes) -> None:
        ref = self._ref()
        self._synced(ref, key, content[: len(content) // 2])
        with self._path(ref).open("ab", buffering=0) as file:
            file.write(content[len(content) // 2 :])
        self._mark(f"ending {ref}")
        os.setxattr(self._path(ref), "user.content.expected-digest", _digest(content).encode())
        self._stored(content)

    def _given_up(self, key: str, content: bytes) -> None:
        ref = self._ref()
        self._synced(ref, key, content)
        self._mark(f"ending {ref}")
        self._path(ref).unlink()

    def _renamed(self, key: str, content: bytes) -> None:
        ref = self._ref()
        self._synced(ref, key, content)
        self._mark(f"moving {ref} {ref}.moved")
        self._path(ref).rename(self._path(f"{ref}.moved"))

    def _by_its_new_name(self, key: str, content: bytes) -> None:
        self._path(self._ref()).write_bytes(content)
        self._path(self._ref()).rename(self._path(self._named(content)))
        self._stored(content)

    def _set_afterwards(self, key: str, content: bytes) -> None:
        path = self._path(self._ref())
        path.write_bytes(content)
        os.setxattr(path, "user.checksum.sha256", _digest(content)[7:].encode())
        self._stored(content)

    def _left(self, key: str, content: bytes) -> None:
        self._synced(self._ref(), key, content)

    def _delete(self) -> None:
        digest = self._chance.choice(os.listdir(self._point / "blobs" / "sha256"))
        self._mark(f"deleting {digest}")
        try:
            self._store.delete(f"sha256:{digest}")
        except KeyError:
            return  # somebody else was faster

    def begin(self) -> None:
        """The first thing in a fresh store, and the slow ways once each."""
        content = content_of(f"{self._name} first small")
        self._through_the_mount("", content)
        self._through_dist("", content_of(f"{self._name} dist small"))
        self._through_dist("", content)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def main(root: Path, point: Path, marks: Path, seed: str, threads: int, count: int) -> int:
    """Work, and return the exit status."""
    leftout.install()
    descriptor = os.open(marks, os.O_WRONLY)
    workers = [Worker(root, point, descriptor, f"{seed}.{number}") for number in range(threads)]
    faults: list[str] = []

    def work(worker: Worker) -> None:
        try:
            for _ in range(count):
                worker.step()
        except Exception:  # noqa: BLE001 - whatever it was, the run is worth nothing
            faults.append(traceback.format_exc())

    workers[0].begin()
    running = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    places = [Path(word) for word in sys.argv[1:4]]
    sys.exit(main(places[0], places[1], places[2], sys.argv[4], *map(int, sys.argv[5:7])))
