"""Mounts for the tests of the view: one for a module, and one for a test that needs its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fusefs.mounted import Mount, until


@pytest.fixture(autouse=True)
def _fuse() -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("there is no /dev/fuse here")
    if os.geteuid() != 0:
        pytest.skip("only root may mount with allow_other")


@pytest.fixture(scope="module")
def _module_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    if not os.path.exists("/dev/fuse") or os.geteuid() != 0:
        pytest.skip("no mount can be made here")
    mount = Mount(tmp_path_factory.mktemp("mount"), "allow_other")
    yield mount
    mount.close()


@pytest.fixture
def mount(_module_mount: Mount) -> Iterator[Mount]:
    """A mount that the tests of a module share; each takes refs and content of its own.

    After each test the log must hold no fault, and the server no file that is still open.
    """
    with _module_mount.watched():
        yield _module_mount
        until(lambda: not _module_mount.open_files(), "all files are closed")
    _module_mount.assert_no_faults()


@pytest.fixture
def new_mount(tmp_path: Path) -> Iterator[Callable[..., Mount]]:
    """Mount with options of one's own; all that is mounted so is unmounted and checked."""
    mounts: list[Mount] = []
    with contextlib.ExitStack() as stack:

        def make(*options: str, **words: Any) -> Mount:
            folder = tmp_path / f"mount{len(mounts)}"
            folder.mkdir()
            mount = Mount(folder, *options, **words)
            mounts.append(mount)
            # Each is closed though another fails to be.
            stack.callback(mount.close)
            stack.enter_context(mount.watched())
            return mount

        yield make
