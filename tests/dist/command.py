"""The installed ``dist``, run as a user runs it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from store import Store

DIST = str(Path(sys.executable).parent / "dist")
NO_SUCH = f"sha256:{'0' * 64}"


def digest_of(data: bytes) -> str:
    """The sha256 digest of ``data``, as text."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Dist:
    """The installed command on one store.

    Attributes:
        command: its first words.
        root: the store's folder, which is not there at first.
        env: the environment that it runs in; DIST_ROOT names the store.
    """

    command = (DIST,)

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.env = {**os.environ, "DIST_ROOT": str(self.root), "LC_ALL": "C.UTF-8"}
        self.env["PATH"] = f"{Path(DIST).parent}:{self.env['PATH']}"
        self._folder = folder

    def __call__(
        self, *arguments: str | bytes, stdin: bytes = b"", code: int = 0, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end, and check its exit code."""
        done = subprocess.run(
            [DIST, *arguments],
            input=None if "stdin" in options else stdin,
            capture_output=True,
            check=False,
            env=self.env,
            cwd=self._folder,
            timeout=60,
            **options,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    def out(self, *arguments: str, stdin: bytes = b"", code: int = 0) -> str:
        """What it prints."""
        return self(*arguments, stdin=stdin, code=code).stdout.decode()

    def error(self, *arguments: str, stdin: bytes = b"", code: int = 1) -> str:
        """The one line that it complains with."""
        line = self(*arguments, stdin=stdin, code=code).stderr.decode()
        assert line.startswith("dist: ")
        assert line.count("\n") == 1
        return line.removeprefix("dist: ").rstrip("\n")

    def shell(self, script: str, code: int = 0) -> subprocess.CompletedProcess[bytes]:
        """Run a pipeline of bash's with it, and check the exit code."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", script],
            capture_output=True,
            check=False,
            env=self.env,
            cwd=self._folder,
            timeout=60,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    @property
    def store(self) -> Store:
        """The same store in Python."""
        return Store(self.root)

    def put(self, data: bytes, ref: str = "put") -> str:
        """Have a blob in the store, and say its digest."""
        with self.store.writer(ref) as writer:
            writer.write(data)
            return str(writer.commit())

    def plant(self, data: bytes) -> str:
        """Have a blob in the store without the time that a commit takes, and say its digest."""
        digest = digest_of(data)
        folder = self.root / "blobs" / "sha256"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / digest[7:]).write_bytes(data)
        return digest
