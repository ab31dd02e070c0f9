"""What several commands take alike: many things of which each may fail, and --json."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from store.dist import output
from store.errors import StoreError

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

__all__ = ["add_digests", "add_json", "each", "expand"]


def add_json(parser: ArgumentParser, keys: str) -> None:
    """Add ``--json``, whose objects have ``keys`` (for its help)."""
    parser.add_argument(
        "--json", action="store_true", help=f"print JSON Lines, one object a result: {keys}"
    )


def add_digests(parser: ArgumentParser) -> None:
    """Add ``DIGEST…``, of which ``-`` stands for those on standard input; see `expand`."""
    parser.add_argument(
        "digests", metavar="DIGEST", nargs="+", help="a digest; - reads them from standard input"
    )


def expand(words: Iterable[str]) -> Iterator[str]:
    """``words``, with the words on standard input in the place of each ``-``.

    Raises:
        Failed: standard input cannot be read.
    """
    for word in words:
        if word != "-":
            yield word
        elif sys.stdin is None:
            raise output.Failed("standard input: closed")
        else:
            yield from _words(sys.stdin.buffer)


def _words(lines: BinaryIO) -> Iterator[str]:
    try:
        for line in lines:
            yield from line.decode(errors="surrogateescape").split()
    except OSError as error:
        raise output.Failed(f"standard input: {error.strerror}") from None


def each(things: Iterable[str], do: Callable[[str], None]) -> int:
    """``do`` each of ``things``, complain of those that fail, and go on.

    Returns:
        The exit code: 1 if any failed, else 0.
    """
    failed = False
    for thing in things:
        try:
            do(thing)
        except (StoreError, OSError) as error:
            output.complain(error)
            failed = True
    return int(failed)
