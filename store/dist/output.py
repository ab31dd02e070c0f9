"""What ``dist`` writes: results on standard output, complaints on standard error.

Results are bytes, so that a path that is no valid text comes out as it is.  What others chose
(a ref, a message with a name in it) is made to stay on its line and in the terminal's encoding.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "Failed",
    "StdoutClosed",
    "UsageError",
    "complain",
    "flush",
    "note",
    "one_line",
    "write",
    "write_json",
    "write_table",
    "write_text",
    "writing",
]


class UsageError(Exception):
    """The command line makes no sense; exit 2."""


class StdoutClosed(Exception):
    """Whoever read standard output is gone; the command ends quietly."""


class Failed(Exception):
    """The command as a whole cannot go on, for instance because its output cannot be written.

    No `OSError`, which a command would take for the failure of one of many things.
    """


_pending = bytearray()
_PIECE = 64 * 1024  # handed over at once; what a pipe holds


def write(data: bytes) -> None:
    """Write ``data`` to standard output, buffered.

    Raises:
        StdoutClosed: nobody reads it any more.
        Failed: it cannot be written.
    """
    _pending.extend(data)
    if len(_pending) >= _PIECE:
        flush()


def flush() -> None:
    """Hand over what `write` still holds back.

    Raises:
        StdoutClosed: nobody reads it any more.
        Failed: it cannot be written.
    """
    if not _pending:
        return
    rest = memoryview(bytes(_pending))
    _pending.clear()
    with writing() as stdout:
        while rest:
            rest = rest[os.write(stdout, rest) :]


@contextmanager
def writing() -> Iterator[int]:
    """The descriptor of standard output, for writing in the block that this guards.

    Raises:
        StdoutClosed: the block met a reader that is gone.
        Failed: the block met another `OSError`, or there is no standard output.
    """
    # A closed descriptor 1 may be any file of ours by now; Python looked when it started.
    if sys.stdout is None:
        raise Failed("standard output: closed")
    try:
        yield sys.stdout.fileno()
    except BrokenPipeError:
        raise StdoutClosed from None
    except OSError as error:
        raise Failed(f"standard output: {error.strerror}") from None


def write_text(text: str) -> None:
    """Write ``text`` in the encoding of standard output, what it lacks spelled out."""
    write(_encoded(text))


def _encoded(text: str) -> bytes:
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    return text.encode(encoding, "backslashreplace")


def one_line(text: str) -> str:
    """``text`` with every control character, line break and the like spelled out.

    A plain space and every printable character stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def write_json(objects: Iterable[Mapping[str, object]]) -> None:
    """Write each of ``objects`` as one line of ASCII JSON (JSON Lines), at once."""
    import json  # noqa: PLC0415 - 7 ms that only --json costs

    encode = json.JSONEncoder(separators=(", ", ": ")).encode
    for each in objects:
        write(encode(each).encode() + b"\n")


def write_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int] = ()
) -> None:
    """Write ``rows`` as columns that are aligned with spaces; nothing at all when there are none.

    Args:
        header: the names of the columns.
        rows: their cells; `one_line` is applied to each.
        widths: where given, the least width of each column but the last, and rows are written
            as they come; else every row is awaited, and the widest cell sets the width.
    """
    if widths:
        lines: Iterator[Sequence[str]] = iter(rows)
        least = list(widths)
    else:
        kept = [[one_line(cell) for cell in row] for row in rows]
        lines = iter(kept)
        least = [max(map(_width, column)) for column in zip(header, *kept, strict=True)][:-1]
    first = next(lines, None)
    if first is None:
        return
    for row in (header, first):
        write_text(_aligned(row, least))
    for row in lines:
        write_text(_aligned(row, least))


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [one_line(cell) for cell in row]
    padded = [
        cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=False)
    ]
    return "   ".join([*padded, cells[-1]]) + "\n"


def _width(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - only names such as these

    return sum(0 if combining(c) else 2 if east_asian_width(c) in {"W", "F"} else 1 for c in text)


def complain(problem: Exception | str) -> None:
    """Say on standard error, as one line ``dist: …``, what went wrong."""
    note(_told(problem))


def _told(problem: Exception | str) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        where = problem.filename
        if isinstance(where, bytes):
            where = os.fsdecode(where)
        return f"{where}: {problem.strerror}" if where is not None else problem.strerror
    return str(problem)


def note(message: str) -> None:
    """Say something on standard error, as one line ``dist: …``; a closed one hears nothing."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"dist: {one_line(message)}\n")
        sys.stderr.flush()
    except OSError:
        return
