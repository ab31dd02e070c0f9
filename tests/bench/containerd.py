"""A private containerd with nothing but a content store."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Final

from tests.bench.lab import ENVIRONMENT, Lab, Source, run
from tests.bench.model import Missing, Wrong

_PATIENCE: Final = 30.0  # seconds until it must answer

# The collector of garbage takes what no image refers to; it sleeps through a run.
_CONFIGURATION: Final = """\
version = 2
root = "{root}"
state = "{state}/state"
plugin_dir = "{state}/plugins"
disabled_plugins = [{disabled}]

[grpc]
  address = "{state}/socket"

[ttrpc]
  address = "{state}/ttrpc"

[plugins."io.containerd.gc.v1.scheduler"]
  mutation_threshold = 0
  startup_delay = "24h"
"""

# All that would start more than a content store with its metadata.
_DISABLED: Final = (
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
)


class Containerd:
    """A daemon of ours alone, with an empty content store."""

    def __init__(self, root: str, state: str) -> None:
        """Say where it is; `containerd` starts it.

        Args:
            root: the folder of its content.
            state: a folder with a short path, for its socket.
        """
        self._blobs = os.path.join(root, "io.containerd.content.v1.content", "blobs", "sha256")
        self._client = ["ctr", "--address", os.path.join(state, "socket")]

    def blob(self, name: str) -> str:
        """The path of a blob in its store."""
        return os.path.join(self._blobs, name)

    def answers(self) -> bool:
        """Whether it serves."""
        command = [*self._client, "version"]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False)
        return done.returncode == 0

    def ingest(self, source: Source) -> None:
        """Bring a file into the store, verified.

        Raises:
            Wrong: it was refused.
        """
        expected = [
            "--expected-digest",
            f"sha256:{source.hex}",
            "--expected-size",
            str(source.size),
        ]
        command = [*self._client, "content", "ingest", *expected, f"bench-{source.hex}"]
        run(*command, source=source.path)


@contextlib.contextmanager
def containerd(lab: Lab) -> Iterator[Containerd]:
    """Start a daemon with an empty store in the lab; its end removes the store.

    Raises:
        Missing: containerd is not installed.
        Wrong: it does not start.
    """
    if shutil.which("containerd") is None or shutil.which("ctr") is None:
        raise Missing("containerd is not installed")
    with (
        lab.folder_for_now("containerd") as root,
        tempfile.TemporaryDirectory(prefix="bench-") as state,  # a socket's path must be short
    ):
        configuration = os.path.join(state, "config.toml")
        disabled = ", ".join(f'"{name}"' for name in _DISABLED)
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(_CONFIGURATION.format(root=root, state=state, disabled=disabled))
        with open(os.path.join(state, "log"), "w+b") as log:
            daemon = subprocess.Popen(
                ["containerd", "--config", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                start_new_session=True,
            )
            try:
                content = Containerd(root, state)
                until = time.monotonic() + _PATIENCE
                while not content.answers():
                    if daemon.poll() is not None or time.monotonic() > until:
                        log.seek(0)
                        raise Wrong(f"containerd: {log.read()[-500:].decode(errors='replace')}")
                yield content
            finally:
                daemon.terminate()
                daemon.wait()
