"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from tests.bench import machine, report
from tests.bench.lab import Lab
from tests.bench.model import Row, Wrong
from tests.bench.rows import (
    appends,
    ingest,
    latency,
    listing,
    memory,
    reading,
    small,
    starting,
)
from tests.bench.runner import run_rows

CHECKOUT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

#: Every row, by its name, in the order of a run.
ROWS: Final[dict[str, Row]] = {
    row.name: row
    for module in (ingest, small, appends, reading, listing, memory, latency, starting)
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
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    rows = [row for name, row in ROWS.items() if not words.only or name in words.only]
    try:
        with Lab(words.dir, quick=words.quick) as lab:
            about = machine.describe(lab.folder)
            results = run_rows(lab, rows, words.rounds)
    except Wrong as error:
        sys.stderr.write(f"tests/bench/run: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    on_disk = about["file system"] != "tmpfs"
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print(f"\n{report.value_table(results)}\n\n{report.goal_table(results, on_disk=on_disk)}")
    if words.json:
        with open(words.json, "w", encoding="utf-8") as file:
            json.dump(report.as_json(results, about, on_disk=on_disk), file, indent=1)
    return 0


def _parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("--dir", default=CHECKOUT, help="the folder to measure in")
    parser.add_argument("--only", metavar="ROW", nargs="+", choices=ROWS, help="these rows alone")
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds (5)")
    parser.add_argument("--quick", action="store_true", help="less work, rough figures")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--json", metavar="FILE", help="write every value into a file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
