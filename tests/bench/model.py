"""What is measured and what it is held against: rows, their cases and goals, the samples."""

from __future__ import annotations

import dataclasses
import enum
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.bench.lab import Lab


#: A case and one of its measures.
Place = tuple[str, str]

OURS: Final = "contentfs"


def in_words(place: Place) -> str:
    """A place as people read it."""
    return ", ".join(filter(None, place))


class Missing(Exception):
    """A peer is not here; the text says which, and why."""


class Wrong(Exception):
    """A contender did not do the work that was measured, so its time says nothing."""


class Kind(enum.Enum):
    """How a goal compares its two values, and so how its figure is to be read."""

    TIMES = "≤ {:g} x {}"
    FASTER = "≥ {:g} x as fast as {}"
    MORE = "≤ {:g} {unit} more than {}"
    LIMIT = "≤ {:g} {unit}"


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """A value to reach.

    Attributes:
        key: its name among the goals of its row, for the committed ratios.
        ours: the place of the value that is judged.
        kind: how it is judged.
        limit: the figure to reach.
        peer: the place of what it is compared with; none where the kind is `LIMIT`.
        disk_only: it is about the cost of a disk, and void on tmpfs.
    """

    key: str
    ours: Place
    kind: Kind
    limit: float
    peer: Place | None = None
    disk_only: bool = False

    def text(self, unit: str) -> str:
        """The goal in words, its values being in a unit."""
        where = in_words(self.peer) if self.peer else ""
        return self.kind.value.format(self.limit, where, unit=unit)

    def figure(self, results: Results) -> float | None:
        """What was reached, comparable with the limit; None where a value is missing."""
        ours = results.median(self.ours)
        peer = results.median(self.peer) if self.peer else None
        if ours is None or (self.peer and peer is None):
            return None
        if peer is None:
            return ours
        if self.kind is Kind.MORE:
            return ours - peer
        return ours / peer if self.kind is Kind.TIMES else peer / ours

    def reached(self, figure: float) -> bool:
        """Whether a figure is as good as the goal."""
        return figure >= self.limit if self.kind is Kind.FASTER else figure <= self.limit


def faster(key: str, ours: Place, limit: float, peer: Place, *, disk_only: bool = False) -> Goal:
    """Ours is to be at least ``limit`` times as fast as the peer."""
    return Goal(key, ours, Kind.FASTER, limit, peer, disk_only)


def times(key: str, ours: Place, limit: float, peer: Place, *, disk_only: bool = False) -> Goal:
    """Ours may take at most ``limit`` times what the peer takes."""
    return Goal(key, ours, Kind.TIMES, limit, peer, disk_only)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One contender at one piece of work.

    Attributes:
        name: who does it, and how where that differs.
        run: does it once; it prepares and cleans up outside the time that it reports, and raises
            `Wrong` where the work was not done. `Missing` leaves the case out of the run.
        at_most: the most rounds worth their time, for what is slow.
    """

    name: str
    run: Callable[[], Mapping[str, float]]
    at_most: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A piece of work that several contenders do in turn.

    Attributes:
        name: what `--only` takes.
        title: the work, in words.
        unit: of every value.
        cases: makes the cases for a run; what they share is prepared here.
        goals: what is to be reached.
    """

    name: str
    title: str
    unit: str
    cases: Callable[[Lab], Sequence[Case]]
    goals: Sequence[Goal]


class Results:
    """All samples of one row.

    Attributes:
        row: which.
        failed: whether a contender did something else than it should have.
    """

    def __init__(self, row: Row) -> None:
        """Begin with none."""
        self.row = row
        self.failed = False
        self._values: dict[Place, list[float]] = {}

    def add(self, case: str, sample: Mapping[str, float]) -> None:
        """Take in what one run of a case gave."""
        for measure, value in sample.items():
            self._values.setdefault((case, measure), []).append(value)

    @property
    def values(self) -> Mapping[Place, Sequence[float]]:
        """The values of each place, in the order of the rounds."""
        return self._values

    def median(self, place: Place) -> float | None:
        """The median of a place, None where it was not measured."""
        values = self._values.get(place)
        return statistics.median(values) if values else None
