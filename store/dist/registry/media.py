"""Media types, descriptors, platforms, and manifests read from bytes.

The types are those of the OCI image specification and of Docker's schema 2, which mean the same
two by two.  Schema 1 is recognised in order to be refused: registries convert to it in silence
when they are asked with too few types, and its digest is not what was pushed.
"""

from __future__ import annotations

import json
import platform as this_machine
from dataclasses import dataclass, field

from store.digest import Digest
from store.dist.registry.errors import Unsound
from store.errors import StoreError

__all__ = [
    "ACCEPTED",
    "MANIFEST_LIMIT",
    "Descriptor",
    "Manifest",
    "Platform",
    "choose",
    "is_manifest_type",
    "is_schema_1",
    "parse_manifest",
]

_INDEXES = frozenset({
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
})  # fmt: skip
_MANIFESTS = frozenset({
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
})  # fmt: skip
_SCHEMA_1 = frozenset({
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
})  # fmt: skip

# Every one of them, always: a type that is left out is a 404 or a silent conversion.
ACCEPTED = (*sorted(_INDEXES), *sorted(_MANIFESTS))

# The distribution specification tells registries to take manifests of up to 4 MiB.
MANIFEST_LIMIT = 4 * 1024 * 1024

# As containerd's platforms package: what uname and users write, and what images are labelled.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7"}


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on.

    Attributes:
        os: for instance ``linux``.
        architecture: in Go's words, for instance ``amd64``.
        variant: of the architecture, for instance ``v7``; may be empty.
    """

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """The platform that ``os/arch[/variant]`` spells.

        Raises:
            ValueError: it spells none.
        """
        os, _, rest = text.lower().partition("/")
        architecture, _, variant = rest.partition("/")
        if not os or not architecture or "/" in variant:
            raise ValueError(f"{text!r} is no platform; write os/arch or os/arch/variant")
        return cls._normal(os, architecture, variant)

    @classmethod
    def here(cls) -> Platform:
        """The platform of this machine."""
        return cls._normal(this_machine.system().lower(), this_machine.machine().lower(), "")

    @classmethod
    def of(cls, fields: object) -> Platform | None:
        """The platform that a descriptor's ``platform`` object states; None when it states none."""
        if not isinstance(fields, dict):
            return None
        os, architecture = fields.get("os"), fields.get("architecture")
        variant = fields.get("variant") or ""
        if not (isinstance(os, str) and isinstance(architecture, str) and isinstance(variant, str)):
            return None
        return cls._normal(os, architecture, variant)

    @classmethod
    def _normal(cls, os: str, architecture: str, variant: str) -> Platform:
        architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
        return cls(os, architecture, variant or implied or _DEFAULT_VARIANTS.get(architecture, ""))

    def __str__(self) -> str:
        variant = (
            "" if self.variant == _DEFAULT_VARIANTS.get(self.architecture, "") else self.variant
        )
        return "/".join(filter(None, (self.os, self.architecture, variant)))


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob as a manifest speaks of it.

    Attributes:
        digest: its name.
        size: in bytes.
        media_type: what it is.
        platform: what it runs on, where an index says so.
    """

    digest: Digest
    size: int
    media_type: str
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index.

    Attributes:
        digest: of its bytes, computed here.
        data: the bytes themselves.
        media_type: its own type.
        children: of an index, its manifests.
        blobs: of a manifest, its config and layers, each digest once.
    """

    digest: Digest
    data: bytes = field(repr=False)
    media_type: str
    children: tuple[Descriptor, ...] = ()
    blobs: tuple[Descriptor, ...] = ()

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests instead of config and layers."""
        return self.media_type in _INDEXES


def is_manifest_type(media_type: str) -> bool:
    """Whether objects of this type are asked for at the manifests endpoint."""
    return media_type in _INDEXES | _MANIFESTS | _SCHEMA_1


def is_schema_1(media_type: str) -> bool:
    """Whether this is what registries convert to when they are asked with too few types."""
    return media_type in _SCHEMA_1


def parse_manifest(data: bytes, said: str | None, algorithm: str) -> Manifest:
    """The manifest or index that ``data`` holds.

    Args:
        data: its bytes.
        said: the type that the registry or a descriptor gives it; None when nobody says.
        algorithm: in which its digest is wanted.

    Raises:
        Unsound: it is no manifest, of schema 1, or of another type than was said.
    """
    digest = Digest.of(data, algorithm)
    what = f"manifest {digest}"
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise Unsound(what, "is no JSON") from None
    if not isinstance(document, dict):
        raise Unsound(what, "is no JSON object")
    stated = document.get("mediaType")
    media_type = stated if isinstance(stated, str) else (said or _guessed(document))
    if said in _SCHEMA_1 or media_type in _SCHEMA_1 or document.get("schemaVersion") == 1:
        raise Unsound(what, "the registry has it as schema 1 only, which is not supported")
    # One set of bytes must not mean two things (OCI image-spec, manifest.md, `mediaType`).
    if said is not None and media_type != said and is_manifest_type(said):
        raise Unsound(what, f"says it is {media_type}, but was announced as {said}")
    if media_type in _INDEXES:
        return Manifest(
            digest, data, media_type, children=_descriptors(document, "manifests", what)
        )
    if media_type in _MANIFESTS:
        config = _descriptor(document.get("config"), what)
        layers = _descriptors(document, "layers", what)
        return Manifest(digest, data, media_type, blobs=tuple(dict.fromkeys((config, *layers))))
    raise Unsound(what, f"is of the type {media_type!r}, which is neither manifest nor index")


def _guessed(document: dict[str, object]) -> str:
    """OCI objects need not state their type: what they hold tells it."""
    if "manifests" in document:
        return "application/vnd.oci.image.index.v1+json"
    return "application/vnd.oci.image.manifest.v1+json" if "config" in document else ""


def _descriptors(document: dict[str, object], key: str, what: str) -> tuple[Descriptor, ...]:
    found = document.get(key, [])
    if found is None:  # as Go writes an empty list
        return ()
    if not isinstance(found, list):
        raise Unsound(what, f"its {key} are no list")
    return tuple(_descriptor(each, what) for each in found)


def _descriptor(fields: object, what: str) -> Descriptor:
    if not isinstance(fields, dict):
        raise Unsound(what, "lacks a descriptor")
    size, media_type = fields.get("size"), fields.get("mediaType")
    if not isinstance(size, int) or size < 0 or not isinstance(media_type, str):
        raise Unsound(what, "holds a descriptor without size or mediaType")
    try:
        digest = Digest.parse(str(fields.get("digest")))
    except StoreError as error:
        raise Unsound(what, f"holds an {error}") from None
    return Descriptor(digest, size, media_type, Platform.of(fields.get("platform")))


def choose(index: Manifest, wanted: Platform) -> Descriptor:
    """The manifest of ``index`` for a platform: the first that fits it best.

    A 32-bit ARM runs what was built for an earlier variant of it; else the variant must fit.

    Raises:
        Unsound: there is none; the text lists those that there are.
    """
    platforms = [(child.platform, child) for child in index.children if child.platform is not None]
    fitting = [(p.variant, child) for p, child in platforms if _runs_on(p, wanted)]
    if fitting:
        return max(fitting, key=lambda pair: pair[0])[1]
    there = ", ".join(sorted({str(platform) for platform, _ in platforms}))
    reason = f"has nothing for {wanted}, only for {there or 'no platform at all'}"
    raise Unsound(f"index {index.digest}", reason)


def _runs_on(built: Platform, machine: Platform) -> bool:
    if (built.os, built.architecture) != (machine.os, machine.architecture):
        return False
    if built.architecture == "arm":
        return built.variant <= machine.variant
    return built.variant == machine.variant
