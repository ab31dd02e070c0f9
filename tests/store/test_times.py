"""Points in time, as the store writes them and as Go does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.times import parse, rfc3339
from tests.strategies import almost_times

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:01.5Z", 3 * SECOND // 2),
        ("1970-01-01T01:00:00.25+01:00", SECOND // 4),
        ("1969-12-31T23:59:59.75Z", -SECOND // 4),
        ("2017-06-09T15:04:05.999999999-07:00", 1497045845_999999999),
        ("2017-06-09T22:04:05.9999999999999Z", 1497045845_999999999),
    ],
)
def test_times(text: str, ns: int) -> None:
    """RFC 3339 with any number of digits and any offset is read to the nanosecond."""
    assert parse(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2017-06-09",
        "2017-06-09T15:04:05",
        "2017-06-09 15:04:05Z",
        "2017-06-09T15:04:05.Z",
        "2017-06-09T25:04:05Z",
        "2017-13-09T15:04:05Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "2017-06-09T15:04:05.5",
        "2017.5-06-09T15:04:05Z",
    ],
)
def test_what_is_no_time(text: str) -> None:
    """A time that is malformed, or has no offset, is none."""
    assert parse(text) is None


@given(st.integers(0, 253402300799 * SECOND))
def test_back_and_forth(ns: int) -> None:
    """What is written is read as the same nanosecond."""
    assert parse(rfc3339(ns)) == ns


@given(almost_times)
def test_any_text(text: str) -> None:
    """Any text is a time or none; nothing is raised."""
    assert isinstance(parse(text), int | None)
