"""``dist verify``: is the store still what it says?"""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

from store import Digest, NotFound, Store, StoreError
from store.dist import output
from store.dist.arguments import add_json, each, expand
from store.dist.checkpoint import Checkpoint, Place
from store.dist.progress import Progress
from store.dist.units import human_size, size
from store.fsck import Oddity, oddities
from store.verify import Checked, Verifier, quarantine

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Iterator

_MOST_THREADS = 256
_KEYS = ("digest", "ref", "path", "problem", "expected", "found", "quarantined")


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist verify`` takes."""
    parser.description = """\
Hash every blob again, or the DIGESTs that are named, and show each whose bytes are not what its
name says.  Without DIGEST the ingests and the layout of the store's folder are looked over too.
Exit status 1 when anything is wrong.  Changes nothing unless told to --quarantine, so it works on
a containerd content root and on a read-only disk."""
    parser.epilog = """\
examples:
  dist verify
  dist verify --rate 50M --resume       gently, and on from where ^C or a crash stopped the last one
  dist verify --quarantine              move what is corrupt to ROOT/quarantine: reading it fails
                                        at once, and the next ingest of its digest brings it anew
  dist list -q sha256:0 | dist verify -
"""
    parser.add_argument(
        "digests", metavar="DIGEST", nargs="*", help="a digest; - reads them from standard input"
    )
    parser.add_argument(
        "-j",
        metavar="N",
        dest="threads",
        type=_count,
        default=len(os.sched_getaffinity(0)),
        help="how many blobs to hash at a time (default: one a processor, %(default)s)",
    )
    parser.add_argument(
        "--rate", metavar="SIZE", type=_rate, help="read at most so many bytes a second, as 50M"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the last one that was cut short stopped"
    )
    parser.add_argument(
        "--quarantine", action="store_true", help="move corrupt blobs out of the way"
    )
    add_json(parser, ", ".join(_KEYS))


def _count(text: str) -> int:
    if text not in map(str, range(1, _MOST_THREADS + 1)):
        raise ArgumentTypeError(f"{text!r} is no number of threads from 1 to {_MOST_THREADS}")
    return int(text)


def _rate(text: str) -> int:
    rate = size(text)
    if rate == 0:
        raise ArgumentTypeError("at a rate of 0 nothing would ever be read")
    return rate


def run(options: Namespace, root: str) -> int:
    """Verify all or some of the store in ``root``; each thing that is wrong is a result."""
    if options.digests and options.resume:
        raise output.UsageError("verify: --resume is for a verification of everything")
    report = _Report(Store(root, read_only=not options.quarantine), options)
    failed = _some(report, options) if options.digests else _all(report, options, root)
    report.summary()
    return int(failed or report.wrong > 0)


def _some(report: _Report, options: Namespace) -> bool:
    """Verify those that are named; say whether one of them is no digest, or is not there."""
    wanted: list[Digest] = []
    failed = each(expand(options.digests), lambda word: wanted.append(Digest.parse(word))) > 0
    for checked in report.check(wanted):
        if isinstance(checked.error, NotFound):
            output.complain(checked.error)
            failed = True
        else:
            report.blob(checked)
    return failed


def _all(report: _Report, options: Namespace, root: str) -> bool:
    """Verify everything, from the place on where the last verification was cut short."""
    checkpoint = Checkpoint(root)
    place = checkpoint.load() if options.resume else None
    if place is not None:
        output.note(f"going on after {place.after}")
    again = [] if place is None else place.bad
    rest = (d for d in report.store.digests() if place is None or place.after < d)
    finished = False
    try:
        for number, checked in enumerate(report.check(chain(again, rest))):
            report.blob(checked)
            if number >= len(again):
                checkpoint.reached(Place(checked.digest, report.bad))
        for oddity in oddities(report.store):
            report.oddity(oddity)
        finished = True
    finally:
        if finished:
            checkpoint.clear()
        else:
            checkpoint.save()
    return False


class _Report:
    """What was found, as it is found.

    Attributes:
        store: the store.
        bad: the blobs among it that are not as they should be, and still in their place.
        wrong: how many things are wrong.
    """

    def __init__(self, store: Store, options: Namespace) -> None:
        self.store = store
        self.bad: list[Digest] = []
        self.wrong = 0
        self._options = options
        self._blobs = 0
        self._bytes = 0
        self._progress = Progress("verified", self._total() if Progress.visible() else None)

    def _total(self) -> int | None:
        if self._options.digests or self._options.resume:
            return None
        return sum(info.size for info in self.store.walk())

    def check(self, digests: Iterable[Digest]) -> Iterator[Checked]:
        """Hash the blobs again, with a line on the terminal that says how far it is."""
        verifier = Verifier(
            self.store,
            threads=self._options.threads,
            rate=self._options.rate,
            watch=self._watch,
        )
        try:
            with closing(verifier.check(digests)) as results:
                yield from results
        finally:
            self._progress.close()

    def _watch(self, done: int) -> None:
        self._bytes = done
        self._progress.update(done)

    def blob(self, checked: Checked) -> None:
        """Count a blob, and show it if it is not as it should be."""
        if isinstance(checked.error, NotFound):
            return  # deleted meanwhile
        self._blobs += 1
        if checked.error is None and not checked.corrupt:
            return
        moved = checked.corrupt and self._options.quarantine and self._moved(checked)
        if not moved:
            self.bad.append(checked.digest)
        problem = "corrupt" if checked.error is None else f"cannot be read: {checked.error}"
        self._show(
            f"{checked.digest}: {problem}"
            + (f": expected {checked.digest}, found {checked.found}" if checked.found else "")
            + ("; moved to quarantine" if moved else ""),
            digest=str(checked.digest),
            problem=problem,
            expected=str(checked.digest),
            found=None if checked.found is None else str(checked.found),
            quarantined=moved,
        )

    def _moved(self, checked: Checked) -> bool:
        try:
            return quarantine(self.store, checked)
        except (StoreError, OSError) as error:
            output.complain(error)
            return False

    def oddity(self, oddity: Oddity) -> None:
        """Show something that is wrong with the layout or an ingest."""
        where = oddity.path if oddity.ref is None else f"ingest {oddity.ref} ({oddity.path})"
        self._show(
            f"{where}: {oddity.problem}",
            ref=None if oddity.ref is None else oddity.ref.text,
            path=oddity.path,
            problem=oddity.problem,
        )

    def _show(self, line: str, **facts: object) -> None:
        self.wrong += 1
        self._progress.close()
        if self._options.json:
            output.write_json([{key: facts.get(key) for key in _KEYS}])
        else:
            output.write_text(output.one_line(line) + "\n")
        output.flush()

    def summary(self) -> None:
        """Say what was done."""
        blobs = f"{self._blobs} blob{'s' * (self._blobs != 1)}"
        verdict = f"{self.wrong} wrong" if self.wrong else "nothing wrong"
        output.note(f"verified {blobs}, {human_size(self._bytes)}: {verdict}")
