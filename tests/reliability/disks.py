"""Small file systems of a test's own, mounted for as long as it runs."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "--mixed"],
}


@contextlib.contextmanager
def mounted_disk(kind: str, size: str, work: Path) -> Iterator[Path]:
    """A file system of ``kind`` and ``size`` in ``work``, unmounted in the end.

    Skips where the machine cannot make or mount one.
    """
    point = work / "disk"
    point.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(point)]
    else:
        if shutil.which(_MKFS[kind][0]) is None:
            pytest.skip(f"{_MKFS[kind][0]} is not installed")
        image = work / "image"
        subprocess.run(["truncate", "-s", size, image], check=True)
        subprocess.run([*_MKFS[kind], image], check=True, capture_output=True)
        command = ["mount", "-t", kind, "-o", "loop", str(image), str(point)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount {kind}: {done.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)
