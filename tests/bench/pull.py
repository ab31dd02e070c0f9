"""How fast ``dist pull`` is beside ``ctr content fetch`` and ``skopeo copy``.

Run from the checkout: ``.venv/bin/python -m tests.bench.pull [--help]``.  All pull one image from
one docker-registry on loopback to one file system, in turn, round by round, each into an empty
place; what counts are ratios of medians.  ctr and dist verify, hash and sync what they write;
skopeo verifies and does not sync.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from store import Store
from tests.registry.samples import make_image
from tests.registry.server import Registry, running

_MIB = 1024 * 1024
_DIST = str(Path(sys.executable).parent / "dist")


class Sample(NamedTuple):
    """One run of one program: seconds, and peak memory in MiB."""

    seconds: float
    memory: float


def main() -> int:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--mib", type=int, default=200, help="of each layer")
    parser.add_argument("--dir", default="/var/tmp", help="the file system to measure on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        registry_folder = folder / "registry"
        registry_folder.mkdir()
        with running(registry_folder) as registry:
            # The peak memory that the kernel reports of a program counts what started it, too, so
            # the image is made in a process of its own.
            with ProcessPoolExecutor(1) as other:
                size = options.mib * _MIB
                digests = other.submit(_prepare, registry, options.layers, size).result()
            samples = _measure(folder, registry, digests, options.rounds)
    _print(samples, options)
    return 0


def _prepare(registry: Registry, layers: int, size: int) -> set[str]:
    """Have the image in the registry: the digests of all that belongs to it."""
    image = make_image("bench", layers=layers, size=size)
    image.push(registry, "bench", "latest")
    return {blob.digest for blob in image.everything}


def _measure(
    folder: Path, registry: Registry, digests: set[str], rounds: int
) -> dict[str, list[Sample]]:
    cases: dict[str, Callable[[Path], Sample]] = {
        "dist pull": lambda place: _dist(place, registry, digests),
        "ctr content fetch": lambda place: _ctr(place, registry),
        "skopeo copy docker://… oci:…": lambda place: _skopeo(place, registry),
    }
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    for number in range(rounds):
        order = list(cases)[number % len(cases) :] + list(cases)[: number % len(cases)]
        for name in order:
            place = folder / "place"
            place.mkdir()
            sample = cases[name](place)
            shutil.rmtree(place)
            samples[name].append(sample)
            print(f"{name}: {sample.seconds:.2f} s", file=sys.stderr)
    return samples


def _run(*command: str) -> Sample:
    """Run a program with nothing left to be written back by others."""
    os.sync()
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return Sample(seconds, usage.ru_maxrss / 1024)


def _dist(place: Path, registry: Registry, digests: set[str]) -> Sample:
    sample = _run(_DIST, "pull", "--root", str(place), f"{registry.host}/bench")
    store = Store(place)
    assert {str(digest) for digest in store.digests()} == digests
    return sample


def _skopeo(place: Path, registry: Registry) -> Sample:
    source = f"docker://{registry.host}/bench:latest"
    return _run("skopeo", "copy", "-q", "--src-tls-verify=false", source, f"oci:{place}/layout:it")


def _ctr(place: Path, registry: Registry) -> Sample:
    with _containerd(place) as address:
        name = f"{registry.host}/bench:latest"
        return _run("ctr", "-a", address, "content", "fetch", "--plain-http", name)


@contextmanager
def _containerd(place: Path) -> Iterator[str]:
    """A containerd of its own: the address of its socket."""
    with tempfile.TemporaryDirectory() as state:  # a socket's path is short
        address = f"{state}/s"
        config = place / "config.toml"
        config.write_text(
            f'version = 2\nroot = "{place}/root"\nstate = "{state}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
            f'[grpc]\naddress = "{address}"\n[ttrpc]\naddress = "{address}.ttrpc"\n'
        )
        with (place / "log").open("wb") as log:
            command = ["containerd", "-c", str(config)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            asking = ["ctr", "-a", address, "version"]
            while subprocess.run(asking, capture_output=True, check=False).returncode != 0:
                if process.poll() is not None:
                    raise SystemExit((place / "log").read_text())
            yield address
        finally:
            process.terminate()
            process.wait()


def _print(samples: dict[str, list[Sample]], options: argparse.Namespace) -> None:
    ours = statistics.median(sample.seconds for sample in samples["dist pull"])
    print(f"{options.layers} x {options.mib} MiB, medians of {options.rounds} rounds:\n")
    print("| program | seconds | least to most | dist pull takes … of it | peak memory |")
    print("|---|---|---|---|---|")
    for name, taken in samples.items():
        seconds = [sample.seconds for sample in taken]
        median = statistics.median(seconds)
        memory = max(sample.memory for sample in taken)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(f"| {name} | {median:.2f} | {spread} | {ours / median:.2f} | {memory:.0f} MiB |")


if __name__ == "__main__":
    raise SystemExit(main())
