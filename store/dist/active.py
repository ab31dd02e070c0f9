"""``dist active``: the ingests in progress."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from store import Store
from store.dist import output
from store.dist.arguments import add_json
from store.dist.units import age, human_size
from store.times import rfc3339

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from store import Status


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist active`` takes."""
    parser.description = """\
Show the ingests in progress: those that are being written, and those that were left and wait to
be resumed (dist ingest REF), dropped (dist abort REF) or pruned (dist prune).  SIZE is what is
there so far, AGE since when."""
    parser.epilog = """\
examples:
  watch -n0.2 dist active                       see ingests grow
  dist active 'layer-*'                         those whose ref matches
  dist active --json | jq 'select(.locked)'     those that somebody is writing right now
"""
    parser.add_argument("refs", metavar="REF", nargs="*", help="a ref or a shell pattern of refs")
    add_json(parser, "ref, offset, total, expected, startedAt, updatedAt, locked")


def run(options: Namespace, root: str) -> int:
    """Show the ingests of the store in ``root``, by ref."""
    patterns: list[str] = options.refs
    found = [
        status
        for status in Store(root, read_only=True).active()
        if not patterns or any(_matches(status.ref.text, pattern) for pattern in patterns)
    ]
    found.sort(key=lambda status: status.ref.text)
    if options.json:
        output.write_json(map(_as_json, found))
    else:
        now = time.time_ns()
        output.write_table(("REF", "SIZE", "AGE"), [_row(status, now) for status in found])
    return 0


def _matches(ref: str, pattern: str) -> bool:
    # A ref may hold the very characters that mean something in a pattern.
    return ref == pattern or fnmatchcase(ref, pattern)


def _row(status: Status, now: int) -> tuple[str, str, str]:
    started = "-" if status.started_ns is None else age(status.started_ns, now)
    return status.ref.text, human_size(status.offset), started


def _as_json(status: Status) -> dict[str, object]:
    return {
        "ref": status.ref.text,
        "offset": status.offset,
        "total": status.total,
        "expected": None if status.expected is None else str(status.expected),
        "startedAt": None if status.started_ns is None else rfc3339(status.started_ns),
        "updatedAt": rfc3339(status.updated_ns),
        "locked": status.locked,
    }
