"""The picture of a run: for each piece of work a bar for each contender, shorter being better.

It is written as SVG by hand. That is text, so that a change of it can be read, and it needs no
library of a hundred megabytes for rectangles and words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

from tests.bench.model import OURS, Place, Results

_SVG: Final = "http://www.w3.org/2000/svg"
_WIDTH: Final = 900
_LEFT: Final = 230  # where bars begin
_LONGEST: Final = 520
_BAR: Final = 14
_STEP: Final = 19
_TITLE: Final = 30
_MARGIN: Final = 20

_COLOURS: Final = {True: "#1f6feb", False: "#b6bec9"}
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#24292f}.t{font-weight:bold}.s{fill:#57606a}"
    "line{stroke:#24292f;stroke-width:1}"
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Group:
    title: str
    unit: str
    bars: Sequence[tuple[str, Sequence[float], float]]  # whose, each round's value, the median


def picture(every: Iterable[Results], machine: Mapping[str, str]) -> str:
    """Draw the medians of a run, with their spread.

    Args:
        every: what it found; the measures that goals are about are shown.
        machine: on what it ran.
    """
    shapes: list[str] = []
    below = _MARGIN + _STEP
    about = ", ".join(f"{name} {machine[name]}" for name in ("kernel", "file system", "cores"))
    shapes.append(
        _text(_MARGIN, below, f"contentfs and its peers; shorter is better ({about})", "s")
    )
    for group in (group for results in every for group in _groups(results)):
        below += _TITLE
        shapes.append(_text(_MARGIN, below, group.title, "t"))
        longest = max(max(values) for _, values, _ in group.bars)
        for name, values, median in group.bars:
            below += _STEP
            shapes.extend(_bar(below, name, values, median, longest, group.unit))
    height = below + _MARGIN
    size = f'width="{_WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="{_SVG}" {size} viewBox="0 0 {_WIDTH} {height}">',
            f"<style>{_STYLE}</style>",
            f'<rect {size} fill="#ffffff"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def _groups(results: Results) -> Iterator[_Group]:
    """The contenders that share a measure, or are compared by a goal, together."""
    row = results.row
    measures = dict.fromkeys(goal.ours[1] for goal in row.goals)
    for measure in measures:
        peers = [goal.peer for goal in row.goals if goal.ours[1] == measure and goal.peer]
        places: dict[Place, None] = dict.fromkeys(
            [*(place for place in results.values if place[1] == measure), *peers]
        )
        bars = [
            (case if other == measure else ", ".join(filter(None, (case, other))), values, median)
            for case, other in places
            if (values := results.values.get((case, other)))
            and (median := results.median((case, other))) is not None
        ]
        if bars:
            yield _Group(f"{row.title}: {measure}".rstrip(": "), row.unit, bars)


def _bar(
    below: int, name: str, values: Sequence[float], median: float, longest: float, unit: str
) -> Iterator[str]:
    least, median_end, most = (
        _LEFT + _LONGEST * value / longest for value in (min(values), median, max(values))
    )
    ours = name.startswith((OURS, "dist "))
    yield _text(_LEFT - 8, below, name, "s", anchor="end")
    yield (
        f'<rect x="{_LEFT}" y="{below - _BAR + 3}" width="{max(1.0, median_end - _LEFT):.1f}"'
        f' height="{_BAR}" fill="{_COLOURS[ours]}"/>'
    )
    middle = below + 3 - _BAR / 2
    yield f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{middle}" y2="{middle}"/>'
    yield _text(int(max(most, median_end)) + 6, below, f"{median:.3g} {unit}", "s")


def _text(left: int, below: int, text: str, kind: str, *, anchor: str = "start") -> str:
    place = f'x="{left}" y="{below}" text-anchor="{anchor}" class="{kind}"'
    return f"<text {place}>{escape(text)}</text>"
