"""Sizes and times as people write them."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.dist.units import age, duration, human_duration, human_size, size

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1024, "1.024kB"),
        (4194304, "4.194MB"),
        (1000000, "1MB"),
        (123456789, "123.5MB"),
        (999999, "1000kB"),
        (2**30, "1.074GB"),
        (3.42 * 10**12, "3.42TB"),
        (2**63 - 1, "9.223EB"),
        (10**27, "1000YB"),
    ],
)
def test_human_size(bytes_: float, text: str) -> None:
    """A size has four significant digits and go-units' decimal unit."""
    assert text == human_size(bytes_)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second"),
        (0.45, "Less than a second"),
        (1, "1 second"),
        (1.9, "1 second"),
        (45, "45 seconds"),
        (59.9, "59 seconds"),
        (MINUTE, "About a minute"),
        (119, "About a minute"),
        (3 * MINUTE, "3 minutes"),
        (59 * MINUTE + 59, "59 minutes"),
        (HOUR, "About an hour"),
        (HOUR + 29 * MINUTE, "About an hour"),
        (HOUR + 30 * MINUTE, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (2 * 7 * DAY, "2 weeks"),
        (8 * 7 * DAY, "8 weeks"),
        (2 * 30 * DAY, "2 months"),
        (23 * 30 * DAY, "23 months"),
        (2 * 365 * DAY, "2 years"),
        (10 * 365 * DAY, "10 years"),
    ],
)
def test_human_duration(seconds: float, text: str) -> None:
    """A duration is told in the one unit that go-units chooses, rounded as it rounds."""
    assert text == human_duration(seconds)


def test_age() -> None:
    """An age is the duration between two times in nanoseconds."""
    assert "3 minutes" == age(10**9, 181 * 10**9)  # noqa: SIM300 - expected first, as elsewhere


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("24h", DAY),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("7d", 7 * DAY),
        ("2w", 14 * DAY),
        ("30", 30),
        ("0", 0),
        (".5", 0.5),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    """A time is a sum of numbers with units; one number alone is seconds."""
    assert seconds == duration(text)


@pytest.mark.parametrize(
    "text",
    ["", "s", "30x", "-1s", "1h30", "1 h", "1h 30m", "1..5s", "inf", "nan", "1e3", "٣s", "9" * 400],
)
def test_no_duration(text: str) -> None:
    """What is no time is refused in a line that shows it and an example."""
    with pytest.raises(ArgumentTypeError, match="write 30s"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("512k", 512_000),
        ("50M", 50_000_000),
        ("50MB", 50_000_000),
        ("50MiB", 50 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("1g", 10**9),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_size(text: str, bytes_: int) -> None:
    """A size is a number and a unit, of which those with an i are binary."""
    assert bytes_ == size(text)


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "1.2.3", "5 M", "5X", "5MX", "5Bi", "0x10", "1_000", "٣", "9" * 5000]
)
def test_no_size(text: str) -> None:
    """What is no size is refused in a line that shows it and an example."""
    with pytest.raises(ArgumentTypeError, match="write 4096"):
        size(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "10E"])
def test_too_large(text: str) -> None:
    """A size that no file can have is refused."""
    with pytest.raises(ArgumentTypeError, match="more than a file"):
        size(text)


@given(st.one_of(st.text(), st.text(alphabet="0123456789.smhdwkMGiB", max_size=40)))
def test_any_text(text: str) -> None:
    """Any text at all is either taken as something finite and not negative, or refused."""
    for parse in (duration, size):
        try:
            found = parse(text)
        except ArgumentTypeError:
            continue
        assert 0 <= found < float("inf")
