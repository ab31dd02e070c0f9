"""What belongs to an image: the tree from its index or manifest down to the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from store import Digest, Store
from store.dist.registry.errors import Corrupt, Unsound
from store.dist.registry.media import (
    MANIFEST_LIMIT,
    Descriptor,
    Manifest,
    Platform,
    choose,
    is_manifest_type,
    parse_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Tree", "check_size", "describe", "grow", "read_manifest"]

_DEEPEST = 8  # indexes within indexes; one is what there is in practice


class Tree(NamedTuple):
    """An image, or the part of it that is asked for.

    Attributes:
        manifests: indexes and manifests, each before those that it lists; the top one first.
        blobs: configs, layers and whatever else is listed, each once.
    """

    manifests: list[Manifest]
    blobs: list[Descriptor]


def grow(top: Manifest, load: Callable[[Descriptor], Manifest], platform: Platform | None) -> Tree:
    """The tree below ``top``.

    Args:
        top: an index or a manifest.
        load: brings an index or manifest that is listed.
        platform: which manifest of each index; None: all.

    Raises:
        Unsound: an index has nothing for the platform, or is deeper than makes sense.
    """
    manifests: dict[Digest, Manifest] = {}
    blobs: dict[Digest, Descriptor] = {}

    def add(manifest: Manifest, depth: int) -> None:
        if depth > _DEEPEST:
            raise Unsound(f"index {top.digest}", f"is more than {_DEEPEST} indexes deep")
        if manifest.digest in manifests:
            return
        manifests[manifest.digest] = manifest
        for blob in manifest.blobs:
            blobs.setdefault(blob.digest, blob)
        for child in _children(manifest, platform):
            if is_manifest_type(child.media_type):
                add(load(child), depth + 1)
            else:
                blobs.setdefault(child.digest, child)

    add(top, 0)
    return Tree(list(manifests.values()), list(blobs.values()))


def _children(manifest: Manifest, platform: Platform | None) -> Sequence[Descriptor]:
    if platform is None or not manifest.is_index:
        return manifest.children
    return [choose(manifest, platform)]


def read_manifest(store: Store, digest: Digest, said: str | None = None) -> Manifest:
    """A manifest that is in the store.

    Args:
        store: where it is.
        digest: its name, by which it is verified.
        said: the type that whoever lists it gives it.

    Raises:
        NotFound: it is not there.
        Corrupt: it is not what its name says.
        Unsound: it is no manifest.
    """
    with store.open(digest) as file:
        data = file.read(MANIFEST_LIMIT + 1)
    if len(data) > MANIFEST_LIMIT:
        raise Unsound(f"blob {digest}", "is too large for a manifest")
    manifest = parse_manifest(data, said, digest.algorithm)
    if manifest.digest != digest:
        reason = f"the store's copy has become {manifest.digest}; delete it and pull again"
        raise Corrupt(f"blob {digest}", reason)
    return manifest


def describe(manifest: Manifest) -> Descriptor:
    """A manifest as one that lists it would describe it."""
    return Descriptor(manifest.digest, len(manifest.data), manifest.media_type)


def check_size(what: Descriptor, data: bytes) -> None:
    """Whether a manifest has the size that was announced.

    Raises:
        Corrupt: it has another.
    """
    if len(data) != what.size:
        reason = f"the registry has {len(data)} bytes of it, expected {what.size}"
        raise Corrupt(f"manifest {what.digest}", reason)
