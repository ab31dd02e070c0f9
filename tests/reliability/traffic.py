"""A client of a mount whose daemon is killed again and again: it writes, or reads, and keeps count.

Run as ``traffic.py write|read MOUNTPOINT RECORD SEED``.  Standard input names each new mount by a
number; its end asks the client to leave what it has in hand and go.  What it was acknowledged is
appended to RECORD, a JSON object a line.  A promise that was not kept ends it with status 1.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import select
import sys
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

# What a client sees of a daemon that was killed, and of the mountpoint while nothing is mounted.
CUT_OFF: Final = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.ENODEV})
_SIZES: Final = (4_000, 250_000, 3_000_000)
_SHARED: Final = 20


class EndOfRunError(Exception):
    """No further mount will come."""


class Mounts:
    """The mounts as they come, by number."""

    def __init__(self) -> None:
        self._current = 0
        self._rest = b""

    def drain(self) -> None:
        """Take notice of all that have come."""
        while select.select([0], [], [], 0)[0]:
            self._take()

    def wait(self) -> None:
        """Wait for one that is new."""
        known = self._current
        while self._current == known:
            self._take()

    def _take(self) -> None:
        got = os.read(0, 4096)
        if not got:
            raise EndOfRunError
        *numbers, self._rest = (self._rest + got).split(b"\n")
        if numbers:
            self._current = int(numbers[-1])


class Item(NamedTuple):
    """Something to be stored.

    Attributes:
        key: what its bytes are made from.
        size: how many they are.
        way: how it is brought: ``named``, ``xattr``, ``rename`` or ``abort``.
        ref: the name that it is written under.
    """

    key: str
    size: int
    way: str
    ref: str

    @property
    def content(self) -> bytes:
        """Its bytes."""
        return random.Random(self.key).randbytes(self.size)

    @staticmethod
    def renamed(path: Path, digest: str) -> Path:
        """What a rename that commits it calls it."""
        return path.with_name(f"{path.name}@sha256:{digest}")


def broken(promise: str) -> NoReturn:
    """End this client: something is lost or wrong."""
    print(f"BROKEN: {promise}", flush=True)
    sys.exit(1)


class Client:
    """One writer, and what it was acknowledged."""

    def __init__(self, point: Path, record: Path, seed: str) -> None:
        self._ingest = point / "ingest"
        self._blobs = point / "blobs" / "sha256"
        self._record = record.open("a", buffering=1)
        self._chance = random.Random(seed)
        self._seed = seed
        self._count = 0
        self.acknowledged = 0

    def choose(self) -> Item:
        """The next thing to store; one in five is stored by others too."""
        self._count += 1
        chance = self._chance
        way = chance.choice(("named", "named", "xattr", "rename", "abort"))
        key = f"{self._seed}/{self._count}"
        if chance.random() < 1 / 5:
            key = f"shared/{chance.randrange(_SHARED)}"
        size = random.Random(f"size of {key}").randint(1, chance_of_size(key))
        digest = hashlib.sha256(random.Random(key).randbytes(size)).hexdigest()
        suffix = f"@sha256:{digest}" if way == "named" else ""
        return Item(key, size, way, f"{self._seed}-{self._count}{suffix}".replace("/", "%2F"))

    def bring(self, item: Item) -> None:
        """Store one thing, from wherever it stands, and note it."""
        content = item.content
        digest = hashlib.sha256(content).hexdigest()
        path = self._ingest / item.ref
        if item.way == "abort":
            self._append(path, content[: len(content) // 2])
            self.acknowledged = 0
            os.unlink(path)
            self._note("aborted", item)
        elif item.way == "rename" and not _exists(path) and _exists(item.renamed(path, digest)):
            self._append(item.renamed(path, digest), content)
        elif self._stands(path, digest):
            self._append(path, content)
            self._finish(item, path, digest)
        self.acknowledged = 0
        if item.way != "abort":
            self._seen(digest, item)

    def _stands(self, path: Path, digest: str) -> bool:
        """Whether there is still something to do: False once it is a blob."""
        if not _exists(path):
            if _exists(self._blobs / digest):
                return False
            # Also where nothing is mounted.
            os.stat(self._ingest)
            if self.acknowledged:
                broken(f"{path.name} is gone with {self.acknowledged} bytes, and no blob is there")
        return True

    def _append(self, path: Path, content: bytes) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            have = os.fstat(fd).st_size
            if have < self.acknowledged or have > len(content):
                broken(f"{path.name} has {have} bytes, {self.acknowledged} were acknowledged")
            if os.pread(fd, have, 0) != content[:have]:
                broken(f"the first {have} bytes of {path.name} are not what was written")
            if self.acknowledged:
                self._record.write(json.dumps({"what": "resumed"}) + "\n")
            self.acknowledged = have
            while self.acknowledged < len(content):
                end = self.acknowledged + self._chance.choice((1_000, 100_000, 1_000_000))
                self.acknowledged += os.write(fd, content[self.acknowledged : end])
                if self._chance.random() < 1 / 10:
                    os.fsync(fd)
        finally:
            os.close(fd)

    def _finish(self, item: Item, path: Path, digest: str) -> None:
        if item.way == "xattr":
            os.setxattr(path, "user.content.expected-digest", f"sha256:{digest}".encode())
        elif item.way == "rename":
            os.rename(path, item.renamed(path, digest))

    def _seen(self, digest: str, item: Item) -> None:
        blob = self._blobs / digest
        if blob.stat().st_size != item.size:
            broken(f"blob {digest} has {blob.stat().st_size} bytes, not {item.size}")
        self._note("stored", item, digest)

    def _note(self, what: str, item: Item, digest: str = "") -> None:
        self._record.write(json.dumps({"what": what, "digest": digest, **item._asdict()}) + "\n")

    def leave(self, item: Item) -> None:
        """Note what is unfinished."""
        note = {"what": "left", "acknowledged": self.acknowledged, **item._asdict()}
        self._record.write(json.dumps(note) + "\n")


def _exists(path: Path) -> bool:
    """As `Path.exists`, but a mount that is cut off is an error."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def chance_of_size(key: str) -> int:
    """The most bytes that the content of a key may have."""
    return random.Random(f"limit of {key}").choice(_SIZES)


