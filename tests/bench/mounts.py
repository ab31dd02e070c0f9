"""The contenders as mounted file systems: each started for one measurement, and ended after it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import select
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from tests.bench.lab import ENVIRONMENT, Lab, run
from tests.bench.model import OURS, Missing, Wrong
from tests.bench.passthrough import compiled

CONTENTFS: Final = os.path.join(sysconfig.get_path("scripts"), "contentfs")
DIST: Final = os.path.join(sysconfig.get_path("scripts"), "dist")

_PATIENCE: Final = 20.0  # seconds until a daemon that does not answer is given up
_PAUSE: Final = 0.002  # seconds between two looks at it


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """A mounted store: where, and the process that serves it (0 for the bare folder)."""

    path: str
    pid: int = 0

    @property
    def blobs(self) -> str:
        """The folder of its SHA-256 blobs."""
        return os.path.join(self.path, "blobs", "sha256")

    @property
    def ingest(self) -> str:
        """The folder of what is being ingested."""
        return os.path.join(self.path, "ingest")


@contextlib.contextmanager
def contentfs(lab: Lab, root: str, *options: str) -> Iterator[Mount]:
    """Our own mount of a store, started as people start it: its server is in the background."""
    point = lab.new_folder("mount")
    servers: list[int] = []
    try:
        run(CONTENTFS, root, point, *options)
        servers = servers_of(point)
        yield Mount(point, servers[0])
    finally:
        unmount(point)
        for pid in servers:
            await_end(pid)
        os.rmdir(point)


def servers_of(point: str) -> list[int]:
    """The processes whose command line names a mountpoint."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:  # it has ended while we look
            continue
        if point.encode() in words:
            found.append(int(pid))
    return found


def await_end(pid: int) -> None:
    """Wait until a process that is not our child has ended.

    Raises:
        Wrong: it goes on and on; it is killed then.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            raise Wrong(f"process {pid} outlives its mount")
    finally:
        os.close(descriptor)


def unmount(point: str) -> None:
    """Unmount what is mounted on a folder, if anything is."""
    while os.path.ismount(point):
        try:
            run("umount", point)
        except Wrong:  # a client that we have just ended may still be on its way out
            run("umount", "-l", point)


def bindfs(lab: Lab, root: str) -> AbstractContextManager[Mount]:
    """Bindfs over the folder of a store, as it comes."""
    program = shutil.which("bindfs")
    if program is None:
        raise Missing("bindfs is not installed")
    return _mounted(lab, lambda point: [program, "-f", root, point])


def passthrough(lab: Lab, root: str) -> AbstractContextManager[Mount]:
    """The example passthrough_ll of libfuse over the folder of a store, caching always."""
    program = compiled(lab)
    # It keeps a descriptor for each file that it has seen.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = ["prlimit", f"--nofile={most}", program]
    options = ["-f", "-o", f"source={root},cache=always"]
    return _mounted(lab, lambda point: [*limit, *options, point])


@contextlib.contextmanager
def bare(lab: Lab, root: str) -> Iterator[Mount]:
    """The folder of a store by itself."""
    yield Mount(root)


#: Everyone who shows the blobs of a store, by name.
VIEWS: Final[dict[str, Callable[[Lab, str], AbstractContextManager[Mount]]]] = {
    "bare": bare,
    "bindfs": bindfs,
    "passthrough_ll": passthrough,
    OURS: contentfs,
}


@contextlib.contextmanager
def _mounted(lab: Lab, command: Callable[[str], Sequence[str]]) -> Iterator[Mount]:
    point = lab.new_folder("mount")
    log_path = f"{point}.log"
    with open(log_path, "wb") as log:
        # A session of its own: ^C is for us, who unmount it; killed by it, it could not be.
        daemon = subprocess.Popen(
            command(point),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    try:
        _wait_until_mounted(daemon, point, log_path)
        yield Mount(point, daemon.pid)
    finally:
        _end(daemon, point)
        os.rmdir(point)
        os.unlink(log_path)


def _wait_until_mounted(daemon: subprocess.Popen[bytes], point: str, log: str) -> None:
    until = time.monotonic() + _PATIENCE
    while not os.path.ismount(point):
        if daemon.poll() is not None or time.monotonic() > until:
            with open(log, encoding="utf-8", errors="replace") as file:
                raise Wrong(f"{daemon.args!r} did not mount: {file.read().strip()}")
        time.sleep(_PAUSE)
    os.listdir(point)


def _end(daemon: subprocess.Popen[bytes], point: str) -> None:
    """Unmount, and see the daemon off."""
    unmount(point)
    try:
        daemon.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
