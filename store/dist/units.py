"""Sizes and times as people write them: out as go-units does, in as Go's tools take them."""

from __future__ import annotations

from argparse import ArgumentTypeError

__all__ = ["age", "duration", "human_duration", "human_size", "size"]

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PREFIXES = "kmgtpe"
_NUMBER = frozenset("0123456789.")
_LONGEST = 30  # digits of a number that may mean something
_MAX_BYTES = 2**63 - 1

_KILO, _MINUTE, _HOUR = 1000, 60, 3600

# go-units: below how many hours a duration is told in which unit of how many hours.
_LONG = ((48, 1, "hours"), (336, 24, "days"), (1440, 168, "weeks"), (17520, 720, "months"))
_YEAR = 8760


def human_size(size: float) -> str:
    """``size`` bytes with four significant digits in powers of 1000, as go-units' HumanSize."""
    unit = 0
    while size >= _KILO and unit < len(_DECIMAL) - 1:
        size /= _KILO
        unit += 1
    return f"{size:.4g}{_DECIMAL[unit]}"


def human_duration(seconds: float) -> str:
    """``seconds`` in one unit, as go-units' HumanDuration: ``3 minutes``, ``About an hour``."""
    whole = int(seconds)
    minutes, hours = whole // _MINUTE, int(seconds / _HOUR + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < _MINUTE:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < _MINUTE:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, unit, name in _LONG:
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{whole // _HOUR // _YEAR} years"


def age(then_ns: int, now_ns: int) -> str:
    """How long ago ``then_ns`` was at ``now_ns``, both in nanoseconds since the epoch."""
    return human_duration((now_ns - then_ns) / 1e9)


def duration(text: str) -> float:
    """The seconds that ``text`` spells: ``30s``, ``1h30m``, ``500ms``, ``7d``, or plain ``30``.

    Raises:
        argparse.ArgumentTypeError: it is nothing of the kind.
    """
    total, rest = 0.0, text
    while rest:
        number, rest = _number(rest)
        unit = _unit(rest) or ("s" if text == number else "")
        rest = rest.removeprefix(unit)
        if number is None or unit not in _SECONDS:
            break
        total += float(number) * _SECONDS[unit]
        if not rest:
            return total
    raise ArgumentTypeError(f"{text!r} is no time; write 30s, 10m, 24h, 7d or 1h30m")


def _number(text: str) -> tuple[str | None, str]:
    """The decimal number that ``text`` begins with (None: with none), and what follows it."""
    length = next((i for i, c in enumerate(text) if c not in _NUMBER), len(text))
    number = text[:length]
    if number.count(".") > 1 or not number.strip(".") or length > _LONGEST:
        return None, text
    return number, text[length:]


def _unit(text: str) -> str:
    length = next((i for i, c in enumerate(text) if c in _NUMBER), len(text))
    return text[:length]


def size(text: str) -> int:
    """The bytes that ``text`` spells: ``4096``, ``50M`` or ``50MB`` (10**6), ``50MiB`` (2**20).

    Raises:
        argparse.ArgumentTypeError: it is nothing of the kind, or more than a file can hold.
    """
    number, unit = _number(text)
    factor = _factor(unit.lower())
    if number is None or factor is None:
        raise ArgumentTypeError(f"{text!r} is no size; write 4096, 512k, 50M or 1.5GiB")
    found = int(number) * factor if number.isdecimal() else int(float(number) * factor)
    if found > _MAX_BYTES:
        raise ArgumentTypeError(f"{text!r} is more than a file can hold")
    return found


def _factor(unit: str) -> int | None:
    """How many bytes one ``unit`` is; None for what is no unit."""
    prefix, tail = unit[:1], unit[1:]
    if unit in {"", "b"}:
        return 1
    if prefix not in _PREFIXES or tail not in {"", "b", "i", "ib"}:
        return None
    base = 1024 if tail.startswith("i") else _KILO
    return int(base ** (_PREFIXES.index(prefix) + 1))
