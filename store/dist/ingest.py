"""``dist ingest``: standard input into the store."""

from __future__ import annotations

import os
import stat
import sys
import time
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from store import Busy, Digest, Invalid, Rejected, Store
from store.dist import output
from store.dist.arguments import add_json
from store.dist.list import as_json
from store.dist.progress import Progress
from store.dist.units import duration
from store.ingest import parse_size

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from store import Writer

_CHUNK = 1024 * 1024
_PATIENCE = 0.25  # seconds between two looks whether the holder of a ref has brought the content


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist ingest`` takes."""
    parser.description = """\
Take standard input into the store, verify it, and print its digest.  Until all of it is there and
verified nothing shows among the blobs.  When it is cut short (^C, kill, power), the bytes that
came so far are kept under REF: give the same input again, and it goes on where it stopped."""
    parser.epilog = """\
examples:
  dist ingest layer-1 < layer.tar
  dist ingest --expected-digest sha256:6ca1… < layer.tar    the ref is sha256-6ca1…
  curl -L URL | dist ingest --expected-digest sha256:6ca1… --expected-size 4194304 layer-1
  dist ingest --restart layer-1 < other.tar                 forget the bytes that are there
"""
    parser.add_argument(
        "ref",
        metavar="REF",
        nargs="?",
        help="what to call the ingest while it lasts (default: the expected digest, : as -)",
    )
    parser.add_argument(
        "--expected-digest",
        metavar="D",
        type=_digest,
        help="refuse anything else; when D is in the store already, leave the input unread",
    )
    parser.add_argument(
        "--expected-size", metavar="N", type=_size, help="refuse any other number of bytes"
    )
    parser.add_argument(
        "--restart", action="store_true", help="drop the bytes that REF holds instead of going on"
    )
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=duration,
        help="how long to wait for another process that holds REF, as 30s (default: as it takes)",
    )
    add_json(parser, "digest, size, createdAt")


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except Invalid as error:
        raise ArgumentTypeError(str(error)) from None


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except Invalid as error:
        raise ArgumentTypeError(str(error)) from None


def run(options: Namespace, root: str) -> int:
    """Ingest, unless the expected content is there or comes by another process meanwhile."""
    expected: Digest | None = options.expected_digest
    ref: str | None = options.ref
    if ref is None:
        if expected is None:
            raise output.UsageError("ingest: give a REF or --expected-digest (or both)")
        ref = str(expected).replace(":", "-")
    if sys.stdin is None:
        raise output.Failed("standard input: closed")
    store = Store(root)
    writer = _begin(store, ref, options)
    if writer is None:
        output.note(f"{expected} is in the store already")
        digest = expected
    else:
        with writer:
            digest = _ingest(writer, options)
    if digest is None:
        return 1
    if options.json:
        output.write_json([as_json(store.info(digest))])
    else:
        output.write(f"{digest}\n".encode())
    return 0


def _begin(store: Store, ref: str, options: Namespace) -> Writer | None:
    """The writer of ``ref``, waited for; None when the expected content is there."""
    expected: Digest | None = options.expected_digest
    until = None if options.timeout is None else time.monotonic() + options.timeout
    while expected is None or not store.exists(expected):
        patience = _PATIENCE if until is None else min(_PATIENCE, until - time.monotonic())
        try:
            writer = store.writer(
                ref, size=options.expected_size, expected=expected, timeout=max(patience, 0)
            )
        except Busy:
            if until is not None and time.monotonic() >= until:
                raise
            continue
        # Whoever held the ref until now may have brought the content just before.
        if expected is not None and store.exists(expected) and writer.offset == 0:
            writer.abort()
            break
        return writer
    return None


def _ingest(writer: Writer, options: Namespace) -> Digest | None:
    """Take in the rest of the input and commit; None when what there is was refused."""
    if options.restart:
        writer.truncate(0)
    source = sys.stdin.fileno()
    length = _length(source)
    _skip(source, writer, length)
    progress = Progress(
        writer.ref.text, length if writer.total is None else writer.total, writer.offset
    )
    try:
        _copy(source, writer, progress)
    finally:
        progress.close()
    try:
        return writer.commit()
    except Rejected as error:
        way_out = "the bytes are kept; --restart starts over, dist abort drops them"
        output.complain(f"{error}; {way_out}")
        return None


def _length(source: int) -> int | None:
    """How many bytes are left of the input, where that is known: in a regular file."""
    found = os.fstat(source)
    if not stat.S_ISREG(found.st_mode):
        return None
    return max(found.st_size - os.lseek(source, 0, os.SEEK_CUR), 0)


def _skip(source: int, writer: Writer, length: int | None) -> None:
    """Pass over the bytes of the input that the ingest holds."""
    held = writer.offset
    if length is not None and length >= held:
        os.lseek(source, held, os.SEEK_CUR)
        return
    passed = 0 if length is None else length
    if length is None:
        buffer = bytearray(_CHUNK)
        while passed < held:
            count = _read(source, memoryview(buffer)[: held - passed])
            if not count:
                break
            passed += count
    if passed < held:
        short = f"holds {held} bytes, but the input has only {passed}"
        raise output.Failed(f"ingest {writer.ref}: {short}; --restart starts over")


def _copy(source: int, writer: Writer, progress: Progress) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    while count := _read(source, buffer):
        writer.write(buffer[:count])
        progress.update(writer.offset)


def _read(source: int, buffer: memoryview) -> int:
    # Not through sys.stdin: where the input is set to non-blocking, that takes "nothing yet" for
    # the end, and the ingest would be committed short.
    try:
        return os.readv(source, [buffer])
    except OSError as error:
        raise output.Failed(f"standard input: {error.strerror}") from None
