"""``dist pull``: a whole image in the store, nothing twice, gone on with where it stopped."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dist.command import DIST, Dist, digest_of
from tests.registry.faults import Proxy, before, corrupt, refuse, stall
from tests.registry.samples import DOCKER, OCI, Blob, Image, make_image, put_blob, put_manifest
from tests.registry.server import Registry

Start = Callable[..., subprocess.Popen[bytes]]

_MIB = 1024 * 1024
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7")


def holds(dist: Dist, blobs: list[Blob]) -> None:
    """The store holds these blobs, nothing else, and no ingest."""
    assert dist.out("list", "-q").split() == sorted(blob.digest for blob in blobs)
    for blob in blobs:
        assert Path(dist.store.path(blob.digest)).read_bytes() == blob.data
    assert dist.out("active") == ""


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
def test_an_image(dist: Dist, registry: Registry, repository: str, types: dict[str, str]) -> None:
    """Manifest, config and layers are in the store, and the manifest's digest is printed."""
    image = make_image(repository, types=types)
    image.push(registry, repository, "v1")

    out = dist.out("pull", f"{registry.host}/{repository}:v1")

    assert out == f"{image.top.digest}\n"
    holds(dist, image.everything)


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platform(
    dist: Dist, registry: Registry, repository: str, types: dict[str, str], platform: str
) -> None:
    """Of an index the one platform comes, with the index itself."""
    image = make_image(repository, types=types, platforms=PLATFORMS)
    image.push(registry, repository, "v1")

    dist("pull", "--platform", platform, f"{registry.host}/{repository}:v1")

    holds(dist, image.of(platform))


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
def test_all_platforms(
    dist: Dist, registry: Registry, repository: str, types: dict[str, str]
) -> None:
    """--all-platforms brings all that an index lists; what is shared comes once."""
    image = make_image(repository, types=types, platforms=PLATFORMS)
    image.push(registry, repository, "v1")

    done = dist("pull", "--all-platforms", f"{registry.host}/{repository}@{image.top.digest}")

    assert done.stdout.decode() == f"{image.top.digest}\n"
    holds(dist, image.everything)


def test_a_missing_platform(dist: Dist, registry: Registry, repository: str, image: Image) -> None:
    """An image for another platform is refused, by its index or by its config."""
    index = make_image(repository, platforms=PLATFORMS)
    index.push(registry, repository, "index")

    for tag in ("latest", "index"):
        error = dist.error(
            "pull", "--platform", "linux/s390x", f"{registry.host}/{repository}:{tag}"
        )
        assert "linux/amd64" in error
        assert "linux/s390x" in error


def test_what_is_there_is_not_transferred(
    dist: Dist, repository: str, proxy: Proxy, image: Image
) -> None:
    """A second pull fetches nothing at all; a third only what was deleted."""
    name = f"{proxy.host}/{repository}"
    dist("pull", name)
    first = len(proxy.heard)
    done = dist("pull", name)
    assert [each.method for each in proxy.heard[first:]] == ["HEAD"]
    assert done.stdout.decode() == f"{image.top.digest}\n"
    assert "nothing was to be transferred" in done.stderr.decode()

    dist("pull", f"{name}@{image.top.digest}")
    assert len(proxy.heard) == first + 1

    gone = image.blobs[1]
    dist("delete", gone.digest)
    proxy.heard.clear()
    dist("pull", name)
    assert [each.path.rpartition("/")[2] for each in proxy.heard if each.method == "GET"] == [
        gone.digest
    ]
    holds(dist, image.everything)


def test_a_moved_tag(dist: Dist, registry: Registry, repository: str, image: Image) -> None:
    """A tag that stands for something else now brings that, and only what is new of it."""
    dist("pull", f"{registry.host}/{repository}")
    other = make_image(f"{repository} other")
    other.push(registry, repository, "latest")

    assert dist.out("pull", f"{registry.host}/{repository}") == f"{other.top.digest}\n"
    holds(dist, [*image.everything, *other.everything])


def test_an_image_of_odd_blobs(dist: Dist, registry: Registry, repository: str) -> None:
    """Empty blobs, and one that is listed twice, are no trouble."""
    empty, layer = Blob(b"", OCI["layer"]), Blob(repository.encode(), OCI["layer"])
    config = Blob(b"{}", OCI["config"])
    layers = [each.descriptor for each in (layer, empty, layer)]
    document = {"schemaVersion": 2, "config": config.descriptor, "layers": layers}
    manifest = Blob(json.dumps(document).encode(), OCI["manifest"])
    for blob in (empty, layer, config):
        put_blob(registry, repository, blob)
    put_manifest(registry, repository, "odd", manifest)

    dist("pull", f"{registry.host}/{repository}:odd")

    holds(dist, [manifest, empty, layer, config])


