"""Rows in order, and in each the cases in turn, round by round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.bench.lab import Lab, say
from tests.bench.model import Case, Missing, Results, Row, Wrong


def run_rows(lab: Lab, rows: Iterable[Row], rounds: int) -> list[Results]:
    """Measure rows.

    Args:
        lab: where.
        rows: which.
        rounds: how many times each case runs; those that are slow run less. One that is missing,
            or does not do its work, runs no more, and is noted in the lab.
    """
    return [_run_row(lab, row, rounds) for row in rows]


def _run_row(lab: Lab, row: Row, rounds: int) -> Results:
    say(f"{row.name}: {row.title}")
    results = Results(row)
    cases = list(row.cases(lab))
    for number in range(rounds):
        for case in _rotated(cases, number):
            if case.at_most is not None and number >= case.at_most:
                continue
            try:
                sample = case.run()
            except (Missing, Wrong) as error:
                # The others are still worth knowing.
                lab.note(f"{row.name}: {case.name} is left out: {error}")
                results.failed |= isinstance(error, Wrong)
                cases.remove(case)
                continue
            results.add(case.name, sample)
            values = "  ".join(f"{name} {value:.4g}".strip() for name, value in sample.items())
            say(f"  round {number + 1}  {case.name}: {values} {row.unit}")
    return results


def _rotated(cases: Sequence[Case], number: int) -> list[Case]:
    """Each round begins with another case, so that none always follows the same one."""
    start = number % max(1, len(cases))
    return [*cases[start:], *cases[:start]]
