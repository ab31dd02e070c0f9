"""A mount for a test: the real daemon in a process of its own, started, watched and ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"}
DIST = [sys.executable, "-m", "store.dist"]

_READY_PATIENCE = 30.0
_END_PATIENCE = 20.0
_POLL = 0.02

can_mount = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0,
    reason="needs root and /dev/fuse",
)


def eventually(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether a condition that nothing announces comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


class Held(NamedTuple):
    """What a daemon holds, as the kernel tells.

    Attributes:
        files: the paths of its open files that lie in the store.
        threads: the number of its threads.
        memory: its resident memory in bytes.
    """

    files: list[str]
    threads: int
    memory: int


class Mounted:
    """A daemon in the foreground, on a root and a mountpoint.

    Attributes:
        root: the store's folder.
        point: the mountpoint.
        log: the file that the daemon logs into.
    """

    def __init__(
        self,
        work: Path,
        *options: str,
        root: Path | None = None,
        watched: bool = False,
        user: int | None = None,
    ) -> None:
        """Choose the places; nothing is started.

        Args:
            work: a folder of the test's own.
            options: words for the command line.
            root: the store; default is a folder in ``work``.
            watched: whether `counts` will be asked for.
            user: who runs the daemon; default is the one who tests.
        """
        self.root = work / "root" if root is None else root
        self.point = work / "mnt"
        self.log = work / "log"
        self._options = options
        self._watch = work / "watch" if watched else None
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = work / "ready"
        self.root.mkdir(exist_ok=True)
        self.point.mkdir(exist_ok=True)

    @property
    def ingest(self) -> Path:
        """The folder of transactions."""
        return self.point / "ingest"

    @property
    def blobs(self) -> Path:
        """The folder of sha256 blobs."""
        return self.point / "blobs" / "sha256"

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._process is not None
        return self._process.pid

    # ------------------------------------------------------------------------------ start and end

    def start(self) -> None:
        """Return when the mount answers."""
        with contextlib.suppress(FileNotFoundError):
            self._ready.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind(str(self._ready))
            self._ready.chmod(0o777)
            self._process = self._spawn()
            self._await_ready(channel)

    def _spawn(self) -> subprocess.Popen[bytes]:
        module = ["-m", "fusefs"]
        environment = {**ENVIRONMENT, "NOTIFY_SOCKET": str(self._ready)}
        if self._watch is not None:
            module = [str(Path(__file__).with_name("watched.py"))]
            environment["WATCH_SOCKET"] = str(self._watch)
        words = [str(self.root), str(self.point), "-f", "--log-level", "debug", *self._options]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *module, *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
            )

    def _await_ready(self, channel: socket.socket) -> None:
        process = self._process
        assert process is not None
        pidfd = os.pidfd_open(process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(channel, selectors.EVENT_READ, "ready")
                selector.register(pidfd, selectors.EVENT_READ, "ended")
                events = {key.data for key, _ in selector.select(_READY_PATIENCE)}
        finally:
            os.close(pidfd)
        if "ready" not in events or channel.recv(64) != b"READY=1":
            self.stop()
            pytest.fail(f"the daemon does not mount:\n{self.text()}", pytrace=False)

    def kill(self) -> None:
        """End the daemon by SIGKILL, and leave the dead mount."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_END_PATIENCE)

    def ends(self, seconds: float = _END_PATIENCE) -> int:
        """The exit status of a daemon that is about to end by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        """Send the daemon a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def terminate(self) -> int:
        """Ask the daemon to end, and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.ends()

    def unmount(self) -> int:
        """Unmount, and return the daemon's exit status."""
        subprocess.run(["umount", self.point], check=True, timeout=_END_PATIENCE)
        return self.ends()

    def stop(self) -> None:
        """Leave nothing of it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_END_PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
        while os.path.ismount(self.point) or _is_dead(self.point):
            if subprocess.run(["umount", "-l", self.point], check=False).returncode:
                break

    # ------------------------------------------------------------------------------------ looking

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text(errors="replace")

    def held(self) -> Held:
        """What the daemon holds at this moment."""
        assert self._process is not None
        proc = Path(f"/proc/{self._process.pid}")
        files = []
        for entry in (proc / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                target = str(entry.readlink())
                if target.startswith(f"{self.root}/"):
                    files.append(target)
        status = dict(
            line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
        )
        return Held(files, int(status["Threads"]), int(status["VmRSS"].split()[0]) * 1024)

    def counts(self) -> dict[str, int]:
        """What the daemon remembers; only of one that is ``watched``."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(_END_PATIENCE)
            channel.connect(str(self._watch))
            with channel.makefile("rb") as answer:
                counts: dict[str, int] = json.loads(answer.read())
        return counts

    def locks(self) -> list[str]:
        """The lines of /proc/locks about files of the store."""
        inodes = {str(os.lstat(path).st_ino) for path in self.root.glob("ingest/*/lock")}
        with open("/proc/locks", encoding="ascii") as table:
            return [line for line in table if line.split()[5].rpartition(":")[2] in inodes]


def _is_dead(point: Path) -> bool:
    try:
        os.statvfs(point)
    except OSError:
        return True
    return False


def dist(root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command line on a store."""
    return subprocess.run(
        [*DIST, "--root", str(root), *words],
        env=ENVIRONMENT,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=60,
    )


def seeds(environment: str = "RELIABILITY_SEED") -> Sequence[int]:
    """The seed of this run: what the environment says, else a fixed one."""
    return [int(os.environ.get(environment, "1"))]