def test_json(dist: Dist, registry: Registry, repository: str, image: Image) -> None:
    """--json gives each blob as it is there, the image last, and progress as JSON on stderr."""
    done = dist("pull", "--json", f"{registry.host}/{repository}")

    *blobs, last = map(json.loads, done.stdout.splitlines())
    assert {each["digest"]: each["size"] for each in blobs} == {
        blob.digest: len(blob.data) for blob in image.everything
    }
    assert all(each["transferred"] for each in (*blobs, last))
    assert last["image"] == f"{registry.host}/{repository}:latest"
    assert last["digest"] == image.top.digest
    assert last["size"] == sum(len(blob.data) for blob in image.everything)
    for event in map(json.loads, done.stderr.splitlines()):
        assert event.keys() == {"ref", "offset", "total"}


def test_bars_on_a_terminal(dist: Dist, registry: Registry, repository: str) -> None:
    """A terminal shows a bar for each layer and one for all; the result is on stdout alone."""
    image = make_image(repository, size=300_000)
    image.push(registry, repository, "latest")
    master, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [DIST, "pull", f"{registry.host}/{repository}"],
            stdout=subprocess.PIPE,
            stderr=terminal,
            env={**dist.env, "TERM": "xterm", "COLUMNS": "100"},
            check=True,
        )
        shown = os.read(master, 1 << 20).decode()
    finally:
        os.close(master)
        os.close(terminal)

    assert done.stdout.decode() == f"{image.top.digest}\n"
    assert "total" in shown
    for layer in json.loads(image.top.data)["layers"]:
        assert layer["digest"].split(":")[1][:12] in shown


def test_no_terminal_no_colour(
    dist: Dist, registry: Registry, repository: str, image: Image
) -> None:
    """Without a terminal there is one plain line at the end."""
    done = dist("pull", f"{registry.host}/{repository}")

    assert re.fullmatch(rb"dist: \S+: 4 blobs, \S+; 4 and \S+ transferred in \S+s\n", done.stderr)


# ------------------------------------------------------------------ interrupted and resumed


def _offsets(dist: Dist) -> dict[str, int]:
    return {status.ref.text: status.offset for status in dist.store.active()}


