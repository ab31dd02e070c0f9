"""The daemon ended while it is busy: nothing acknowledged is lost, all goes on, no lock is left."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.reliability.killing import by_kill, run
from tests.reliability.mounted import Mounted, can_mount, seeds

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [can_mount, pytest.mark.parametrize("seed", seeds())]

_SECONDS = 8.0


def by_signal(number: signal.Signals) -> Callable[[Mounted], str | None]:
    """An end by a signal."""

    def end(mounted: Mounted) -> str | None:
        mounted.signal(number)
        return None if mounted.ends() == 0 else "its exit status is not 0"

    return end


def by_command(*command: str, check: bool = True) -> Callable[[Mounted], str | None]:
    """An end by a command, which gets the mountpoint as its last word."""

    def end(mounted: Mounted) -> str | None:
        subprocess.run([*command, mounted.point], check=check, timeout=20)
        return None if mounted.ends() == 0 else "its exit status is not 0"

    return end


def test_a_killed_daemon_loses_nothing(tmp_path: Path, seed: int) -> None:
    """After each of six SIGKILLs under ten writers and ten readers everything goes on."""
    reckoning = run(tmp_path, seed, 6, by_kill)
    assert not reckoning.faults, f"seed {seed}: " + "\n".join(reckoning.faults)
    assert reckoning.stored > 10
    assert reckoning.read > 10


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(by_signal(signal.SIGTERM), id="SIGTERM"),
        pytest.param(by_signal(signal.SIGINT), id="SIGINT"),
        pytest.param(by_command("fusermount3", "-u", "-z"), id="fusermount3 -uz"),
        pytest.param(by_command("umount", "-l"), id="umount -l"),
        pytest.param(by_command("umount", "-f", check=False), id="umount -f"),
    ],
)
def test_an_end_that_was_asked_for_is_clean(
    tmp_path: Path, seed: int, end: Callable[[Mounted], str | None]
) -> None:
    """A busy mount ends with status 0 within seconds, and everything goes on in the next."""
    reckoning = run(tmp_path, seed, 1, end, each=4)
    assert not reckoning.faults, f"seed {seed}: " + "\n".join(reckoning.faults)
    assert reckoning.slowest < _SECONDS
