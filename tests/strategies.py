"""What tests draw from: bytes and how they come, digests and refs good and bad."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st

from store import Digest

__all__ = [
    "almost_digests",
    "almost_refs",
    "almost_times",
    "contents",
    "digests",
    "pieces",
    "refs",
    "sha256",
]


def sha256(content: bytes) -> Digest:
    """The digest of ``content``, by hashlib alone."""
    return Digest("sha256", hashlib.sha256(content).hexdigest())


contents = st.binary(max_size=300)
"""Small contents; what depends on sizes draws `pieces`."""

pieces = st.lists(
    st.one_of(
        st.binary(max_size=64),
        st.builds(
            lambda seed, size: bytes([seed]) * size,
            st.integers(0, 255),
            st.sampled_from([4095, 4096, 16384, 16385, 65536, 131072, 1 << 20, (1 << 20) + 1]),
        ),
    ),
    max_size=6,
)
"""Contents in parts, of the sizes at which the hashing changes its way."""

_algorithm = st.sampled_from(["sha256", "sha384", "sha512"])

digests = st.builds(lambda name, data: Digest.of(data, name), _algorithm, contents)

refs = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
"""Texts of which every one is a ref."""

almost_refs = st.one_of(
    st.text(max_size=300),
    st.text(st.sampled_from("%25F2E/.\0a\ud800é"), max_size=12),
    st.just(""),
)
"""Texts, some of them refs."""

almost_digests = st.one_of(
    st.text(max_size=90),
    st.from_regex(r"\A[a-z0-9+._-]{0,10}:[0-9a-fA-F=_-]{0,130}\Z"),
    st.builds(str, digests).map(lambda text: text[:-1]),
    st.builds(str, digests).map(str.upper),
    st.builds(
        lambda name, text: f"{name}:{text}", _algorithm, st.text("0123456789abcdef/.", max_size=70)
    ),
    st.builds(str, digests),
)
"""Texts, some of them digests."""

almost_times = st.one_of(
    st.text(max_size=40),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.from_regex(r"\A\d{1,5}-\d\d?-\d\d?[Tt ]\d\d?:\d\d?:\d\d?(\.\d{0,12})?(Z|[+-]\d\d:\d\d)?\Z"),
    st.text(st.sampled_from("0123456789-:.TZ+,W "), max_size=40),
)
"""Texts, some of them times."""
