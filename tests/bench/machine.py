"""On what a run measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from typing import Final

from tests.bench.lab import ENVIRONMENT

_BUSY: Final = 0.5  # runnable processes

# A command, and the word of its first line that is the version.
_VERSIONS: Final = {
    "coreutils": (("cp", "--version"), -1),
    "bindfs": (("bindfs", "--version"), -1),
    "fio": (("fio", "--version"), 0),
    "containerd": (("containerd", "--version"), 2),
    "libfuse": (("pkg-config", "--modversion", "fuse3"), 0),
}


def file_system(path: str) -> str:
    """The type of the file system that a folder is on."""
    command = ["stat", "-f", "-c", "%T", path]
    kind = subprocess.check_output(command, env=ENVIRONMENT, text=True).strip()
    return "ext4" if kind == "ext2/ext3" else kind


def describe(folder: str) -> dict[str, str]:
    """The machine and the versions of everything that takes part, in words."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) / 1024 / 1024
    return {
        "contentfs": commit(),
        "kernel": platform.release(),
        "file system": file_system(folder),
        "cores": f"{os.cpu_count()} ({models[0] if models else platform.machine()})",
        "memory": f"{memory:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        **{name: version(name) for name in ("pyfuse3", "trio", "filelock")},
        **{name: _first_word(*how) for name, how in _VERSIONS.items()},
    }


def commit() -> str:
    """The commit that is measured, with a mark if files differ from it."""
    here = os.path.dirname(os.path.abspath(__file__))
    # safe.directory: the checkout may be another user's, whose hooks are not run here.
    command = ["git", "-c", "safe.directory=*", "-C", here, "describe", "--always", "--dirty"]
    try:
        return subprocess.check_output(command, env=ENVIRONMENT, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "of no commit"


def is_busy() -> bool:
    """Whether other programs are at work, so that what is measured now says little."""
    return os.getloadavg()[0] > _BUSY


def _first_word(command: tuple[str, ...], place: int) -> str:
    try:
        text = subprocess.check_output(command, env=ENVIRONMENT, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "not here"
    return text.splitlines()[0].split()[place]