def write(point: Path, record: Path, seed: str) -> None:
    """Store one thing after another until the end."""
    mounts = Mounts()
    client = Client(point, record, seed)
    while True:
        item = client.choose()
        done = False
        while not done:
            try:
                mounts.drain()
                client.bring(item)
                done = True
            except EndOfRunError:
                client.leave(item)
                return
            except OSError as error:
                if error.errno not in CUT_OFF:
                    broken(f"{item.way} of {item.ref}: {error}")
                try:
                    mounts.wait()
                except EndOfRunError:
                    client.leave(item)
                    return


def read(point: Path, record: Path, seed: str) -> None:
    """Read blobs and ingests until the end; what is read must be right."""
    mounts = Mounts()
    chance = random.Random(seed)
    read_whole = 0
    try:
        while True:
            try:
                mounts.drain()
                read_whole += _read_one(point, chance)
            except OSError as error:
                # A page that was being read when the daemon went is EIO for who waits for it.
                if error.errno not in CUT_OFF | {errno.EIO}:
                    broken(f"reading: {error}")
                mounts.wait()
    except EndOfRunError:
        record.write_text(json.dumps({"what": "read", "count": read_whole}) + "\n")


def _read_one(point: Path, chance: random.Random) -> int:
    names = os.listdir(point / "blobs" / "sha256")
    if not names:
        return 0
    name = chance.choice(names)
    content = (point / "blobs" / "sha256" / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != name:
        broken(f"blob {name} reads as something else, {len(content)} bytes")
    for ref in os.listdir(point / "ingest"):
        path = point / "ingest" / ref
        try:
            size, got = path.stat().st_size, len(path.read_bytes())
        except FileNotFoundError:
            continue  # committed or aborted meanwhile
        if got < size:
            broken(f"{ref} had {size} bytes and then {got}")
    return 1


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
