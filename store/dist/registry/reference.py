"""Names of repositories and images.

The grammar is that of the distribution project (``reference/reference.go``)::

    image      ::= repository [":" tag] ["@" digest]
    repository ::= [domain "/"] path
    domain     ::= host [":" port]
    path       ::= component ("/" component)*
    component  ::= [a-z0-9]+ (("." | "_" | "__" | "-"+) [a-z0-9]+)*
    tag        ::= [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}

As everywhere, a first component counts as the domain only when it holds a dot or a colon or is
``localhost``; without a domain it is Docker Hub's, where a path of one component lies below
``library/``.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from store.digest import Digest
from store.dist.registry.errors import InvalidReference
from store.errors import InvalidDigest

__all__ = ["Image", "Repository", "is_loopback", "parse_tag"]

_HUB = "docker.io"
_HUB_NAMES = frozenset({_HUB, "index.docker.io", "registry-1.docker.io"})
_HUB_ENDPOINT = "registry-1.docker.io"
_LONGEST_NAME = 255

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a registry.

    Attributes:
        domain: ``HOST[:PORT]``, ``docker.io`` for Docker Hub.
        path: its name within the registry.
    """

    domain: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Repository:
        """The repository that ``text`` names.

        Raises:
            InvalidReference: it names none.
        """
        if "://" in text:
            raise InvalidReference(text, "it is written without a scheme, as HOST/REPOSITORY")
        domain, slash, path = text.partition("/")
        if not slash or not (set(".:") & set(domain) or domain == "localhost"):
            domain, path = _HUB, text
        if domain in _HUB_NAMES:
            domain = _HUB
            path = path if "/" in path else f"library/{path}"
        if not _DOMAIN.fullmatch(domain):
            raise InvalidReference(text, f"{domain!r} is no HOST[:PORT]")
        if not _PATH.fullmatch(path) or len(path) > _LONGEST_NAME:
            reason = f"{path!r} is no repository (lower-case letters, digits and . _ - between)"
            raise InvalidReference(text, reason)
        return cls(domain, path)

    @property
    def endpoint(self) -> str:
        """The ``HOST[:PORT]`` that answers for it."""
        return _HUB_ENDPOINT if self.domain == _HUB else self.domain

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}"


@dataclass(frozen=True, slots=True)
class Image:
    """An image, by tag, by digest, or by both (then the digest decides what it is).

    Attributes:
        repository: where it is.
        tag: its tag, if one was given.
        digest: its digest, if one was given.
    """

    repository: Repository
    tag: str | None
    digest: Digest | None

    @classmethod
    def parse(cls, text: str) -> Image:
        """The image that ``text`` names; neither tag nor digest means the tag ``latest``.

        Raises:
            InvalidReference: it names none.
        """
        rest, at, wanted = text.partition("@")
        digest = None
        if at:
            try:
                digest = Digest.parse(wanted)
            except InvalidDigest as error:
                raise InvalidReference(text, error.reason) from None
        # A colon before the last slash belongs to a port.
        head, slash, last = rest.rpartition("/")
        last, colon, tag = last.partition(":")
        repository = Repository.parse(head + slash + last)
        if colon:
            parse_tag(tag)
        elif digest is None:
            tag = "latest"
        return cls(repository, tag or None, digest)

    @property
    def object(self) -> str:
        """What to ask the registry for: the digest, else the tag."""
        return str(self.digest) if self.digest is not None else str(self.tag)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.repository}{tag}{digest}"


def parse_tag(text: str) -> str:
    """``text``, which is a tag.

    Raises:
        InvalidReference: it is none.
    """
    if not _TAG.fullmatch(text):
        raise InvalidReference(text, "a tag has letters, digits and . _ - and 128 of them at most")
    return text


def is_loopback(domain: str) -> bool:
    """Whether ``HOST[:PORT]`` is this machine itself, which is spoken to without TLS."""
    host = domain.rpartition(":")[0] if re.search(r":[0-9]+$", domain) else domain
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
