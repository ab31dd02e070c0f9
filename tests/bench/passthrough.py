"""The example passthrough_ll of libfuse, compiled from the source that its package carries."""

from __future__ import annotations

import contextlib
import functools
import glob
import gzip
import os
import shutil
import subprocess
from typing import Final

from tests.bench.lab import ENVIRONMENT, Lab, run
from tests.bench.model import Missing, Wrong

_SOURCES: Final = ("passthrough_ll.c", "passthrough_helpers.h")


@functools.cache
def compiled(lab: Lab) -> str:
    """Compile the example that libfuse comes with; the path of the program.

    Raises:
        Missing: its source or a compiler is not here.
    """
    folder = lab.new_folder("passthrough_ll")
    _find_sources(folder)
    program = os.path.join(folder, "passthrough_ll")
    try:
        flags = subprocess.check_output(
            ["pkg-config", "fuse3", "--cflags", "--libs"], env=ENVIRONMENT, text=True
        ).split()
        run("gcc", "-O2", os.path.join(folder, _SOURCES[0]), *flags, "-o", program)
    except (OSError, subprocess.CalledProcessError, Wrong) as error:
        raise Missing(f"passthrough_ll cannot be compiled: {error}") from error
    return program


def _find_sources(folder: str) -> None:
    """Bring the sources into a folder, from the documentation or else from the package.

    Slim images leave documentation out when they install a package.
    """
    places = ["/usr/share/doc/libfuse3-dev/examples", "/usr/share/doc/fuse3-devel*/example*"]
    if not any(_copy_sources(place, folder) for place in places):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            download = ["apt-get", "-qq", "download", "libfuse3-dev"]
            subprocess.run(download, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
            (package,) = glob.glob(os.path.join(folder, "*.deb"))
            run("dpkg-deb", "-x", package, folder)
        if not _copy_sources(f"{folder}{places[0]}", folder):
            raise Missing("the source of passthrough_ll (package libfuse3-dev) is not here")


def _copy_sources(pattern: str, folder: str) -> bool:
    for name in _SOURCES:
        found = glob.glob(os.path.join(pattern, f"{name}*"))
        if not found:
            return False
        opener = gzip.open if found[0].endswith(".gz") else open
        with opener(found[0], "rb") as source, open(os.path.join(folder, name), "wb") as copy:
            shutil.copyfileobj(source, copy)
    return True
