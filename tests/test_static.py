"""The rules that need no running program: style, types, import directions, what the wheel holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))


def run(*command: str | Path) -> None:
    """Run a checker in the checkout; what it prints is the failure's text."""
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(done.stdout, pytrace=False)


def test_ruff_has_no_objection() -> None:
    """Every rule of the linter holds, or its exception stands in pyproject.toml with the reason."""
    run(sys.executable, "-m", "ruff", "check")


def test_the_formatter_would_change_nothing() -> None:
    """The code is formatted."""
    run(sys.executable, "-m", "ruff", "format", "--check", "--diff")


def test_types_hold() -> None:
    """Mypy agrees with every annotation, in the tests too."""
    run(sys.executable, "-m", "mypy")


def test_imports_go_one_way() -> None:
    """No module imports what stands above it."""
    run(SCRIPTS / "lint-imports")


@pytest.mark.parametrize(
    "script", ["mount.sh", "setup.sh", "tests/run", "tests/bench/run", "tests/soak/run", ".ci/run"]
)
def test_shellcheck_has_no_objection(script: str) -> None:
    """The shell scripts are free of the known traps."""
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    run(shellcheck, "--external-sources", script)


def test_the_wheel_holds_both_packages_and_nothing_else(tmp_path: Path) -> None:
    """A wheel brings every module of store and fusefs, their type marks, and no test."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entry_points,) = (n for n in archive.namelist() if n.endswith("/entry_points.txt"))
        scripts = archive.read(entry_points).decode()
    modules = {
        str(path.relative_to(CHECKOUT))
        for package in ("store", "fusefs")
        for path in (CHECKOUT / package).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert {"store/py.typed", "fusefs/py.typed"} <= modules
    assert names == modules
    assert "contentfs = fusefs.cli:main" in scripts
    assert "dist = store.dist.cli:main" in scripts
