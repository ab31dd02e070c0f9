"""The whole way, as the issue of it all was told: a registry, a mount, and others that look."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dist.command import Dist
from tests.registry.faults import Proxy, stall
from tests.registry.samples import OCI, Blob, make_image
from tests.registry.server import Registry
from tests.registry.test_pull import PLATFORMS, holds

Start = Callable[..., subprocess.Popen[bytes]]

_MIB = 1024 * 1024


@pytest.fixture
def mounted(dist: Dist, tmp_path: Path) -> Iterator[Path]:
    """The store, mounted."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("mounting takes root and /dev/fuse")
    point = tmp_path / "mnt"
    point.mkdir()
    dist.root.mkdir()
    log = tmp_path / "log"
    mount = [sys.executable, "-m", "fusefs", str(dist.root), str(point), "--log-file", str(log)]
    subprocess.run(mount, check=True, timeout=30)
    yield point
    subprocess.run(["umount", str(point)], check=True, timeout=30)
    assert "Traceback" not in log.read_text()


def size_of(path: Path) -> int:
    """How long a file is; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def wait_for(path: Path, size: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file that ``process`` fills has come to a size."""
    pause = threading.Event()
    while size_of(path) < size:
        assert process.poll() is None
        pause.wait(0.01)


def read_by_skopeo(dist: Dist, point: Path, top: Blob, folder: Path) -> set[str]:
    """The digests of what skopeo copies, all platforms of it, from the mount as an OCI layout."""
    layout = folder / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    named = {**top.descriptor, "annotations": {"org.opencontainers.image.ref.name": "it"}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (layout / "blobs").symlink_to(point / "blobs")
    dist.shell(f"skopeo copy -q --all oci:{layout}:it dir:{folder}/copied")
    return {path.name for path in (folder / "copied").iterdir()}


def test_a_pull_that_was_killed(
    dist: Dist,
    registry: Registry,
    repository: str,
    proxy: Proxy,
    mounted: Path,
    start: Start,
    events: threading.Event,
    tmp_path: Path,
) -> None:
    """After kill -9 in the middle a multi-platform image is whole, and skopeo reads it back."""
    image = make_image(repository, platforms=PLATFORMS, size=2_000_000)
    image.push(registry, repository, "latest")
    layer = image.blobs[-1]
    proxy.fail(layer.digest, stall(1_500_000, events))
    name = f"{proxy.host}/{repository}"
    process = start("pull", "--all-platforms", name)
    wait_for(mounted / "ingest" / layer.digest, _MIB, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = size_of(mounted / "ingest" / layer.digest)

    proxy.heard.clear()
    dist("pull", "--all-platforms", name)

    assert [get.headers["range"] for get in proxy.gets(layer.digest)] == [f"bytes={held}-"]
    holds(dist, image.everything)
    assert os.listdir(mounted / "ingest") == []
    copied = read_by_skopeo(dist, mounted, image.top, tmp_path)
    assert {blob.digest.removeprefix("sha256:") for blob in image.blobs} <= copied


def test_what_curl_began(
    dist: Dist, registry: Registry, repository: str, proxy: Proxy, mounted: Path
) -> None:
    """Bytes that curl brought through the mount, in two steps, are not transferred again."""
    image = make_image(repository)
    image.push(registry, repository, "latest")
    layer = image.blobs[1]
    url = f"{registry.url}/v2/{repository}/blobs/{layer.digest}"
    target = mounted / "ingest" / layer.digest
    dist.shell(
        # Closed before it is whole, the file is refused as what it is named, and keeps its bytes.
        f"curl -sS -r 0-9999 -o {target} {url} || :; curl -sS -r 10000-19999 {url} >> {target} || :"
    )
    assert size_of(target) == 20_000

    dist("pull", f"{proxy.host}/{repository}")

    assert [get.headers["range"] for get in proxy.gets(layer.digest)] == ["bytes=20000-"]
    assert (mounted / "blobs/sha256" / layer.digest.removeprefix("sha256:")).read_bytes() == (
        layer.data
    )


def test_the_pipeline_into_the_mount(
    dist: Dist, registry: Registry, repository: str, mounted: Path
) -> None:
    """Layers fetched ten at a time into files of the mount, named by their digests, are blobs."""
    image = make_image(repository, layers=12)
    image.push(registry, repository, "latest")
    remote = f"{registry.host}/{repository}"

    dist.shell(
        f"dist fetch {remote} latest mediatype:{OCI['manifest']} | jq -r '.layers[].digest'"
        f" | xargs -P10 -I{{}} sh -c 'dist fetch {remote} {{}} > {mounted}/ingest/{{}}'"
    )

    layers = [layer["digest"] for layer in json.loads(image.top.data)["layers"]]
    assert dist.out("list", "-q").split() == sorted(layers)
    assert os.listdir(mounted / "ingest") == []
