"""``dist fetch``: one object on standard output, from the right endpoint, verified."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dist.command import Dist
from tests.registry.faults import Proxy, corrupt, cut, relabel, stall
from tests.registry.samples import DOCKER, OCI, Blob, Image, make_image, put_blob
from tests.registry.server import Registry

Start = Callable[..., subprocess.Popen[bytes]]


def test_a_tag_is_its_manifest(
    dist: Dist, registry: Registry, repository: str, image: Image
) -> None:
    """What a tag stands for comes out, byte for byte."""
    assert dist("fetch", f"{registry.host}/{repository}", "latest").stdout == image.top.data


@pytest.mark.parametrize("hints", [[], [OCI["layer"]], [OCI["manifest"]], ["x/y", "z"]])
def test_a_digest_is_a_blob_or_a_manifest(
    dist: Dist, registry: Registry, repository: str, image: Image, hints: list[str]
) -> None:
    """By digest everything is found, whatever the hints say, and both endpoints are tried."""
    for blob in image.everything:
        words = [f"mediatype:{hint}" for hint in hints]
        done = dist("fetch", f"{registry.host}/{repository}", blob.digest, *words)
        assert done.stdout == blob.data


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
@pytest.mark.parametrize("platforms", [(), ("linux/amd64", "linux/arm64")], ids=["one", "index"])
def test_nothing_is_converted(
    dist: Dist,
    registry: Registry,
    repository: str,
    types: dict[str, str],
    platforms: tuple[str, ...],
) -> None:
    """Manifests and indexes of both dialects come as they were pushed, not as a registry's idea."""
    image = make_image(repository, types=types, platforms=platforms)
    image.push(registry, repository, "v1")

    assert dist("fetch", f"{registry.host}/{repository}", "v1").stdout == image.top.data


def test_a_hint_is_asked_for_first(
    dist: Dist, registry: Registry, repository: str, proxy: Proxy
) -> None:
    """A list asked for as a manifest is the registry's choice of one; the hint was honoured."""
    image = make_image(repository, types=DOCKER, platforms=("linux/arm64", "linux/amd64"))
    image.push(registry, repository, "v1")
    hint = f"mediatype:{DOCKER['manifest']}"

    got = dist("fetch", f"{proxy.host}/{repository}", "v1", hint).stdout

    assert got == image.manifests["linux/amd64"].data
    assert [get.headers["accept"] for get in proxy.gets("manifests")] == [DOCKER["manifest"]]


def test_a_hint_that_does_not_fit_is_only_a_hint(
    dist: Dist, registry: Registry, repository: str, image: Image
) -> None:
    """What the registry has in another type than hinted comes all the same, with a word on it."""
    hint = f"mediatype:{DOCKER['manifest']}"

    done = dist("fetch", f"{registry.host}/{repository}", "latest", hint)

    assert done.stdout == image.top.data
    assert f"is of the type {OCI['manifest']}" in done.stderr.decode()


def test_schema_1_is_refused(
    dist: Dist, registry: Registry, repository: str, proxy: Proxy, image: Image
) -> None:
    """A manifest converted to signed schema 1 never comes out as if it were the image's."""
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    proxy.fail("manifests", relabel(Content_Type=kind, Docker_Content_Digest="none"))

    error = dist.error("fetch", f"{proxy.host}/{repository}", "latest")

    assert "schema 1" in error


def test_sha512(dist: Dist, registry: Registry, repository: str) -> None:
    """A digest in sha512 is verified in sha512, though the registry's header names sha256."""
    blob = Blob(repository.encode(), OCI["layer"], "sha512")
    put_blob(registry, repository, blob)
    path = registry.blob(f"sha256:{hashlib.sha256(blob.data).hexdigest()}")
    status, _, _ = registry.send("HEAD", f"/v2/{repository}/blobs/{blob.digest}")
    if status != 200:
        pytest.skip("this registry keeps sha256 only")

    assert dist("fetch", f"{registry.host}/{repository}", blob.digest).stdout == blob.data
    path.write_bytes(blob.data[::-1])
    assert blob.digest in dist.error("fetch", f"{registry.host}/{repository}", blob.digest)


def test_corruption_on_the_registrys_disk(
    dist: Dist, registry: Registry, repository: str, image: Image, tmp_path: Path
) -> None:
    """A blob that rotted there comes with 200 and the right header; both digests are named."""
    blob = image.blobs[0]
    rotten = b"x" + blob.data[1:]
    registry.blob(blob.digest).write_bytes(rotten)

    error = dist.error("fetch", f"{registry.host}/{repository}", blob.digest, "-o", "out")

    assert blob.digest in error
    assert hashlib.sha256(rotten).hexdigest() in error
    assert not list(tmp_path.glob("*out*"))


def test_corruption_of_a_manifest(
    dist: Dist, registry: Registry, repository: str, proxy: Proxy, image: Image
) -> None:
    """A manifest that was changed on the way is found out, by tag and by digest."""
    proxy.fail("manifests", corrupt(-2), corrupt(-2))

    for name in ("latest", image.top.digest):
        hint = f"mediatype:{OCI['manifest']}"
        assert image.top.digest in dist.error("fetch", f"{proxy.host}/{repository}", name, hint)