def _until(dist: Dist, ref: str, offset: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until an ingest has come to ``offset`` bytes."""
    waiting = threading.Event()
    while _offsets(dist).get(ref, 0) < offset:
        assert process.poll() is None
        waiting.wait(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_and_gone_on_with(
    dist: Dist,
    registry: Registry,
    repository: str,
    proxy: Proxy,
    events: threading.Event,
    how: signal.Signals,
    start: Start,
) -> None:
    """After a kill in the middle the next pull asks for the rest alone, and active shows it."""
    image = make_image(repository, size=3_000_000)
    image.push(registry, repository, "latest")
    layer = image.blobs[1]
    proxy.fail(layer.digest, stall(2_500_000, events))
    name = f"{proxy.host}/{repository}"
    process = start("pull", name)
    try:
        # What was sent last lies in memory, at most a MiB of it; the rest is there.
        _until(dist, layer.digest, _MIB, process)
        assert layer.digest in dist.out("active")
    finally:
        process.send_signal(how)
        _, complaints = process.communicate(timeout=20)
    assert process.returncode == (130 if how is signal.SIGINT else -how)
    assert b"Traceback" not in complaints
    assert (b"dist: interrupted; what came is kept" in complaints) is (how is signal.SIGINT)
    held = _offsets(dist)[layer.digest]
    assert _MIB <= held < len(layer.data)

    proxy.heard.clear()
    dist("pull", name)

    assert [get.headers.get("range") for get in proxy.gets(layer.digest)] == [f"bytes={held}-"]
    holds(dist, image.everything)


@pytest.mark.parametrize("ref", ["{}", "colons as dashes"])
def test_bytes_that_others_brought(
    dist: Dist, repository: str, proxy: Proxy, image: Image, ref: str
) -> None:
    """What ``dist ingest`` began, by the digest or by its own default name, is gone on with."""
    layer = image.blobs[1]
    words = [layer.digest] if ref == "{}" else []
    dist("ingest", "--expected-digest", layer.digest, *words, stdin=layer.data[:12_345], code=1)

    dist("pull", f"{proxy.host}/{repository}")

    assert [get.headers.get("range") for get in proxy.gets(layer.digest)] == ["bytes=12345-"]
    holds(dist, image.everything)


def test_nothing_is_asked_when_nothing_is_missing(
    dist: Dist, repository: str, proxy: Proxy, image: Image
) -> None:
    """A whole ingest that was never committed becomes its blob without a request."""
    layer = image.blobs[1]
    with dist.store.writer(layer.digest) as writer:
        writer.write(layer.data)

    dist("pull", f"{proxy.host}/{repository}")

    assert proxy.gets(layer.digest) == []
    holds(dist, image.everything)


@pytest.mark.parametrize("held", [b"wrong" * 2000, b"x" * 50_000, b"x" * 70_000])
def test_wrong_bytes_are_replaced(
    dist: Dist, registry: Registry, repository: str, image: Image, held: bytes
) -> None:
    """Held bytes that are not the blob's, fewer, as many or more, give way to the right ones."""
    with dist.store.writer(image.blobs[1].digest) as writer:
        writer.write(held)

    dist("pull", f"{registry.host}/{repository}")

    holds(dist, image.everything)


def test_a_registry_without_range(dist: Dist, repository: str, proxy: Proxy, image: Image) -> None:
    """A 200 in answer to a Range is all of it: what is held is passed over, not written twice."""
    layer = image.blobs[1]
    with dist.store.writer(layer.digest) as writer:
        writer.write(layer.data[:23_456])
    proxy.range_known = False

    dist("pull", f"{proxy.host}/{repository}")

    holds(dist, image.everything)


def test_two_pulls_at_a_time(
    dist: Dist,
    registry: Registry,
    repository: str,
    proxy: Proxy,
    events: threading.Event,
    start: Start,
) -> None:
    """A pull that meets another waits for the blobs that it brings, and fetches none twice."""
    image = make_image(repository, size=3_000_000)
    image.push(registry, repository, "latest")
    layer = image.blobs[1]
    proxy.fail(layer.digest, stall(2_500_000, events))
    first, second = (start("pull", f"{proxy.host}/{repository}") for _ in range(2))
    try:
        _until(dist, layer.digest, _MIB, first)
        events.set()
    finally:
        outs = [process.communicate(timeout=30) for process in (first, second)]

    assert [out for out, _ in outs] == [f"{image.top.digest}\n".encode()] * 2
    whole = [get for get in proxy.gets(layer.digest) if "range" not in get.headers]
    assert len(whole) == 1
    holds(dist, image.everything)


# ---------------------------------------------------------------------------------- mirrors


def test_a_mirror_is_asked_first(
    dist: Dist, registry: Registry, repository: str, image: Image, proxy: Proxy
) -> None:
    """All comes from the mirror; the registry itself is not spoken to."""
    dist.env["DIST_MIRROR"] = registry.host

    dist("pull", f"{proxy.host}/{repository}")

    assert proxy.heard == []
    holds(dist, image.everything)


def test_a_mirror_that_fails(
    dist: Dist, registry: Registry, repository: str, image: Image, proxy: Proxy
) -> None:
    """A mirror that has nothing, or is not there, costs a line on stderr and nothing else."""
    other = f"{registry.host}/{repository}"
    for mirror in ("127.0.0.1:1", proxy.host):
        proxy.fail("/v2/", *[refuse(404)] * 20)
        done = dist("pull", "--mirror", mirror, other)
        assert f"mirror {mirror}" in done.stderr.decode()
        if mirror != proxy.host:  # one that is not there is asked once
            assert done.stderr.count(b"going on with") == 1
        holds(dist, image.everything)
        dist("delete", *dist.out("list", "-q").split())


def test_a_mirror_with_other_bytes(
    dist: Dist, registry: Registry, repository: str, image: Image, tmp_path: Path
) -> None:
    """A mirror whose blob is corrupt is passed over for the registry's own."""
    layer = image.blobs[1]
    with before(registry) as mirror:
        mirror.fail(layer.digest, corrupt(7))
        done = dist("pull", "--mirror", mirror.host, f"{registry.host}/{repository}")

    assert "mismatch" in done.stderr.decode()
    holds(dist, image.everything)


# --------------------------------------------------------------------------------- start-up


@pytest.mark.parametrize("command", ["list", "path", "ingest", "active", "get", "delete"])
def test_others_do_not_pay(dist: Dist, command: str) -> None:
    """Commands that know no registry import nothing of the client, of curl or of rich."""
    words = {"path": [digest_of(b"")], "get": [digest_of(b"")], "ingest": ["ref"]}.get(command, [])
    done = subprocess.run(
        [DIST.replace("/dist", "/python"), "-X", "importtime", "-m", "store.dist", command, *words],
        env=dist.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    imported = {line.rpartition(b"|")[2].strip() for line in done.stderr.splitlines()}
    assert b"store.dist.cli" in imported
    heavy = (b"store.dist.registry", b"store.dist.remote", b"pycurl", b"rich", b"ssl")
    assert not [name for name in imported if name.startswith(heavy)]


def test_memory_does_not_grow_with_the_blob(
    dist: Dist, registry: Registry, repository: str
) -> None:
    """A pull of a blob sixteen times the size needs no more memory than that of a small one."""
    peaks = []
    for size in (4 << 20, 64 << 20):
        image = make_image(f"{repository} {size}", layers=1, size=size)
        image.push(registry, repository, f"s{size}")
        done = dist.shell(
            f"/usr/bin/env python3 -c 'import resource, subprocess, sys;"
            f" subprocess.run(sys.argv[1:], check=True, stdout=2);"
            f" print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'"
            f" {DIST} pull {registry.host}/{repository}:s{size}"
        )
        peaks.append(int(done.stdout))

    small, large = peaks
    assert large < small + 8 * 1024
