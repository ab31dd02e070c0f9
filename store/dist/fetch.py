"""``dist fetch``: one object of a registry on standard output."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from store.digest import Digest, new_hash
from store.dist import output
from store.dist.registry.errors import Absent, Corrupt, Refused, Unsound
from store.dist.registry.media import ACCEPTED, is_manifest_type, is_schema_1
from store.dist.registry.reference import Repository, parse_tag
from store.dist.remote import Work, add_connection, add_mirror, connect

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator, Sequence

    from store.dist.registry.source import Source

    Write = Callable[[bytes | memoryview], object]

_HINT = "mediatype:"


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist fetch`` takes."""
    parser.description = """\
Write one object of a registry to standard output: a manifest, a config or a layer.  What is asked
for by digest is verified; when it is something else, the exit status is 1 and the message names
both digests, whatever came out before.  The store is not touched."""
    parser.epilog = """\
examples:
  dist fetch docker.io/library/redis latest
  dist fetch docker.io/library/redis latest mediatype:application/vnd.oci.image.index.v1+json
  dist fetch localhost:5000/app sha256:6ca1… | tar -tz
  dist fetch localhost:5000/app sha256:6ca1… | dist ingest --expected-digest sha256:6ca1…
  dist fetch localhost:5000/app v1 | jq -r '.layers[].digest' |
    xargs -P10 -I{} sh -c 'dist fetch localhost:5000/app {} | dist ingest --expected-digest {}'
"""
    parser.add_argument("remote", metavar="REMOTE", help="HOST[:PORT]/REPOSITORY")
    parser.add_argument("object", metavar="OBJECT", help="a tag or a digest")
    parser.add_argument(
        "hints",
        metavar="HINT",
        nargs="*",
        help="mediatype:TYPE, what it should be; several in the order of preference",
    )
    parser.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        default="-",
        help="write there instead, and only what is whole and right (default: -, standard output)",
    )
    add_mirror(parser)
    add_connection(parser)


def run(options: Namespace, root: str) -> int:
    """Fetch; the store in ``root`` is not touched."""
    del root
    types = [_hinted(hint) for hint in options.hints]
    repository = Repository.parse(options.remote)
    wanted = Digest.parse(options.object) if ":" in options.object else None
    if wanted is None:
        parse_tag(options.object)
    work = Work(1)
    with connect(options, work) as client, _opened(options.output) as write:
        source = client.source(repository)
        work.one(lambda: _fetch(source, options.object, wanted, types, write))
    return 0


def _hinted(hint: str) -> str:
    if not hint.startswith(_HINT) or hint == _HINT:
        raise output.UsageError(f"fetch: {hint!r} is no hint; they have the form {_HINT}TYPE")
    return hint.removeprefix(_HINT)


@contextmanager
def _opened(path: str) -> Iterator[Write]:
    """Standard output, or a file that gets its name when the block has gone well."""
    if path == "-":
        yield lambda data: output.write(bytes(data))
        return
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:
            yield device.write
        return
    folder, name = os.path.split(os.path.realpath(path))
    begun = os.path.join(folder, f".{name}.{os.getpid()}")
    try:
        with open(begun, "xb") as file:
            yield file.write
        os.replace(begun, os.path.join(folder, name))
    except BaseException:
        os.unlink(begun)
        raise


def _fetch(
    source: Source, name: str, wanted: Digest | None, types: Sequence[str], write: Write
) -> None:
    """Ask at the one endpoint, then at the other, as the hints and then the name suggest."""
    if wanted is None:  # only manifests have tags
        _fetch_manifest(source, name, types, write)
        return
    refusal: Refused | None = None
    if any(map(is_manifest_type, types)):
        try:
            _fetch_manifest(source, name, types, write, retry=False)
        except Refused as error:
            refusal = error  # docker-registry says 500, and no 404, to a layer's digest
        else:
            return
    try:
        _fetch_blob(source, wanted, write)
    except Absent as absent:
        if isinstance(refusal, Absent):
            raise absent from None
        try:
            _fetch_manifest(source, name, types, write)
        except Absent:
            raise absent from None


def _fetch_manifest(
    source: Source, name: str, types: Sequence[str], write: Write, *, retry: bool = True
) -> None:
    hinted = tuple(filter(is_manifest_type, types))
    try:
        data, media_type = source.manifest(name, hinted or ACCEPTED, retry=retry)
    except Absent:
        # A registry says so too of what it has in a type that it was not asked for.
        if not hinted:
            raise
        data, media_type = source.manifest(name, retry=retry)
    if hinted and media_type not in hinted:
        output.note(f"{source.repository} {name} is of the type {media_type}, not of that hinted")
    if is_schema_1(media_type) and media_type not in hinted:
        raise Unsound(f"{source.repository} {name}", "the registry has it as schema 1 only")
    write(data)


def _fetch_blob(source: Source, digest: Digest, write: Write) -> None:
    passing = _Passing(digest.algorithm, write)
    source.first(lambda session: source.download(session, digest, None, passing))
    found = passing.digest()
    if found != digest:
        raise Corrupt(f"blob {digest}", f"expected {digest}, found {found}")


class _Passing:
    """Passes bytes on and hashes them.

    Attributes:
        offset: how many there were.
    """

    def __init__(self, algorithm: str, write: Write) -> None:
        self.offset = 0
        self._algorithm = algorithm
        self._hash = new_hash(algorithm)
        self._write = write

    def write(self, data: memoryview) -> None:
        self._hash.update(data)
        self._write(data)
        self.offset += len(data)

    def digest(self) -> Digest:
        return Digest(self._algorithm, self._hash.hexdigest())
