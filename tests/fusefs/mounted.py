"""A real mount for the tests: a `contentfs -f` process of its own on folders of its own."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import select
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from store import Digest
from tests.fsck import fsck

CONTENTFS = os.path.join(sysconfig.get_path("scripts"), "contentfs")
START_TIMEOUT = 20.0  # seconds: two cores may have other work
HANG_TIMEOUT = 45.0  # seconds that one test may keep a request of the kernel waiting

EXPECTED_DIGEST = "user.content.expected-digest"
EXPECTED_SIZE = "user.content.expected-size"
DIGEST = "user.content.digest"
ERROR = "user.content.error"
CHECKSUM = "user.checksum.sha256"

_numbers = itertools.count(1)


def sha256(content: bytes) -> str:
    """The hex of some bytes."""
    return hashlib.sha256(content).hexdigest()


def until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Look again and again until something holds that no event tells of."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        select.select([], [], [], 0.005)


@contextlib.contextmanager
def refused(*numbers: int) -> Iterator[None]:
    """The call in the block fails with one of these errno."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise
    else:
        pytest.fail(f"did not fail with {[errno.errorcode[n] for n in numbers]}")


class Mount:
    """A store, mounted.

    Attributes:
        root: the store's folder.
        point: where it is mounted.
        process: the server.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        root: Path | None = None,
        command: Sequence[str] = (CONTENTFS,),
        level: str = "info",
    ) -> None:
        """Mount, and return when the mount says that it is ready.

        Args:
            folder: an empty folder for all that this needs.
            options: of the mount.
            root: the store's folder, where it is not to be a new one in ``folder``.
            command: the program to run, where it is not to be contentfs itself.
            level: the least that is logged.
        """
        self.root = folder / "root" if root is None else root
        self.point = folder / "mnt"
        self.blobs = self.point / "blobs"
        self.ingest = self.point / "ingest"
        self._log = folder / f"log{next(_numbers)}"
        self._judged = 0
        self._foreseen: list[str] = []
        self.root.mkdir(exist_ok=True)
        self.point.mkdir(exist_ok=True)
        words = [*command, str(self.root), str(self.point), "-f", "--log-level", level]
        if options:
            words += ["-o", ",".join(options)]
        notices = folder / "notify"
        notices.unlink(missing_ok=True)
        # Kept open: the server says when it stops, too.
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(str(notices))
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(notices)},
            )
        self._wait_for_ready()

    def _wait_for_ready(self) -> None:
        channel = self._channel
        end = os.pidfd_open(self.process.pid)
        try:
            ready, _, _ = select.select([channel.fileno(), end], [], [], START_TIMEOUT)
        finally:
            os.close(end)
        if channel.fileno() in ready and channel.recv(64).startswith(b"READY=1"):
            return
        channel.close()
        self.process.kill()
        self.process.wait()
        subprocess.run(["umount", "-l", self.point], capture_output=True, check=False)
        pytest.fail(f"contentfs is not ready: {self.log()}")

    # ------------------------------------------------------------------------------------- paths

    def ref(self, ending: str = "") -> Path:
        """The path of an ingest that no other test has."""
        return self.ingest / f"{next(_numbers)}{ending}"

    def blob(self, name: str | bytes) -> Path:
        """The path in the mount of a blob, by its hex in sha256 or by its content."""
        return self.blobs / "sha256" / (sha256(name) if isinstance(name, bytes) else name)

    def stored(self, name: str | bytes) -> Path:
        """The path in the store of a blob."""
        return self.root / "blobs/sha256" / self.blob(name).name

    def folder(self, ref: str) -> Path:
        """The folder in the store of the ingest of a ref."""
        return self.root / "ingest" / sha256(ref.encode())

    def names(self) -> list[str]:
        """What a listing of ``ingest/`` shows."""
        return os.listdir(self.ingest)

    def assert_committed(self, ref: Path, content: bytes) -> None:
        """An ingest is gone from every listing, and its content is a blob."""
        assert ref.name not in self.names()
        assert not self.folder(ref.name).exists()
        assert self.blob(content).read_bytes() == content
        assert self.stored(content).read_bytes() == content

    def assert_kept(self, ref: Path, content: bytes, *, error: bool) -> None:
        """An ingest has its bytes, and they are no blob."""
        assert ref.name in self.names()
        assert ref.read_bytes() == content
        assert ref.stat().st_size == len(content)
        assert not self.stored(content).exists()
        assert (attribute(ref, ERROR) is not None) == error

    # --------------------------------------------------------------------------------------- log

    def log(self) -> str:
        """All that the server has said."""
        return self._log.read_text(errors="replace")

    def foresee(self, text: str) -> None:
        """A line of the log with this text is what the test is about, not a fault."""
        self._foreseen.append(text)

    def faults(self) -> list[str]:
        """The lines since the last call that no test should cause."""
        lines = self.log().splitlines()[self._judged :]
        self._judged += len(lines)
        return [
            line
            for line in lines
            if ("Traceback" in line or " ERROR " in line or " WARNING " in line)
            and "WARNING fusefs.writing: refused" not in line
            and "WARNING fusefs.ingests: refused" not in line
            and not any(text in line for text in self._foreseen)
        ]

    def assert_no_faults(self) -> None:
        """Nothing has been logged since the last time that no test should cause."""
        faults = self.faults()
        assert not faults, "\n".join(faults)

    # ------------------------------------------------------------------------------------ ending

    def open_files(self) -> list[str]:
        """The files of the store that the server has open."""
        found = []
        folder = f"/proc/{self.process.pid}/fd"
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"{folder}/{name}"))
        return [path for path in found if path.startswith(f"{self.root}/")]

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Kill the server when the block hangs: a process that waits for it cannot be killed."""
        watchdog = threading.Timer(HANG_TIMEOUT, self.process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()

    def unmount(self) -> None:
        """Unmount as a user does, and wait for the server's end."""
        if self.process.poll() is None:
            subprocess.run(["umount", self.point], check=True)
            self.end()

    def end(self, number: signal.Signals | None = None) -> None:
        """Wait for the server's end, which must be a clean one."""
        if number is not None:
            self.process.send_signal(number)
        assert self.process.wait(30) == 0, self.log()
        assert not os.path.ismount(self.point)

    def close(self) -> None:
        """Unmount, and check that nothing is left: no fault, no open file, no lock, no odd blob."""
        try:
            if self.process.poll() is None:
                until(lambda: not self.open_files(), f"closed: {self.open_files()}")
            self.unmount()
        finally:
            self._channel.close()
            if self.process.poll() != 0:
                self.process.kill()
                subprocess.run(["umount", "-l", self.point], capture_output=True, check=False)
                self.process.wait()
        self.assert_no_faults()
        check(self.root)


def check(root: Path) -> None:
    """What must hold for a store that nobody uses: sound, its locks free, nothing half-written."""
    fsck(root)
    for lock in root.glob("ingest/*/lock"):
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not list(root.glob("ingest/*/.new-*"))


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """The digest of some bytes, as text."""
    return str(Digest.of(content, algorithm))


def expect(ref: Path, content: bytes) -> None:
    """Set the digest that is expected of an ingest to that of some bytes."""
    os.setxattr(ref, EXPECTED_DIGEST, digest_of(content).encode())


def append(ref: Path, content: bytes) -> None:
    """Open an ingest, or a new one, append to it, and close it."""
    fd = os.open(ref, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(fd, content)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)


def attribute(ref: Path | bytes, name: str) -> str | None:
    """The value of an attribute, None where it is not set."""
    try:
        return os.getxattr(ref, name).decode()
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise
