"""Images to push and pull, made from nothing, in each of the kinds that registries hold."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any, NamedTuple

from tests.registry.server import Registry

_PIECE = 64 * 1024 * 1024

OCI = {
    "index": "application/vnd.oci.image.index.v1+json",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
}
DOCKER = {
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}


class Blob(NamedTuple):
    """A blob, and how a manifest describes it."""

    data: bytes
    media_type: str
    algorithm: str = "sha256"

    @property
    def digest(self) -> str:
        """Its digest."""
        return f"{self.algorithm}:{hashlib.new(self.algorithm, self.data).hexdigest()}"

    @property
    def descriptor(self) -> dict[str, Any]:
        """Its descriptor."""
        size = len(self.data)
        return {"mediaType": self.media_type, "digest": self.digest, "size": size}


class Image(NamedTuple):
    """An image.

    Attributes:
        top: what a tag stands for.
        manifests: the others, by platform; without an index there are none.
        blobs: configs and layers.
        media_type: of ``top``.
    """

    top: Blob
    manifests: dict[str, Blob]
    blobs: list[Blob]

    @property
    def everything(self) -> list[Blob]:
        """All that is to be there after a pull of all platforms."""
        return [self.top, *self.manifests.values(), *self.blobs]

    def of(self, platform: str) -> list[Blob]:
        """All that is to be there after a pull of one platform."""
        wanted = json.loads(self.manifests[platform].data)
        digests = {each["digest"] for each in (wanted["config"], *wanted["layers"])}
        blobs = [blob for blob in self.blobs if blob.digest in digests]
        return [self.top, self.manifests[platform], *blobs]

    def push(self, registry: Registry, repository: str, tag: str) -> None:
        """Have it in a registry, by other means than ours."""
        for blob in self.blobs:
            put_blob(registry, repository, blob)
        for manifest in self.manifests.values():
            put_manifest(registry, repository, manifest.digest, manifest)
        put_manifest(registry, repository, tag, self.top)


def put_blob(registry: Registry, repository: str, blob: Blob) -> None:
    """Have a blob in a registry."""
    status, headers, _ = registry.send("POST", f"/v2/{repository}/blobs/uploads/", b"")
    assert status == 202, status
    url = f"{headers['Location']}&digest={blob.digest}"
    status, _, _ = registry.send("PUT", url, blob.data, Content_Type="application/octet-stream")
    assert status == 201, status


def put_manifest(registry: Registry, repository: str, name: str, manifest: Blob) -> None:
    """Have a manifest in a registry."""
    path = f"/v2/{repository}/manifests/{name}"
    status, _, _ = registry.send("PUT", path, manifest.data, Content_Type=manifest.media_type)
    assert status == 201, status


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _noise(seed: str, size: int) -> bytes:
    """Bytes of chance, the same for the same seed; one call of randbytes gives 255 MiB at most."""
    chance = random.Random(seed)
    pieces = [_PIECE] * (size // _PIECE) + [size % _PIECE]
    return b"".join(map(chance.randbytes, pieces))


def make_image(
    seed: str,
    *,
    types: dict[str, str] = OCI,
    layers: int = 2,
    size: int = 50_000,
    platforms: tuple[str, ...] = (),
) -> Image:
    """An image of its own for each ``seed``.

    Args:
        seed: what its bytes come from.
        types: `OCI` or `DOCKER`.
        layers: how many a manifest has, of which the first is the same for all platforms.
        size: of each layer in bytes.
        platforms: with any, there is an index of them; else the image is linux/amd64.
    """
    manifests: dict[str, Blob] = {}
    blobs: dict[str, Blob] = {}
    for platform in platforms or ("linux/amd64",):
        os, architecture, *variant = platform.split("/")
        own = [f"{seed} shared", *(f"{seed} {platform} {i}" for i in range(1, layers))]
        stack = [Blob(_noise(name, size), types["layer"]) for name in own]
        fields = {"os": os, "architecture": architecture, "variant": "".join(variant)}
        config = Blob(_json({**fields, "author": seed}), types["config"])
        document = {
            "schemaVersion": 2,
            "mediaType": types["manifest"],
            "config": config.descriptor,
            "layers": [layer.descriptor for layer in stack],
        }
        manifests[platform] = Blob(_json(document), types["manifest"])
        blobs.update({blob.digest: blob for blob in (config, *stack)})
    if not platforms:
        return Image(manifests["linux/amd64"], {}, list(blobs.values()))
    return Image(_index(manifests, types), manifests, list(blobs.values()))


def _index(manifests: dict[str, Blob], types: dict[str, str]) -> Blob:
    """An index of manifests, by platform."""
    listed = []
    for platform, manifest in manifests.items():
        os, architecture, *variant = platform.split("/")
        fields = {"os": os, "architecture": architecture}
        fields |= {"variant": variant[0]} if variant else {}
        listed.append({**manifest.descriptor, "platform": fields})
    document = {"schemaVersion": 2, "mediaType": types["index"], "manifests": listed}
    return Blob(_json(document), types["index"])
