"""The long runs: ``tests/soak/run [NAME…] [--write FILE]``.

Each prints its name, then its numbers; with ``--write`` they are put into a file of JSON as well.
The exit status is 1 if anything that must hold did not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from _pytest.outcomes import Skipped

from tests.soak import runs

_RUNS: Final[dict[str, Callable[[Path, int], runs.Outcome]]] = {
    "kills": runs.kills,
    "ends": runs.ends,
    "crowd": runs.crowd,
    "memory": runs.memory,
    "fuzz": runs.fuzz,
    "power-ext4": runs.power("ext4"),
    "power-xfs": runs.power("xfs"),
    "power-btrfs": runs.power("btrfs"),
    "fsyncs": runs.fsyncs,
}


def main() -> int:
    """Run what is asked for, one after another, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="tests/soak/run", description="Run the long runs, all of them if none is named."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_RUNS))
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where chance begins")
    parser.add_argument("--write", metavar="FILE", type=Path, help="put the numbers there too")
    parser.add_argument("--work", metavar="DIR", help="work in there, not where the system says")
    words = parser.parse_args()
    if unknown := set(words.names) - set(_RUNS):
        parser.error(f"no such run: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        parser.error("these runs need root")
    good = True
    for name in words.names or _RUNS:
        numbers = _run(name, words.seed, words.work)
        good = good and not numbers["faults"]
        if words.write is not None:
            _write(words.write, name, numbers)
    return 0 if good else 1


def _run(name: str, seed: int, work: str | None) -> dict[str, Any]:
    print(f"== {name}, seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=work))
    begun = time.monotonic()
    try:
        outcome = _RUNS[name](folder, seed)
    except Skipped as reason:
        outcome = runs.Outcome({"skipped": str(reason)}, [])
    numbers = {
        **outcome.numbers,
        "faults": len(outcome.faults),
        "first faults": outcome.faults[:5],
        "seconds": round(time.monotonic() - begun),
        "seed": seed,
        "day": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    print(json.dumps(numbers, indent=1, ensure_ascii=False), flush=True)
    if outcome.faults:
        print(f"what it leaves lies in {folder}", flush=True)
    else:
        shutil.rmtree(folder)
    return numbers


def _write(path: Path, name: str, numbers: dict[str, Any]) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, name: numbers}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
