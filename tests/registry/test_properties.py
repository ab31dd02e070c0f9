"""Whatever a registry sends, parsing it ends well or in an error of ours."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from store.dist.registry.challenge import parse_challenges
from store.dist.registry.errors import InvalidReference, Unsound
from store.dist.registry.media import parse_manifest
from store.dist.registry.reference import Image
from store.dist.registry.retry import retry_after
from tests.registry.samples import DOCKER, OCI

TYPES = st.sampled_from([*OCI.values(), *DOCKER.values(), "", "x"])
KEYS = st.sampled_from(
    ["mediaType", "manifests", "layers", "config", "digest", "size", "platform", "os",
     "architecture", "variant", "schemaVersion"],
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-1, 2) | st.text(max_size=5) | TYPES
DOCUMENTS = st.recursive(
    LEAVES | st.just(f"sha256:{'a' * 64}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)


@given(DOCUMENTS.map(lambda document: json.dumps(document).encode()) | st.binary(), TYPES)
def test_manifests(data: bytes, said: str) -> None:
    """Any bytes are a manifest or `Unsound`."""
    with contextlib.suppress(Unsound):
        parse_manifest(data, said or None, "sha256")


@given(st.lists(st.text(alphabet='Bearsic realm="\\,', max_size=40) | st.text(max_size=20)))
def test_challenges(headers: list[str]) -> None:
    """Any headers are challenges, perhaps none."""
    parse_challenges(headers)


@given(st.text(alphabet="aZ0.:/@-_[]", max_size=30) | st.text(max_size=20))
def test_images(text: str) -> None:
    """Any text is an image, which is written as it is read, or `InvalidReference`."""
    with contextlib.suppress(InvalidReference):
        image = Image.parse(text)
        assert Image.parse(str(image)) == image


@given(st.text(max_size=40) | st.text(alphabet="0123456789:GMT ,-", max_size=40))
def test_retry_after(text: str) -> None:
    """Any Retry-After asks for some time that is not negative, or for none."""
    seconds = retry_after(text)

    assert seconds is None or seconds >= 0
