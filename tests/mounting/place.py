"""Two folders, and `contentfs` run on them as a user runs it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

from fusefs.mounts import Mount, read_mounts, topmost, unmount

SECONDS = 20  # for whatever takes a moment, on a machine that is busy
_CHECKOUT = Path(__file__).parents[2]
_COMMAND = (sys.executable, "-m", "fusefs")
_ODD_COMMAND = (
    sys.executable,
    "-c",
    f"""
import fusefs
fusefs.__path__.insert(0, {str(Path(__file__).parent / "odd")!r})
from fusefs.cli import main
raise SystemExit(main())
""",
)


class Place:
    """A store, a mountpoint, and what has been started there.

    Attributes:
        folder: An empty folder for whatever a test needs.
        root: The folder of the store.
        point: The mountpoint.
        log: Where whatever serves here logs to.
    """

    def __init__(self, folder: Path) -> None:
        """Make both folders."""
        self.folder = folder
        self.root = folder / "root"
        self.point = folder / "point"
        self.log = folder / "log"
        self.root.mkdir()
        self.point.mkdir()
        self.log.touch()
        self._gate = folder / "gate"
        os.mkfifo(self._gate)
        self._command = _COMMAND
        self._servers: list[int] = []
        self._started: list[subprocess.Popen[bytes]] = []
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(folder / "notices"))
        self.notices.settimeout(SECONDS)

    def odd(self) -> None:
        """From now on serve the operations of `odd` instead of the real ones."""
        self._command = _ODD_COMMAND

    def run(self, *words: str | Path, **keywords: Any) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        keywords["env"] = self._environment(**keywords.get("env", {}))
        return subprocess.run(
            [*self._command, *words],
            **{"capture_output": True, "text": True, "timeout": SECONDS, **keywords},
            check=False,
        )

    def mount(self, *words: str | Path, **keywords: Any) -> int:
        """Mount in the background, and return the number of the process that serves."""
        done = self.run(*words, self.root, self.point, "--log-file", self.log, **keywords)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        server = self.server(*self._servers)
        self._servers.append(server)
        return server

    def begin(self, *words: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """Begin to mount in the foreground."""
        with open(self.log, "a") as log:
            process = subprocess.Popen(
                [*self._command, "-f", *words, self.root, self.point],
                stdout=log,
                stderr=log,
                env=self._environment(NOTIFY_SOCKET=str(self.folder / "notices"), **environment),
            )
        self._started.append(process)
        return process

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen[bytes]:
        """Mount in the foreground, and return when it says that it is ready."""
        process = self.begin(*words, **environment)
        assert self.notices.recv(100) == b"READY=1", self.log.read_text()
        return process

    def spawn(self, **environment: str) -> subprocess.Popen[bytes]:
        """Begin to mount in the background, and do not wait for the outcome."""
        process = subprocess.Popen(
            [*self._command, self.root, self.point],
            stderr=subprocess.PIPE,
            env=self._environment(**environment),
        )
        self._started.append(process)
        return process

    def gate(self) -> BinaryIO:
        """Wait until the operations of `odd` wait, which they do until what this returns is closed.

        Raises:
            TimeoutError: They do not come so far.
        """
        assert self.notices.recv(100) == b"at the gate", self.log.read_text()
        return open(self._gate, "wb")

    def server(self, *but: int) -> int:
        """Find the process that serves the mountpoint in the background.

        Args:
            but: Processes that it is not, though their command line is the same.
        """
        for name in filter(str.isdecimal, os.listdir("/proc")):
            try:
                words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(self.point) in words and int(name) not in but:
                return int(name)
        raise AssertionError(self.log.read_text())

    @property
    def mounted(self) -> Mount | None:
        """What the kernel has mounted on the mountpoint."""
        return topmost(str(self.point))

    def abort(self) -> None:
        """Have the kernel cut the server off from its mount."""
        mount = self.mounted
        assert mount is not None
        connections = self.folder / "connections"
        connections.mkdir()
        subprocess.run(["mount", "-t", "fusectl", "fusectl", connections], check=True)
        (connections / mount.device.partition(":")[2] / "abort").write_text("1")
        subprocess.run(["umount", connections], check=True)

    def clean_up(self) -> None:
        """Unmount what is mounted below, and end what has been started, whatever its state."""
        self.notices.close()
        for mount in reversed(read_mounts()):
            if mount.point.startswith(f"{self.folder}/"):
                unmount(mount, lazy=True)
        for server in self._servers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, signal.SIGCONT)
            assert ended(server)
        for process in self._started:
            process.kill()
            process.communicate(timeout=SECONDS)

    def _environment(self, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(_CHECKOUT),
            "ODD_GATE": str(self._gate),
            "ODD_NOTICES": str(self.folder / "notices"),
            **more,
        }


def ended(process: int) -> bool:
    """Wait for the end of a process that is not our child."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], SECONDS)[0])
    finally:
        os.close(descriptor)


def kill(process: int) -> None:
    """Kill a process that is not our child, and wait for its end."""
    os.kill(process, signal.SIGKILL)
    assert ended(process)
