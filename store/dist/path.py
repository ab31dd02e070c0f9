"""``dist path``: where blobs are on disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from store import Digest, Store
from store.dist import output
from store.dist.arguments import add_digests, add_json, each, expand

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist path`` takes."""
    parser.description = """\
Show where blobs are on disk, as absolute paths, for programs that read them there.  The files
are read-only; to remove one use dist delete."""
    parser.epilog = """\
examples:
  tar -tf "$(dist path -q sha256:6ca1…)"
  dist list -q | dist path -q - | xargs -d '\\n' ls -l
"""
    add_digests(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print paths alone")
    add_json(parser, "digest, path")


def run(options: Namespace, root: str) -> int:
    """Show each path; a blob that is not there fails by itself."""
    store = Store(root, read_only=True)

    def show(word: str) -> None:
        digest = Digest.parse(word)
        path = store.path(digest)
        if options.json:
            output.write_json([{"digest": str(digest), "path": path}])
        else:
            lead = b"" if options.quiet else f"{digest} ".encode()
            output.write(lead + os.fsencode(path) + b"\n")

    return each(expand(options.digests), show)
