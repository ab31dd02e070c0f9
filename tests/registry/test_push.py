"""``dist push``: an image from the store into a registry, whole and nothing twice."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.dist.command import Dist
from tests.registry.faults import Proxy, cut, refuse
from tests.registry.samples import DOCKER, OCI, Image, make_image
from tests.registry.server import Registry
from tests.registry.test_pull import PLATFORMS


def put(dist: Dist, image: Image) -> None:
    """Have an image in the store."""
    for blob in image.everything:
        dist.put(blob.data)


def uploads(proxy: Proxy) -> list[str]:
    """The requests that brought something."""
    return [f"{each.method} {each.path}" for each in proxy.heard if each.method in {"PUT", "POST"}]


def is_there(registry: Registry, repository: str, image: Image, tag: str) -> None:
    """Other means than ours find all of the image in the registry."""
    for name, manifest in ((tag, image.top), *((m.digest, m) for m in image.manifests.values())):
        path = f"/v2/{repository}/manifests/{name}"
        status, _, data = registry.send("GET", path, Accept=manifest.media_type)
        assert (status, data) == (200, manifest.data)
    for blob in image.blobs:
        status, _, data = registry.send("GET", f"/v2/{repository}/blobs/{blob.digest}")
        assert (status, data) == (200, blob.data)


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
@pytest.mark.parametrize("platforms", [(), PLATFORMS], ids=["one", "index"])
def test_an_image(
    dist: Dist,
    registry: Registry,
    repository: str,
    types: dict[str, str],
    platforms: tuple[str, ...],
) -> None:
    """All of it is in the registry, by tag and by digest, byte for byte."""
    image = make_image(repository, types=types, platforms=platforms)
    put(dist, image)

    out = dist.out("push", f"{registry.host}/{repository}:v1@{image.top.digest}")

    assert out == f"{image.top.digest}\n"
    is_there(registry, repository, image, "v1")


def test_nothing_is_uploaded_twice(dist: Dist, repository: str, proxy: Proxy) -> None:
    """A second push uploads nothing; with another tag, the manifest alone."""
    image = make_image(repository)
    put(dist, image)
    name = f"{proxy.host}/{repository}"
    dist("push", f"{name}:v1@{image.top.digest}")
    assert len(uploads(proxy)) == 2 * len(image.blobs) + 1
    proxy.heard.clear()

    done = dist("push", f"{name}:v1@{image.top.digest}")
    assert uploads(proxy) == []
    assert "nothing was to be transferred" in done.stderr.decode()

    dist("push", f"{name}:v2@{image.top.digest}")
    assert uploads(proxy) == [f"PUT /v2/{repository}/manifests/v2"]


def test_a_mount_from_another_repository(dist: Dist, repository: str, proxy: Proxy) -> None:
    """--mount-from has the registry take blobs over; what is not there is uploaded."""
    image = make_image(repository)
    put(dist, image)
    dist("push", f"{proxy.host}/{repository}/a:v1@{image.top.digest}")
    for source, put_requests in ((f"{repository}/a", 1), (f"{repository}/none", 4)):
        proxy.heard.clear()
        target = f"{proxy.host}/{repository}/{put_requests}:v1@{image.top.digest}"
        dist("push", "--mount-from", source, target)
        assert len([each for each in uploads(proxy) if each.startswith("PUT")]) == put_requests


def test_one_platform(dist: Dist, registry: Registry, repository: str) -> None:
    """Of an index of which one platform was pulled, --platform pushes that one."""
    image = make_image(repository, platforms=PLATFORMS)
    image.push(registry, repository, "v1")
    platform = "linux/arm64"
    digest = dist.out("pull", "--platform", platform, f"{registry.host}/{repository}:v1").strip()
    target = f"{registry.host}/{repository}/copy:v1@{digest}"

    assert "--all-platforms" in dist.error("push", target)
    pushed = dist.out("push", "--platform", platform, target)

    assert pushed == f"{image.manifests[platform].digest}\n"


def test_json(dist: Dist, registry: Registry, repository: str) -> None:
    """--json gives each blob as it is there, and the image last."""
    image = make_image(repository)
    put(dist, image)

    done = dist("push", "--json", f"{registry.host}/{repository}:v1@{image.top.digest}")

    *blobs, last = map(json.loads, done.stdout.splitlines())
    assert {each["digest"] for each in blobs} == {blob.digest for blob in image.everything}
    assert last["digest"] == image.top.digest


def test_faults(dist: Dist, registry: Registry, repository: str, proxy: Proxy) -> None:
    """Uploads and manifests are tried again; what was cut does not count as uploaded."""
    image = make_image(repository)
    put(dist, image)
    proxy.fail("uploads", refuse(503), cut(0), refuse(500))
    proxy.fail("manifests", refuse(502))

    dist("push", "-j", "1", f"{proxy.host}/{repository}:v1@{image.top.digest}")

    is_there(registry, repository, image, "v1")


def test_what_rotted_in_the_store_is_not_pushed(
    dist: Dist, registry: Registry, repository: str
) -> None:
    """A blob that changed on our disk is refused, and no tag stands for it."""
    image = make_image(repository)
    put(dist, image)
    path = dist.store.path(image.blobs[1].digest)
    subprocess.run(["chmod", "u+w", path], check=True)
    with open(path, "r+b") as file:
        file.write(b"rotten")

    complaint = dist(
        "push", f"{registry.host}/{repository}:v1@{image.top.digest}", code=1
    ).stderr.decode()

    assert "digest" in complaint.lower()
    dist("fetch", f"{registry.host}/{repository}", "v1", code=1)


def test_what_cannot_be_pushed(dist: Dist, registry: Registry, repository: str) -> None:
    """A manifest that is not there, is none, or lists what is not there, is refused before."""
    image = make_image(repository)
    target = f"{registry.host}/{repository}:v1"
    assert "not found" in dist.error("push", f"{target}@{image.top.digest}")
    put(dist, image)
    assert "@DIGEST" in dist.error("push", target, code=2)
    assert "is no JSON" in dist.error("push", f"{target}@{image.blobs[1].digest}")
    dist("delete", image.blobs[1].digest)
    assert "not found" in dist.error("push", f"{target}@{image.top.digest}")


def test_skopeo_reads_it(dist: Dist, registry: Registry, repository: str) -> None:
    """Another client finds in the registry what was pushed."""
    image = make_image(repository, platforms=PLATFORMS)
    put(dist, image)
    dist("push", f"{registry.host}/{repository}:v1@{image.top.digest}")

    done = dist.shell(
        f"skopeo inspect --raw --tls-verify=false docker://{registry.host}/{repository}:v1"
    )

    assert done.stdout == image.top.data
