"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from tests.bench import baseline, machine, plot, report
from tests.bench.lab import Lab
from tests.bench.model import Results, Row
from tests.bench.rows import (
    appends,
    ingest,
    latency,
    listing,
    memory,
    native,
    reading,
    small,
    starting,
)
from tests.bench.runner import run_rows

CHECKOUT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

#: Every row, by its name, in the order of a run.
ROWS: Final[dict[str, Row]] = {
    row.name: row
    for module in (ingest, small, appends, reading, listing, memory, latency, starting, native)
    for row in module.ROWS
}


def main() -> int:
    """Run the benchmark; the exit status."""
    words = _parse()
    if words.list:
        sys.stdout.writelines(f"{row.name:14}{row.title}\n" for row in ROWS.values())
        return 0
    if os.geteuid() != 0:
        sys.stderr.write("tests/bench/run: needs root, to drop caches and to mount its peers\n")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):  # whatever we inherited: we have to clean up
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    rows = [row for name, row in ROWS.items() if not words.only or name in words.only]
    with Lab(words.dir, quick=words.quick) as lab:
        about = machine.describe(lab.folder)
        if machine.is_busy():
            lab.note("Other programs were at work on this machine; run it again when they are not.")
        results = run_rows(lab, rows, words.rounds)
        if machine.commit() != about["contentfs"]:
            lab.note("The code was changed meanwhile: these are not figures of one contentfs.")
    _tell(results, about, lab.notes)
    _write(words, results, about, lab.notes)
    worse = list(baseline.regressions(results, about["file system"])) if words.check else []
    for line in worse:
        print(f"worse than committed: {line}")
    return int(bool(worse) or any(result.failed for result in results))


def _tell(results: Sequence[Results], about: Mapping[str, str], notes: Sequence[str]) -> None:
    on_disk = about["file system"] != "tmpfs"
    print(report.whole(results, about, notes, on_disk=on_disk))


def _write(
    words: argparse.Namespace,
    results: Sequence[Results],
    about: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Write the files that were asked for."""
    on_disk = about["file system"] != "tmpfs"
    if words.json:
        with open(words.json, "w", encoding="utf-8") as file:
            json.dump(report.as_json(results, about, notes, on_disk=on_disk), file, indent=1)
    if words.plot:
        with open(words.plot, "w", encoding="utf-8") as file:
            file.write(plot.picture(results, about))
    if words.docs:
        with open(words.docs, "r+", encoding="utf-8") as file:
            found = report.whole(results, about, notes, on_disk=on_disk)
            text = report.put_between_marks(file.read(), found)
            file.seek(0)
            file.truncate()
            file.write(text)
    if words.save_baseline:
        baseline.save(results, about["file system"])


def _parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run",
        description="Measure contentfs, the bare folder and its peers in turn, in one run.",
    )
    add = parser.add_argument
    add("--dir", default=CHECKOUT, help="the folder to measure in (the checkout)")
    add("--only", metavar="ROW", nargs="+", choices=ROWS, help="these rows alone")
    add("--rounds", type=int, default=5, metavar="N", help="how many rounds (5)")
    add("--quick", action="store_true", help="less work: rough figures, not those of the goals")
    add("--list", action="store_true", help="name the rows, measure nothing")
    add("--json", metavar="FILE", help="write every value into a file")
    add("--plot", metavar="FILE.svg", help="draw the medians")
    add("--docs", metavar="FILE.md", help="put the tables between the marks in a text")
    add("--check", action="store_true", help="fail if more than 20 %% worse than is committed")
    add("--save-baseline", action="store_true", help="commit to the figures of this run")
    words = parser.parse_args(arguments)
    if words.quick and (words.check or words.save_baseline):
        parser.error("a quick run has other figures than the committed ones")
    if words.rounds < 1:
        parser.error("--rounds: at least one")
    return words


if __name__ == "__main__":
    sys.exit(main())
