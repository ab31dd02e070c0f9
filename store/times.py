"""Points in time as the store writes them: RFC 3339 in UTC, held as nanoseconds since the epoch."""

from __future__ import annotations

import time

__all__ = ["parse", "rfc3339"]

_SECOND = 1_000_000_000


def rfc3339(ns: int) -> str:
    """``ns`` (nanoseconds since the epoch) as ``2026-01-02T03:04:05.000000006Z``."""
    seconds, fraction = divmod(ns, _SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"


def parse(text: str) -> int | None:
    """The nanoseconds since the epoch that an RFC 3339 time with an offset means, else None.

    Go writes as many digits of the fraction as it needs, so any number up to nine is taken.
    """
    # Imported here because only readers of other people's times need it, and `dist list` does not.
    from datetime import UTC, datetime  # noqa: PLC0415

    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    try:
        moment = datetime.fromisoformat(whole + rest[len(digits) :])
        offset_known = moment.tzinfo is not None
        seconds = int(moment.astimezone(UTC).timestamp()) if offset_known else 0
    except (ValueError, OverflowError):
        return None
    if not offset_known or "T" not in whole.upper() or (dot and not digits):
        return None
    return seconds * _SECOND + int(digits[:9].ljust(9, "0") or "0")
