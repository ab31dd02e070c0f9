"""The benchmark's own arithmetic: goals, committed figures, tables, the picture.

What it measures is not run here: that takes minutes, and says something only on a quiet machine.
"""

from __future__ import annotations

import json
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench import baseline, plot, report
from tests.bench.__main__ import ROWS
from tests.bench.lab import Lab
from tests.bench.model import OURS, Case, Goal, Kind, Missing, Results, Row, Wrong, faster, times
from tests.bench.runner import run_rows

RUN = Path(__file__).resolve().parent / "bench" / "run"
MACHINE = {"kernel": "6.1", "file system": "ext4", "cores": "2"}
GOALS = (
    times("times", (OURS, ""), 2, ("peer", "")),
    faster("faster", (OURS, ""), 3, ("peer", "")),
    Goal("more", (OURS, ""), Kind.MORE, 5, ("peer", "")),
    Goal("limit", (OURS, ""), Kind.LIMIT, 10),
    times("disk", (OURS, ""), 1, ("peer", ""), disk_only=True),
)


def row_of(cases: Sequence[Case]) -> Row:
    """A row about nothing, with these cases."""
    return Row("nothing", "doing <nothing>", "s", lambda _: cases, GOALS)


def results_of(ours: Sequence[float], peer: Sequence[float]) -> Results:
    """The results of a row in which both gave these values."""
    results = Results(row_of(()))
    for value in ours:
        results.add(OURS, {"": value})
    for value in peer:
        results.add("peer", {"": value})
    return results


def test_figures_are_of_medians() -> None:
    """Each kind of goal compares the medians in its own way, and one wild round changes nothing."""
    results = results_of([4, 4, 400], [8, 8, 0.001])
    figures = {goal.key: goal.figure(results) for goal in GOALS}
    assert figures == {"times": 0.5, "faster": 2.0, "more": -4.0, "limit": 4.0, "disk": 0.5}
    reached = {goal.key for goal in GOALS if goal.reached(figures[goal.key] or 0.0)}
    assert reached == {"times", "more", "limit", "disk"}


def test_a_peer_that_was_not_measured_leaves_the_goal_open() -> None:
    """No figure is made up where one side is missing."""
    results = results_of([4], [])
    assert [goal.key for goal in GOALS if goal.figure(results) is not None] == ["limit"]
    assert "not measured" in report.goal_table([results], on_disk=True)


def test_goals_about_disks_are_void_in_memory() -> None:
    """On tmpfs a goal about the cost of a disk is neither reached nor missed."""
    kept = [goal.key for goal, _ in report.goals_of(results_of([1], [1]), on_disk=False)]
    assert kept == ["times", "faster", "more", "limit"]


@pytest.mark.parametrize(
    ("ours", "peer", "worse"),
    [
        (4.7, 4, 0),  # within a fifth
        (5, 4, 3),  # the two ratios, and that of disks
        (2, 1.9, 0),  # slower and faster together: the machine, not us
        (11, 11, 1),  # the ratios hold; the limit that was reached no longer is
    ],
)
def test_only_what_is_a_fifth_worse_is_a_regression(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ours: float, peer: float, worse: int
) -> None:
    """Ratios may get worse by a fifth; absolute values count by their goal alone."""
    monkeypatch.setattr(baseline, "PATH", str(tmp_path / "baseline.json"))
    baseline.save([results_of([4], [4])], "ext4")
    assert len(list(baseline.regressions([results_of([ours], [peer])], "ext4"))) == worse


def test_each_file_system_has_its_own_committed_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run on one for which nothing is committed cannot pass."""
    monkeypatch.setattr(baseline, "PATH", str(tmp_path / "baseline.json"))
    baseline.save([results_of([4], [4])], "ext4")
    baseline.save([results_of([1], [4])], "tmpfs")
    assert not list(baseline.regressions([results_of([4], [4])], "ext4"))
    assert list(baseline.regressions([results_of([4], [4])], "tmpfs"))
    assert list(baseline.regressions([results_of([4], [4])], "xfs"))


def test_a_contender_that_fails_leaves_the_others(tmp_path: Path) -> None:
    """One that does the wrong thing fails the run, one that is missing does not; others go on."""

    def failing(error: type[Exception]) -> Case:
        def fail() -> dict[str, float]:
            raise error("no")

        return Case(error.__name__, fail)

    with Lab(str(tmp_path), quick=True) as lab:
        fine = Case(OURS, lambda: {"": 1.0})
        (missing,) = run_rows(lab, [row_of([failing(Missing), fine])], 2)
        (wrong,) = run_rows(lab, [row_of([failing(Wrong), fine])], 3)
    assert (missing.failed, missing.values) == (False, {(OURS, ""): [1.0, 1.0]})
    assert (wrong.failed, wrong.values) == (True, {(OURS, ""): [1.0, 1.0, 1.0]})
    assert len(lab.notes) == 2
    assert not list(tmp_path.iterdir())


def test_the_picture_is_well_formed() -> None:
    """The SVG parses, and shows every contender with its median."""
    picture = ET.fromstring(plot.picture([results_of([4, 5, 6], [8])], MACHINE))  # noqa: S314 - ours
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"doing <nothing>", OURS, "peer", "5 s", "8 s"} <= texts


def test_everything_goes_into_the_json() -> None:
    """Each value of each round is there, and each goal with its verdict."""
    found = json.loads(
        json.dumps(report.as_json([results_of([4, 5], [8])], MACHINE, ["a note"], on_disk=True))
    )
    assert found["machine"] == MACHINE
    assert found["notes"] == ["a note"]
    assert found["rows"]["nothing"]["values"][0]["rounds"] == [4, 5]
    assert found["rows"]["nothing"]["goals"]["times"]["reached"] is True


def test_results_replace_those_before_them() -> None:
    """In a text the results between the marks are replaced, and all around them stays."""
    text = "before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n"
    assert report.put_between_marks(text, "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match="nothing between"):
        report.put_between_marks("no marks", "new")


def test_committed_figures_are_of_goals_that_there_are() -> None:
    """No committed figure is left behind by a row or goal that was renamed."""
    with open(baseline.PATH, encoding="utf-8") as file:
        committed = json.load(file)
    keys = {name: {goal.key for goal in row.goals} for name, row in ROWS.items()}
    for figures in committed.values():
        assert all(set(goals) <= keys[name] for name, goals in figures.items())


def test_keys_of_goals_are_unique_in_their_row() -> None:
    """Each goal has a committed figure of its own."""
    for row in ROWS.values():
        assert len({goal.key for goal in row.goals}) == len(row.goals)


def test_the_command_names_its_rows() -> None:
    """`tests/bench/run --list` works without measuring anything."""
    done = subprocess.run([RUN, "--list"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(ROWS)
