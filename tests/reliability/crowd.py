"""Many clients in one process, each a thread: ``crowd.py ROLE MOUNTPOINT NAME THREADS COUNT``.

A thing that is wrong ends the process with status 1 and a line that says what.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

_SMALL = 60_000
_LARGE = 1_500_000


def _write(point: Path, name: str, count: int) -> None:
    """Store things in pieces, reopening at once after a close; now and then give one up."""
    chance = random.Random(name)
    for number in range(count):
        content = chance.randbytes(_LARGE if number % 7 == 6 else chance.randint(1, _SMALL))
        digest = hashlib.sha256(content).hexdigest()
        path = point / "ingest" / f"{name}.{number}@sha256:{digest}"
        half = len(content) // 2
        _refused(path.open("xb", buffering=0), content[:half])
        if number % 6 == 5:
            _refused(path.open("ab", buffering=0), b"not to be")
            path.unlink()
            continue
        with path.open("ab", buffering=0) as file:
            assert file.tell() == half, f"{path.name}: {file.tell()} of {half} bytes"
            while (at := file.tell()) < len(content):
                file.write(content[at : at + 200_000])
        blob = point / "blobs" / "sha256" / digest
        assert blob.read_bytes() == content, f"{blob} is not what was stored"


def _refused(file: io.FileIO, content: bytes) -> None:
    """Write what is not what the name says: the close must say so."""
    file.write(content)
    answer = _errno_of(file.close)
    assert answer == errno.EBADMSG, f"{file.name!r} was taken for what it is not: {answer}"


def _errno_of(call: Callable[[], object]) -> int | None:
    try:
        call()
    except OSError as error:
        return error.errno
    return None


def _read(point: Path, name: str, count: int) -> None:
    """Read blobs and ingests in any order; whatever can be read must be right."""
    chance = random.Random(name)
    blobs = point / "blobs" / "sha256"
    for _ in range(count):
        names = os.listdir(blobs)
        if names:
            chosen = chance.choice(names)
            content = (blobs / chosen).read_bytes()
            assert hashlib.sha256(content).hexdigest() == chosen, f"{chosen} reads as another"
            value = os.getxattr(blobs / chosen, "user.checksum.sha256")
            assert value.decode() == chosen
        for ref in os.listdir(point / "ingest")[:5]:
            _look(point / "ingest" / ref)


def _look(path: Path) -> None:
    try:
        size, got = path.stat().st_size, len(path.read_bytes())
        os.listxattr(path)
    except FileNotFoundError:
        return  # committed or given up meanwhile
    assert got >= size, f"{path.name}: {got} bytes of {size}"


def _same(point: Path, name: str, count: int) -> None:
    """Store the same things as everybody else, under names of one's own."""
    for number in range(count):
        content = random.Random(f"same {number}").randbytes(_LARGE)
        digest = hashlib.sha256(content).hexdigest()
        (point / "ingest" / f"{name}.{number}@sha256:{digest}").write_bytes(content)
        blob = point / "blobs" / "sha256" / digest
        assert blob.read_bytes() == content, f"{blob} is not what was stored"


def _mix(point: Path, name: str, count: int) -> None:
    """Make 30 system calls ``count`` times over, of every kind, that leave nothing new behind."""
    chance = random.Random(name)
    for number in range(count):
        content = random.Random(f"mix {number % 50}").randbytes(1 + number % 50 * 300)
        digest = hashlib.sha256(content).hexdigest()
        path = point / "ingest" / f"{name}.{number}"
        named = path.with_name(f"{path.name}@sha256:{digest}")
        named.write_bytes(content)
        blob = point / "blobs" / "sha256" / digest
        assert blob.read_bytes() == content
        assert os.getxattr(blob, "user.content.digest").decode() == f"sha256:{digest}"
        assert _errno_of(lambda p=path: p.stat()) == errno.ENOENT  # type: ignore[misc]
        path.write_bytes(content[: len(content) // 2])
        os.setxattr(path, "user.content.expected-size", b"%d" % (len(content) + 1))
        os.getxattr(path, "user.content.digest")
        with path.open("ab") as file:
            file.write(content[len(content) // 2 :])
            os.fsync(file.fileno())
        other = path.with_name(f"{path.name} renamed")
        path.rename(other)
        assert other.stat().st_size == len(content)
        other.unlink()
        assert _errno_of(lambda p=path: os.mkdir(p)) == errno.EPERM  # type: ignore[misc]
        if chance.random() < 1 / 20:
            os.listdir(blob.parent)
            os.listdir(path.parent)


CALLS_OF_MIX = 30
"""How many system calls on the mount one round of ``mix`` makes, at the least."""


_ROLES: dict[str, Callable[[Path, str, int], None]] = {
    "write": _write,
    "read": _read,
    "same": _same,
    "mix": _mix,
}


def main(role: str, point: Path, name: str, threads: int, count: int) -> int:
    """Run the clients, and return the exit status."""
    faults: list[str] = []

    def client(number: int) -> None:
        try:
            _ROLES[role](point, f"{name}.{number}", count)
        except Exception:  # noqa: BLE001 - whatever it was, it is what we look for
            faults.append(traceback.format_exc())

    running = [threading.Thread(target=client, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
