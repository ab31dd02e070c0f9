"""``dist delete``: blobs out of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store import Digest, Store
from store.dist import output
from store.dist.arguments import add_digests, add_json, each, expand

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist delete`` takes."""
    parser.description = """\
Delete blobs, and print the digest of each that was deleted.  Programs that have one open read it
to the end."""
    parser.epilog = """\
examples:
  dist delete sha256:6ca1…
  dist list -q sha256:6c | xargs -r dist delete
  dist list -q | dist delete -                    the same for all of them, however many
"""
    add_digests(parser)
    add_json(parser, "digest")


def run(options: Namespace, root: str) -> int:
    """Delete each blob; one that is not there fails by itself."""
    store = Store(root)

    def delete(word: str) -> None:
        digest = Digest.parse(word)
        store.delete(digest)
        if options.json:
            output.write_json([{"digest": str(digest)}])
        else:
            output.write(f"{digest}\n".encode())
        output.flush()  # what is printed is true even if we are killed at the next one

    return each(expand(options.digests), delete)