def test_nothing_is_packed_on_the_way(
    dist: Dist, repository: str, proxy: Proxy, image: Image
) -> None:
    """Every request asks for the bytes as they are."""
    dist("fetch", f"{proxy.host}/{repository}", image.blobs[0].digest)
    dist("fetch", f"{proxy.host}/{repository}", "latest")

    assert {get.headers["accept-encoding"] for get in proxy.heard} == {"identity"}


def test_a_cut_is_gone_on_from(dist: Dist, repository: str, proxy: Proxy, image: Image) -> None:
    """A connection that breaks in the middle costs neither a byte nor the pipeline."""
    blob = image.blobs[1]
    proxy.fail(blob.digest, cut(20_000), cut(10_000, reset=True))

    done = dist("fetch", f"{proxy.host}/{repository}", blob.digest)

    assert done.stdout == blob.data
    first, *later = [get.headers.get("range") for get in proxy.gets(blob.digest)]
    assert first is None
    assert later[0] == "bytes=20000-"


def test_output_to_a_file(
    dist: Dist, registry: Registry, repository: str, image: Image, tmp_path: Path
) -> None:
    """--output has the whole object or leaves what was there; a device is written to."""
    blob = image.blobs[1]
    remote = f"{registry.host}/{repository}"
    (tmp_path / "out").write_bytes(b"before")

    dist.error("fetch", remote, f"sha256:{'0' * 64}", "--output", "out")
    assert (tmp_path / "out").read_bytes() == b"before"
    assert dist("fetch", remote, blob.digest, "--output", "out").stdout == b""
    assert (tmp_path / "out").read_bytes() == blob.data
    dist("fetch", remote, blob.digest, "--output", "/dev/null")
    assert dist("fetch", remote, blob.digest, "--output", "-").stdout == blob.data


def test_a_closed_reader_ends_it_quietly(dist: Dist, registry: Registry, repository: str) -> None:
    """``| head`` gets what it wants, and nobody complains."""
    blob = Blob(bytes(range(256)) * 40_000, OCI["layer"])
    put_blob(registry, repository, blob)

    done = dist.shell(
        f"set +o pipefail; dist fetch {registry.host}/{repository} {blob.digest} | head -c 5"
    )

    assert done.stdout == blob.data[:5]
    assert done.stderr == b""


def test_the_store_is_not_touched(
    dist: Dist, registry: Registry, repository: str, image: Image
) -> None:
    """Fetch makes no store."""
    dist("fetch", f"{registry.host}/{repository}", "latest")

    assert not dist.root.exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["{host}/a"], 2, "OBJECT"),
        (["{host}/a", "latest", "type:x"], 2, "mediatype:TYPE"),
        (["{host}/A", "latest"], 1, "no repository"),
        (["{host}/a", ".v"], 1, "a tag has"),
        (["{host}/a", "sha256:12"], 1, "invalid digest"),
        (["{host}/a/b", "latest"], 1, "not found in the registry"),
        (["127.0.0.1:1/a", "latest"], 1, "127.0.0.1:1"),
        (["{host}/a", "latest", "--retries", "x"], 2, "no number"),
        (["{host}/a", "latest", "--mirror", "a/b"], 2, "no HOST"),
        (["{host}/a", "latest", "--insecure"], 1, "SSL"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    dist: Dist, registry: Registry, words: list[str], code: int, says: str
) -> None:
    """Mistakes and refusals end at once, with one line that tells what to look at."""
    words = [word.format(host=registry.host) for word in words]

    assert says in dist.error("fetch", *words, code=code)


def test_the_pipeline_of_2017(
    dist: Dist, registry: Registry, repository: str, tmp_path: Path
) -> None:
    """A manifest, jq, ten ``dist fetch | dist ingest`` at a time: it works as it was written."""
    image = make_image(repository, types=DOCKER, layers=12)
    image.push(registry, repository, "latest")
    remote = f"{registry.host}/{repository}"

    each = (
        '"dist fetch " + $remote + " " + .digest + " mediatype:" + .mediaType + "'
        ' | dist ingest --expected-digest " + .digest + " --expected-size " + (.size | tostring)'
        ' + " docker.io/library/redis@" + .digest'
    )
    dist.shell(
        f"dist fetch {remote} latest mediatype:{DOCKER['manifest']}"
        f" | jq -r --arg remote {remote} '.layers[] | {each}'"
        " | xargs -I{} -P10 -n1 sh -c '{}'"
    )

    layers = [layer["digest"] for layer in json.loads(image.top.data)["layers"]]
    assert dist.out("list", "-q").split() == sorted(layers)
    assert dist.out("active") == ""


def test_interruption(
    dist: Dist, repository: str, proxy: Proxy, image: Image, start: Start, events: threading.Event
) -> None:
    """^C ends it while a registry is silent, without Python's traceback."""
    proxy.fail("latest", stall(0, events))
    process = start("fetch", f"{proxy.host}/{repository}", "latest")
    proxy.wait_for(1)

    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 130
