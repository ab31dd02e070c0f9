"""The committed figures, and whether a run falls behind them.

What is compared is how contentfs stands to its peers in the same run, never a time by itself: that
would be a statement about the machine. A figure that has no peer counts by its goal alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Final

from tests.bench.model import Goal, Kind, Results
from tests.bench.report import goals_of

PATH: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "baseline.json")

_TOLERANCE: Final = 1.2

_Figures = dict[str, dict[str, float]]


def save(every: Iterable[Results], file_system: str) -> None:
    """Take the figures of a run for the ones to compare with; those it did not measure stay."""
    known = _load()
    figures = known.setdefault(file_system, {})
    for results in every:
        for goal, figure in goals_of(results, on_disk=file_system != "tmpfs"):
            if figure is not None:
                figures.setdefault(results.row.name, {})[goal.key] = float(f"{figure:.3g}")
    with open(PATH, "w", encoding="utf-8") as file:
        json.dump(known, file, indent=1, sort_keys=True)
        file.write("\n")


def regressions(every: Iterable[Results], file_system: str) -> Iterator[str]:
    """Tell of each figure that is more than 20 % worse than the committed one.

    Args:
        every: what a run found.
        file_system: its type; each has figures of its own.
    """
    known = _load().get(file_system)
    if known is None:
        yield f"no figures are committed for {file_system}"
        return
    for results in every:
        before = known.get(results.row.name, {})
        for goal, figure in goals_of(results, on_disk=file_system != "tmpfs"):
            if goal.key not in before:
                continue
            text = f"{results.row.name}, {goal.text(results.row.unit)}: {before[goal.key]:.3g}"
            if figure is None:
                yield f"{text} before, not measured now"
            elif _worse(goal, figure, before[goal.key]):
                yield f"{text} before, {figure:.3g} now"


def _worse(goal: Goal, now: float, before: float) -> bool:
    if goal.kind is Kind.TIMES:
        return now > before * _TOLERANCE
    if goal.kind is Kind.FASTER:
        return now < before / _TOLERANCE
    return goal.reached(before) and not goal.reached(now)


def _load() -> dict[str, _Figures]:
    if not os.path.exists(PATH):
        return {}
    with open(PATH, encoding="utf-8") as file:
        loaded: dict[str, _Figures] = json.load(file)
    return loaded
