"""``dist list``: the blobs of a store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from store import InvalidDigest, Store
from store.digest import algorithms
from store.dist import output
from store.dist.arguments import add_json, each
from store.dist.units import age, human_size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable

    from store import Info

_WIDTHS = (len("sha256:") + 64, len("1.234MB"))


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist list`` takes."""
    parser.description = "List the blobs of the store, or those whose digest begins with a PREFIX."
    parser.epilog = """\
examples:
  dist list                                    DIGEST, SIZE and AGE of every blob
  dist list sha256:01 sha256:02                of those that begin so
  dist list -q | xargs -r dist delete          empty the store
  dist list --json | jq -s 'map(.size) | add'  how many bytes it holds
"""
    parser.add_argument("prefixes", metavar="PREFIX", nargs="*", help="as sha256:01")
    parser.add_argument("-q", "--quiet", action="store_true", help="print digests alone")
    add_json(parser, "digest, size, createdAt")


def run(options: Namespace, root: str) -> int:
    """List the store in ``root``; a prefix that can begin no digest fails by itself."""
    store = Store(root, read_only=True)
    prefixes: list[str] = []
    code = each(options.prefixes, lambda prefix: prefixes.append(_checked(prefix)))
    if not options.prefixes:
        prefixes = [""]
    prefixes = _outermost(prefixes)
    if options.quiet and not options.json:
        for prefix in prefixes:
            for algorithm, names in store.blobs.names(prefix):
                head = f"{algorithm}:"
                output.write((head + f"\n{head}".join(names) + "\n").encode())
        return code
    infos = (info for prefix in prefixes for info in store.walk(prefix))
    if options.json:
        output.write_json(map(as_json, infos))
    else:
        now = time.time_ns()
        rows = ((str(i.digest), human_size(i.size), age(i.created_ns, now)) for i in infos)
        output.write_table(("DIGEST", "SIZE", "AGE"), rows, _WIDTHS)
    return code


def as_json(info: Info) -> dict[str, object]:
    """What ``--json`` prints of a blob."""
    from store.times import rfc3339  # noqa: PLC0415 - only --json needs it

    return {
        "digest": str(info.digest),
        "size": info.size,
        "createdAt": rfc3339(info.created_ns),
    }


def _checked(prefix: str) -> str:
    algorithm, colon, encoded = prefix.partition(":")
    known = algorithms()
    begins = algorithm in known if colon else any(name.startswith(algorithm) for name in known)
    if not begins or not set("0123456789abcdef").issuperset(encoded):
        raise InvalidDigest(prefix, f"a PREFIX is as {known[0]}:01")
    return prefix


def _outermost(prefixes: Iterable[str]) -> list[str]:
    """``prefixes`` in order, without those that another one covers."""
    kept: list[str] = []
    for prefix in sorted(prefixes):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept
