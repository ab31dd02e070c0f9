"""A private containerd: its content store, and no more."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fusefs.mounted import until

_CONFIG: Final = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
plugin_dir = "{folder}/plugins"
disabled_plugins = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.runtime.v1.linux",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{folder}/s"
[ttrpc]
  address = "{folder}/t"
[plugins."io.containerd.gc.v1.scheduler"]
  startup_delay = "1000h"
  mutation_threshold = 0
  deletion_threshold = 0
"""


class Containerd:
    """A containerd that runs.

    Attributes:
        content: the root of its content store.
    """

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "s"
        self.content = folder / "root/io.containerd.content.v1.content"

    def ctr(self, *words: str) -> tuple[str, ...]:
        """The command line of its client."""
        return ("ctr", "-a", str(self._socket), *words)

    def answers(self) -> bool:
        """Whether it is ready."""
        return not subprocess.run(self.ctr("version"), capture_output=True, check=False).returncode

    def ingest(self, ref: str, content: bytes) -> None:
        """Put a blob into it."""
        subprocess.run(self.ctr("content", "ingest", ref), input=content, check=True)

    def digests(self) -> set[str]:
        """What it says it holds."""
        done = subprocess.run(self.ctr("content", "ls", "-q"), capture_output=True, check=True)
        return set(done.stdout.decode().split())


@contextlib.contextmanager
def running() -> Iterator[Containerd]:
    """Start a containerd, and stop it; skips where it is not installed."""
    if shutil.which("containerd") is None or shutil.which("ctr") is None:
        pytest.skip("containerd is not installed")
    # A socket's path has at most 107 bytes, and a test's folder may have more.
    with tempfile.TemporaryDirectory(prefix="ctd") as name:
        folder = Path(name)
        config = folder / "config.toml"
        config.write_text(_CONFIG.format(folder=folder))
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                ["containerd", "-c", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            server = Containerd(folder)
            until(server.answers, "containerd answers", 30)
            yield server
        finally:
            process.terminate()
            process.wait()
