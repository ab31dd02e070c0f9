"""A small OCI image layout, made of nothing but the standard library."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.fusefs.mounted import sha256

_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"

TAG: Final = "small"


def make_image(layout: Path, store: Callable[[bytes], object]) -> dict[str, bytes]:
    """Write an image layout but for its blobs.

    Args:
        layout: the folder to write to.
        store: is given the content of each blob.

    Returns:
        The files of the image, by their path in it.
    """

    def put(content: bytes, kind: str) -> dict[str, Any]:
        store(content)
        return {"mediaType": kind, "digest": f"sha256:{sha256(content)}", "size": len(content)}

    chance = random.Random("image")
    files = {f"data/{i}": chance.randbytes(200_000 + i) for i in range(3)}
    tars = [_tar(name, content) for name, content in files.items()]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(each)}" for each in tars]},
        "history": [{"created_by": f"layer {i}"} for i in range(len(tars))],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": put(_json(config), _CONFIG),
        "layers": [put(gzip.compress(each, 1, mtime=0), _LAYER) for each in tars],
    }
    entry = put(_json(manifest), _MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
    (layout / "index.json").write_bytes(_json(index))
    (layout / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return files


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _tar(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()
