"""What a run found, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from tests.bench.model import Goal, Kind, Results, in_words

_BEGIN: Final = "<!-- results -->"
_END: Final = "<!-- end of results -->"
_HEAD: Final = ("row", "measured", "to reach", "reached", "")


def goals_of(results: Results, *, on_disk: bool) -> Iterator[tuple[Goal, float | None]]:
    """The goals of a row that count on the file system, each with its figure."""
    for goal in results.row.goals:
        if on_disk or not goal.disk_only:
            yield goal, goal.figure(results)


def goal_table(every: Iterable[Results], *, on_disk: bool) -> str:
    """The goals and whether they are reached, as a Markdown table."""
    lines: list[Sequence[str]] = [_HEAD]
    for results in every:
        unit = results.row.unit
        for goal, figure in goals_of(results, on_disk=on_disk):
            place = in_words(goal.ours)
            if figure is None:
                lines.append((results.row.name, place, goal.text(unit), "-", "not measured"))
                continue
            suffix = f" {unit}" if goal.kind in {Kind.MORE, Kind.LIMIT} else " x"
            verdict = "reached" if goal.reached(figure) else "**not reached**"
            shown = f"{figure:.3g}{suffix}"
            lines.append((results.row.name, place, goal.text(unit), shown, verdict))
    return _table(lines)


def value_table(every: Iterable[Results]) -> str:
    """All medians with their spread, as a Markdown table."""
    lines: list[Sequence[str]] = [("row", "contender", "measure", "median", "from, to", "rounds")]
    for results in every:
        for (case, measure), values in results.values.items():
            median = results.median((case, measure))
            spread = f"{min(values):.3g} to {max(values):.3g}"
            shown = f"{median:.3g} {results.row.unit}"
            lines.append((results.row.name, case, measure, shown, spread, str(len(values))))
    return _table(lines)


def whole(
    every: Iterable[Results],
    machine: Mapping[str, str],
    notes: Sequence[str],
    *,
    on_disk: bool,
) -> str:
    """All of that as one text in Markdown, with what it ran on, and with what there is to note."""
    every = list(every)
    parts = [
        ", ".join(f"{name} {value}" for name, value in machine.items()) + ".",
        _table([("row", "work"), *((found.row.name, found.row.title) for found in every)]),
        goal_table(every, on_disk=on_disk),
        *notes,
        value_table(every),
    ]
    return "\n\n".join(parts)


def put_between_marks(text: str, results: str) -> str:
    """Put results into a text, in the place of those that its marks enclose.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"there is nothing between {_BEGIN} and {_END}")
    return f"{before}{begin}\n{results}\n{end}{after}"


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(c.ljust(w) for c, w in zip(cells, widths, strict=True))} |"

    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([row(lines[0]), rule, *map(row, lines[1:])])


def as_json(
    every: Iterable[Results],
    machine: Mapping[str, str],
    notes: Sequence[str],
    *,
    on_disk: bool,
) -> dict[str, object]:
    """Everything: the machine, each value of each round, each goal with its figure."""
    return {
        "machine": dict(machine),
        "notes": list(notes),
        "rows": {
            results.row.name: {
                "title": results.row.title,
                "unit": results.row.unit,
                "values": [
                    {"contender": case, "measure": measure, "rounds": list(values)}
                    for (case, measure), values in results.values.items()
                ],
                "goals": {
                    goal.key: {
                        "to_reach": goal.text(results.row.unit),
                        "figure": figure,
                        "reached": None if figure is None else goal.reached(figure),
                    }
                    for goal, figure in goals_of(results, on_disk=on_disk)
                },
            }
            for results in every
        },
    }
