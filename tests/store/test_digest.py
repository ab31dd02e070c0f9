"""Digests: the grammar, and that what exists is valid."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import pickle

import pytest
from hypothesis import given

from store import Digest, InvalidDigest, UnsupportedAlgorithm, algorithms
from store.digest import KNOWN, hex_length, new_hash
from tests.strategies import almost_digests, contents, digests, sha256

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        f":{HEX}",
        f"sha256:{HEX[1:]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX} ",
        f" sha256:{HEX}",
        f"sha256:{HEX}\n",
        f"sha256:\0{HEX[1:]}",
        f"sha256::{HEX[1:]}",
        f"SHA256:{HEX}",
        f"sha512:{HEX}",
        "sha256:../../" + HEX[6:],
        f"sha 256:{HEX}",
        f"sha256:{HEX[:-1]}٣",
    ],
)
def test_malformed(text: str) -> None:
    """What is not <algorithm>:<lower-case hex of the right length> is no digest."""
    with pytest.raises(InvalidDigest, match="invalid digest"):
        Digest.parse(text)


@pytest.mark.parametrize("text", [f"md5:{HEX[:32]}", f"sha1:{HEX[:40]}", "x+y.z_1-2:ABC="])
def test_unknown_algorithms(text: str) -> None:
    """A digest in an algorithm that is not here is refused as that, naming those that are."""
    with pytest.raises(UnsupportedAlgorithm, match="sha256"):
        Digest.parse(text)


@given(almost_digests)
def test_any_text(text: str) -> None:
    """Any text is a digest that prints as the text, or InvalidDigest."""
    with contextlib.suppress(InvalidDigest):
        digest = Digest.parse(text)
        assert str(digest) == text
        assert set(digest.hex) <= set("0123456789abcdef")


@given(digests)
def test_a_digest_is_its_text(digest: Digest) -> None:
    """Parsing, pickling and copying give an equal digest, and order is that of the text."""
    for twin in (Digest.parse(str(digest)), pickle.loads(pickle.dumps(digest)), copy.copy(digest)):
        assert (twin, hash(twin)) == (digest, hash(digest))
    assert digest != str(digest)
    assert str(digest) in repr(digest)


@given(contents)
def test_of_some_bytes(content: bytes) -> None:
    """The digest of bytes is what hashlib says, in each algorithm."""
    assert Digest.of(content) == sha256(content)
    for name in ("sha384", "sha512"):
        assert Digest.of(content, name).hex == hashlib.new(name, content).hexdigest()
    assert Digest.of(content).of_nothing == (content == b"")


def test_algorithms() -> None:
    """Every algorithm that is available gives digests of its length, the canonical one first."""
    assert algorithms()[0] == "sha256"
    assert set(algorithms()) <= KNOWN
    for name in algorithms():
        assert len(new_hash(name).hexdigest()) == hex_length(name)


def test_unavailable_algorithms() -> None:
    """To ask for the hash or the length of another algorithm is an error."""
    with pytest.raises(UnsupportedAlgorithm):
        new_hash("md5")
    with pytest.raises(UnsupportedAlgorithm):
        hex_length("md5")


def test_blake3() -> None:
    """With its extra installed blake3 is an algorithm like the others."""
    pytest.importorskip("blake3")

    assert str(Digest.of(b"", "blake3")) == (
        "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    )


def test_immutable() -> None:
    """A digest cannot be changed."""
    digest = sha256(b"")
    with pytest.raises(AttributeError, match="immutable"):
        digest.hex = HEX
