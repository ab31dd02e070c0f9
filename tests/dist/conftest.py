"""What the tests of the command line share."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.dist.command import DIST, Dist

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def dist(tmp_path: Path) -> Dist:
    """The command on a store of its own."""
    return Dist(tmp_path)


@pytest.fixture
def start(dist: Dist) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command without waiting for it; what is left of it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [DIST, *arguments],
            **{
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "env": dist.env,
                **options,
            },
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()
