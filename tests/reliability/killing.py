"""The daemon ended at moments that a seed chooses, under writers and readers; then the reckoning.

`run` is what the quick tests and the long run share.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.reliability.mounted import ENVIRONMENT, Mounted, dist

_SCRIPT = Path(__file__).with_name("traffic.py")
_END_PATIENCE = 60.0

End = Callable[[Mounted], str | None]
"""Ends a daemon, and returns what was wrong with that."""


class Reckoning(NamedTuple):
    """What a run has shown.

    Attributes:
        ends: how often the daemon was ended.
        slowest: how long that took at the most, in seconds.
        stored: blobs that were acknowledged.
        read: blobs that were read whole, and right.
        aborted: ingests that were aborted.
        resumed: ingests that were unfinished at an end, and gone on with.
        faults: promises that were broken, a line each.
    """

    ends: int
    slowest: float
    stored: int
    read: int
    aborted: int
    resumed: int
    faults: list[str]


def by_kill(mounted: Mounted) -> None:
    """End a daemon by SIGKILL; its dead mount is for the next one to replace."""
    mounted.kill()


def _by_signal(number: signal.Signals) -> End:
    def end(mounted: Mounted) -> str | None:
        mounted.signal(number)
        return None if mounted.ends() == 0 else "its exit status is not 0"

    return end


def _by_command(*command: str, check: bool = True) -> End:
    def end(mounted: Mounted) -> str | None:
        subprocess.run([*command, mounted.point], check=check, timeout=20)
        return None if mounted.ends() == 0 else "its exit status is not 0"

    return end


ENDS: Final[dict[str, End]] = {
    "SIGTERM": _by_signal(signal.SIGTERM),
    "SIGINT": _by_signal(signal.SIGINT),
    "fusermount3 -uz": _by_command("fusermount3", "-u", "-z"),
    "umount -l": _by_command("umount", "-l"),
    # It says EBUSY, and cuts everybody off.
    "umount -f": _by_command("umount", "-f", check=False),
}
"""The ends that can be asked for while a mount is busy."""


class _Clients:
    """Writers and readers, each a process."""

    def __init__(self, mounted: Mounted, work: Path, seed: int, each: int) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._work = work
        for kind in ("write", "read"):
            for number in range(each):
                name = f"{kind}{number}"
                words = [kind, str(mounted.point), str(work / f"{name}.json"), f"{seed}.{number}"]
                with (work / f"{name}.out").open("wb") as out:
                    self._processes[name] = subprocess.Popen(
                        [sys.executable, str(_SCRIPT), *words],
                        stdin=subprocess.PIPE,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        env=ENVIRONMENT,
                    )

    def tell(self, mount: int) -> None:
        """A new mount stands."""
        for process in self._processes.values():
            assert process.stdin is not None
            if process.poll() is None:
                process.stdin.write(b"%d\n" % mount)
                process.stdin.flush()

    def failed(self) -> bool:
        """Whether one of them has ended."""
        return any(process.poll() is not None for process in self._processes.values())

    def end(self) -> list[str]:
        """Let them go, and return what went wrong."""
        faults = []
        for name, process in self._processes.items():
            assert process.stdin is not None
            process.stdin.close()
            try:
                status = process.wait(_END_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                faults.append(f"{name} hangs")
                continue
            if status:
                faults.append(f"{name}: {(self._work / f'{name}.out').read_text()[-2000:]}")
        return faults

    def records(self) -> list[dict[str, Any]]:
        """What they have noted."""
        return [
            json.loads(line)
            for name in self._processes
            if (self._work / f"{name}.json").exists()
            for line in (self._work / f"{name}.json").read_text().splitlines()
        ]


def run(
    work: Path,
    seed: int,
    ends: int,
    end: End,
    *,
    each: int = 10,
    longest: float = 0.6,
) -> Reckoning:
    """End a daemon ``ends`` times under ``each`` writers and as many readers, then reckon.

    Args:
        work: an empty folder.
        seed: what the moments, the contents and the choices come from.
        ends: how often.
        end: ends the daemon; returns what was wrong with that.
        each: how many writers, and how many readers.
        longest: the longest that a mount lives, in seconds.
    """
    chance = random.Random(seed)
    mounted = Mounted(work)
    clients = _Clients(mounted, work, seed, each)
    faults: list[str] = []
    done, slowest = 0, 0.0
    try:
        for number in range(1, ends + 1):
            mounted.start()
            clients.tell(number)
            # The moment itself is what the seed chooses: nothing is waited for.
            time.sleep(chance.uniform(0.01, longest))
            begun = time.monotonic()
            wrong = end(mounted)
            slowest = max(slowest, time.monotonic() - begun)
            done = number
            faults += [] if wrong is None else [wrong]
            faults += [f"a lock outlives end {number}: {line}" for line in mounted.locks()]
            if faults or clients.failed():
                break
        faults += clients.end()
        records = clients.records()
        mounted.start()
        faults += _judge(mounted, records)
        resumed, more = _resume(mounted, records)
        faults += more
        if mounted.terminate():
            faults.append("the last daemon's exit status is not 0")
        faults += _leftovers(mounted)
        if "Traceback" in mounted.text():
            faults.append("a traceback is in the log")
    finally:
        clients.end()
        mounted.stop()
    count = Counter(record["what"] for record in records)
    read = sum(r["count"] for r in records if r["what"] == "read")
    return Reckoning(
        done, slowest, count["stored"], read, count["aborted"], count["resumed"] + resumed, faults
    )


def _judge(mounted: Mounted, records: list[dict[str, Any]]) -> list[str]:
    """Every acknowledged blob is there, and every blob is what its name says."""
    there = os.listdir(mounted.blobs)
    faults = [
        f"blob {name} has other bytes"
        for name in there
        if hashlib.sha256((mounted.blobs / name).read_bytes()).hexdigest() != name
    ]
    stored = {record["digest"] for record in records if record["what"] == "stored"}
    faults += [f"blob {name} was acknowledged and is gone" for name in stored - set(there)]
    return faults


def _resume(mounted: Mounted, records: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Every ingest that is listed can be resumed at its bytes, or removed."""
    shown = set(os.listdir(mounted.ingest))
    listed = dist(mounted.root, "active", "--json")
    active = {json.loads(line)["ref"] for line in listed.stdout.splitlines()}
    faults = []
    if {ref.replace("%", "%25").replace("/", "%2F") for ref in active} != shown:
        faults.append(f"the mount lists {shown}, dist {active}: {listed.stderr.decode()}")
    resumed = 0
    for record in (each for each in records if each["what"] == "left"):
        for ref in shown & {record["ref"], f"{record['ref']}@sha256:{_digest(record)}"}:
            shown.discard(ref)
            faults += _resume_one(mounted, ref, record)
            resumed += 1
    for ref in shown:
        os.unlink(mounted.ingest / ref)
    faults += [f"{ref} cannot be removed" for ref in os.listdir(mounted.ingest)]
    return resumed, faults


def _content(record: dict[str, Any]) -> bytes:
    return random.Random(record["key"]).randbytes(record["size"])


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(_content(record)).hexdigest()


def _resume_one(mounted: Mounted, ref: str, record: dict[str, Any]) -> list[str]:
    content, digest = _content(record), _digest(record)
    path = mounted.ingest / ref
    with path.open("ab+") as file:
        have = file.tell()
        file.seek(0)
        if have < record["acknowledged"] or file.read() != content[:have]:
            return [f"{ref} has {have} bytes of {record['acknowledged']} that were acknowledged"]
        file.write(content[have:])
    if path.exists():
        os.setxattr(path, "user.content.expected-digest", f"sha256:{digest}".encode())
    if (mounted.blobs / digest).read_bytes() != content:
        return [f"{ref} was resumed at {have} bytes and is not blob {digest}"]
    return []


def _leftovers(mounted: Mounted) -> list[str]:
    """With every ingest gone, no byte of one is left.

    A second link of a blob takes none: a commit was cut short there after it had become visible.
    """
    data = mounted.root.glob("ingest/*/data")
    left = [str(path) for path in data if path.stat().st_nlink == 1]
    return [f"left over: {path}" for path in [*left, *mounted.locks()]]
