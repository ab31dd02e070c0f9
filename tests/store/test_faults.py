"""Each step of each change fails once, or is the last: nothing is lost, the next try works."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from store import Store
from tests.faults import Counting, Failing, Killing, using
from tests.fsck import fsck, recover
from tests.store.scenarios import SCENARIOS, Scenario

ERRORS = [errno.EIO, errno.ENOSPC]
scenarios = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)


def steps(scenario: Scenario, root: Path) -> list[str]:
    """The changes that a scenario makes to the disk where nothing fails."""
    store = Store(root)
    scenario.prepare(store)
    with using(Counting()) as calls:
        scenario.act(store)
    assert scenario.done(store)
    return calls.steps


@scenarios
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
def test_a_step_that_fails(scenario: Scenario, error: int, scratch: Path) -> None:
    """The caller gets the disk's error, the store is sound, and the next try succeeds."""
    for n, step in enumerate(steps(scenario, scratch / "whole")):
        root = scratch / f"fail-{n}"
        store = Store(root)
        scenario.prepare(store)
        found = None
        with using(Failing(n, error)) as disk:
            try:
                scenario.act(store)
            except OSError as raised:
                found = raised.errno
        where = f"step {n}, {step}"
        assert disk.failed, where
        if found is None:
            assert step.startswith(scenario.tolerates), f"{where} failed in silence"
        else:
            assert found == error, where
        fsck(root)
        for view in (store, Store(root)):
            scenario.holds(view)
            scenario.unchanged(view)
        if found is not None:
            scenario.act(store)
        assert scenario.done(Store(root)), where
        recover(root)


@scenarios
def test_a_step_that_is_the_last(scenario: Scenario, scratch: Path) -> None:
    """Killed after any step, the store is sound, no lock is left, and the next try succeeds."""
    for n, step in enumerate(steps(scenario, scratch / "whole")):
        root = scratch / f"kill-{n}"
        scenario.prepare(Store(root))
        child = os.fork()
        if child == 0:
            try:
                with using(Killing(n)):
                    scenario.act(Store(root))
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        assert os.WTERMSIG(status) == signal.SIGKILL, f"not killed at step {n}, {step}"
        fsck(root)
        scenario.holds(Store(root))
        if not scenario.done(Store(root)):
            scenario.act(Store(root))
        assert scenario.done(Store(root)), f"step {n}, {step}"
        recover(root)
