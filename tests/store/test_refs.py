"""Refs and their file names."""

from __future__ import annotations

import contextlib
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import InvalidRef, Ref, RefTooLong
from tests.strategies import almost_refs, refs, sha256


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("layer", b"layer"),
        ("a/b", b"a%2Fb"),
        ("100%", b"100%25"),
        ("%2F", b"%252F"),
        ("%25/", b"%2525%2F"),
        (".", b"%2E"),
        ("..", b"%2E%2E"),
        ("...", b"..."),
        (".a", b".a"),
        ("é", b"\xc3\xa9"),
        ("x" * 255, b"x" * 255),
    ],
)
def test_file_names(text: str, name: bytes) -> None:
    """A ref's file name has % as %25, / as %2F and a lone dot or two escaped; and it leads back."""
    assert Ref(text).file_name == name
    assert Ref.from_file_name(name) == Ref(text)


@pytest.mark.parametrize(
    "name",
    [b"", b".", b"..", b"%", b"a%", b"%2f", b"%2E%2", b"%41", b"a/b", b"a\0b", b"\xff", b"%2E."],
)
def test_what_is_no_file_name(name: bytes) -> None:
    """A name in any other form is refused."""
    with pytest.raises(InvalidRef):
        Ref.from_file_name(name)


@pytest.mark.parametrize("text", ["x" * 256, "/" * 86, "%" * 86, "é" * 128])
def test_too_long(text: str) -> None:
    """A ref whose file name has more than 255 bytes is refused as that, from either side."""
    with pytest.raises(RefTooLong, match="255"):
        Ref(text)
    with pytest.raises(RefTooLong, match="255"):
        Ref.from_file_name(text.replace("%", "%25").replace("/", "%2F").encode())


@pytest.mark.parametrize("text", ["", "a\0", "\ud800"])
def test_what_is_no_ref(text: str) -> None:
    """Nothing, a NUL, and what is not UTF-8 are refused."""
    with pytest.raises(InvalidRef, match="invalid ref"):
        Ref(text)


@given(refs)
def test_file_names_are_one_to_one(text: str) -> None:
    """Every ref has a file name without a slash, from which it comes back."""
    ref = Ref(text)

    assert b"/" not in ref.file_name
    assert ref.file_name not in (b".", b"..")
    assert Ref.from_file_name(ref.file_name) == ref
    assert (pickle.loads(pickle.dumps(ref)), hash(ref)) == (ref, hash(Ref(text)))


@given(almost_refs)
def test_any_text(text: str) -> None:
    """Any text is a ref, or InvalidRef."""
    with contextlib.suppress(InvalidRef):
        assert str(Ref(text)) == text


@given(
    st.one_of(
        st.binary(max_size=300), almost_refs.map(lambda t: os.fsencode(t) if t.isascii() else b"")
    )
)
def test_any_name(name: bytes) -> None:
    """Any bytes are the one file name of a ref, or InvalidRef."""
    with contextlib.suppress(InvalidRef):
        assert Ref.from_file_name(name).file_name == name


@pytest.mark.parametrize("form", ["{}", "a@{}", "a@b@{}", "docker.io/library/redis:latest@{}"])
def test_implied_digests(form: str) -> None:
    """A ref that is a digest, or ends in @ and one, names it."""
    digest = sha256(b"x")

    assert Ref(form.format(digest)).implied_digest == digest


@pytest.mark.parametrize("form", ["{}x", "x{}", "{}@", "{}@x", "@", "@md5:00", "a:{}"])
def test_no_implied_digest(form: str) -> None:
    """Any other ref names none."""
    assert Ref(form.format(sha256(b"x"))).implied_digest is None


def test_immutable() -> None:
    """A ref cannot be changed, is not its text, and prints as both."""
    ref = Ref("a")
    with pytest.raises(AttributeError, match="immutable"):
        ref.text = "b"
    assert ref != "a"
    assert (str(ref), repr(ref)) == ("a", "Ref('a')")
