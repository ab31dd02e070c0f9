"""Digests: ``<algorithm>:<lower-case hex>``, parsed once and valid ever after.

The grammar is the OCI image specification's (``descriptor.md#digests``)::

    digest    ::= algorithm ":" encoded
    algorithm ::= component (separator component)*
    component ::= [a-z0-9]+
    separator ::= [+._-]
    encoded   ::= [a-zA-Z0-9=_-]+

narrowed to the registered algorithms, whose encoded part is lower-case hex of a fixed length.
sha384 is not registered by OCI but is by go-digest, from which containerd takes its own.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from store.errors import InvalidDigest, UnsupportedAlgorithm

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

__all__ = ["CANONICAL", "KNOWN", "Digest", "Hash", "algorithms", "hex_length", "new_hash"]

CANONICAL = "sha256"

_HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128, "blake3": 64}
KNOWN = frozenset(_HEX_LENGTHS)
"""The algorithms of which blobs may lie on disk, whether they can be computed here or not."""

_HEX_DIGITS = frozenset("0123456789abcdef")
_ALGORITHM_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789+._-")


class Hash(Protocol):
    """What hashlib and blake3 objects share."""

    def update(self, data: Buffer, /) -> object:
        """Feed ``data``."""

    def hexdigest(self) -> str:
        """The digest of all that was fed, in lower-case hex."""

    def copy(self) -> Hash:
        """An independent hash in the same state."""


def algorithms() -> tuple[str, ...]:
    """The algorithms that can be computed here, the canonical one first."""
    return tuple(name for name in _HEX_LENGTHS if _available(name))


@cache
def _available(algorithm: str) -> bool:
    if algorithm == "blake3":
        return find_spec("blake3") is not None
    return algorithm in _HEX_LENGTHS


def hex_length(algorithm: str) -> int:
    """How many hex digits a digest has.

    Raises:
        UnsupportedAlgorithm: the algorithm is not available here.
    """
    length = _HEX_LENGTHS.get(algorithm)
    if length is None or not _available(algorithm):
        raise UnsupportedAlgorithm(algorithm, _unsupported())
    return length


def new_hash(algorithm: str) -> Hash:
    """A fresh hash object.

    Args:
        algorithm: one of `algorithms`.

    Raises:
        UnsupportedAlgorithm: it is not available here.
    """
    if algorithm == "blake3" and _available(algorithm):
        from blake3 import blake3  # noqa: PLC0415 - an extra that need not be installed

        return blake3()  # type: ignore[no-any-return,unused-ignore]
    if algorithm in _HEX_LENGTHS and algorithm != "blake3":
        # 3 ms for OpenSSL, which a command that only lists must not pay.
        import hashlib  # noqa: PLC0415

        return hashlib.new(algorithm)
    raise UnsupportedAlgorithm(algorithm, _unsupported())


def _unsupported() -> str:
    return f"the algorithm is not available here (there are {', '.join(algorithms())})"


class Digest:
    """The name of a blob.  Immutable, hashable, ordered as its text is.

    A `Digest` that exists is well formed, so its parts are safe in a path.

    Attributes:
        algorithm: for instance ``sha256``.
        hex: the lower-case hex.
    """

    __slots__ = ("algorithm", "hex")

    algorithm: str
    hex: str

    def __init__(self, algorithm: str, hex: str) -> None:  # noqa: A002 - the field's own name
        """Check both parts.

        Raises:
            InvalidDigest: they do not form a digest.
            UnsupportedAlgorithm: they might, in an algorithm that is not available here.
        """
        length = _HEX_LENGTHS.get(algorithm)
        if length is None or not _available(algorithm):
            raise _unknown_algorithm(algorithm, hex)
        if len(hex) != length or not _HEX_DIGITS.issuperset(hex):
            reason = f"{algorithm} takes {length} lower-case hex digits"
            raise InvalidDigest(f"{algorithm}:{hex}", reason)
        object.__setattr__(self, "algorithm", algorithm)
        object.__setattr__(self, "hex", hex)

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest that ``text`` spells.

        Raises:
            InvalidDigest: it is not of the form ``<algorithm>:<lower-case hex>``.
            UnsupportedAlgorithm: it is, in an algorithm that is not available here.
        """
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise InvalidDigest(text, "it has the form <algorithm>:<hex>")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: Buffer, algorithm: str = CANONICAL) -> Digest:
        """The digest of ``data``, in memory."""
        running = new_hash(algorithm)
        running.update(data)
        return cls(algorithm, running.hexdigest())

    @property
    def of_nothing(self) -> bool:
        """Whether this is the digest of zero bytes."""
        return new_hash(self.algorithm).hexdigest() == self.hex

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Digest is immutable: cannot set {name}")

    def __reduce__(self) -> tuple[type[Digest], tuple[str, str]]:
        return type(self), (self.algorithm, self.hex)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    def __repr__(self) -> str:
        return f"Digest({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Digest):
            return NotImplemented
        return self.hex == other.hex and self.algorithm == other.algorithm

    def __lt__(self, other: Digest) -> bool:
        return (self.algorithm, self.hex) < (other.algorithm, other.hex)

    def __hash__(self) -> int:
        return hash(self.hex)


def _unknown_algorithm(algorithm: str, encoded: str) -> InvalidDigest:
    text = f"{algorithm}:{encoded}"
    if not algorithm or not _ALGORITHM_CHARACTERS.issuperset(algorithm) or not encoded:
        return InvalidDigest(text, "it has the form <algorithm>:<hex>")
    return UnsupportedAlgorithm(text, _unsupported())
