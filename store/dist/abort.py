"""``dist abort``: ingests out of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store import Store
from store.dist.arguments import each

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist abort`` takes."""
    parser.description = """\
Drop ingests in progress, with the bytes that they hold.  One that is being written right now is
left alone, which is an error."""
    parser.epilog = """\
examples:
  dist abort layer-1
  dist active --json | jq -r .ref | xargs -r -d '\\n' dist abort --
  dist prune                             those that nobody has touched for a day
"""
    parser.add_argument("refs", metavar="REF", nargs="+", help="the ref of an ingest")


def run(options: Namespace, root: str) -> int:
    """Drop each ingest; one that is not there, or is held, fails by itself."""
    return each(options.refs, Store(root).abort)
