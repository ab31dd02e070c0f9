"""``dist prune``: abandoned ingests out of the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from store import Store, StoreError
from store.dist import output
from store.dist.arguments import add_json
from store.dist.units import age, duration, human_size
from store.prune import Abandoned, abandoned, drop
from store.times import rfc3339

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist prune`` takes."""
    parser.description = """\
Drop the ingests that nobody holds and nobody has touched for a day, with what a crash has left
half made, and show what was dropped.  Never one that is being written, and never a blob.  On a
store that a running containerd uses, see to it that it is not in the middle of a long pull: its
locks are in its memory."""
    parser.epilog = """\
examples:
  dist prune --dry-run              what would go
  dist prune --older-than 1h30m     times are as 30s, 10m, 24h, 7d
"""
    parser.add_argument(
        "--older-than",
        metavar="TIME",
        type=duration,
        default="24h",
        help="how long nobody must have touched it (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be dropped")
    add_json(parser, "ref, folder, size, updatedAt")


def run(options: Namespace, root: str) -> int:
    """Drop what is abandoned; one that cannot be dropped fails by itself."""
    store = Store(root, read_only=options.dry_run)
    now = time.time_ns()
    dropped: list[Abandoned] = []
    failed = False
    for found in abandoned(store, now - int(options.older_than * 1e9)):
        try:
            if options.dry_run or drop(store, found):
                dropped.append(found)
        except StoreError as error:
            output.complain(error)
            failed = True
        except OSError as error:
            output.complain(f"ingest/{found.folder}: {error.strerror}")
            failed = True
    if options.json:
        output.write_json(map(_as_json, dropped))
    else:
        output.write_table(("REF", "SIZE", "AGE"), [_row(found, now) for found in dropped])
    freed = human_size(sum(found.size for found in dropped))
    verb = "would free" if options.dry_run else "freed"
    output.note(f"{verb} {freed} in {len(dropped)} ingest{'s' * (len(dropped) != 1)}")
    return int(failed)


def _row(found: Abandoned, now: int) -> tuple[str, str, str]:
    name = f"ingest/{found.folder}" if found.ref is None else found.ref.text
    return name, human_size(found.size), age(found.touched_ns, now)


def _as_json(found: Abandoned) -> dict[str, object]:
    return {
        "ref": None if found.ref is None else found.ref.text,
        "folder": found.folder,
        "size": found.size,
        "updatedAt": rfc3339(found.touched_ns),
    }
