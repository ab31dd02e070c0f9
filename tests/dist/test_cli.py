"""The command line as a whole: help, usage, the store's folder, exit codes, start-up."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from store.dist.cli import COMMANDS
from tests.dist.command import DIST, NO_SUCH, Dist

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = [command.name for command in COMMANDS]
LOCAL = [name for name in NAMES if name not in {"fetch", "pull", "push"}]


def test_help_teaches_every_command(dist: Dist) -> None:
    """``dist --help`` names every command and alias, the exit codes, and gives examples."""
    text = dist.out("--help")
    assert text == dist.out("-h")
    for command in COMMANDS:
        assert ", ".join((command.name, *command.aliases)) in text
        assert command.help in text
    assert "Exit status" in text
    assert "examples:" in text


@pytest.mark.parametrize("name", NAMES)
def test_each_command_teaches_itself(dist: Dist, name: str) -> None:
    """``dist CMD --help`` has a description, --root and examples that begin with the command."""
    text = dist.out(name, "--help")
    assert f"usage: dist {name} " in text
    assert "--root DIR" in text
    before, _, examples = text.partition("examples:\n")
    assert f"dist {name}" in examples
    assert max(map(len, before.splitlines())) <= 100


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.aliases], ids=lambda c: c.name)
def test_aliases(dist: Dist, command: tuple[str, str, str, tuple[str, ...]]) -> None:
    """A command's other names are the same command."""
    name, _, _, aliases = command
    for alias in aliases:
        assert dist.out(name, "--help") == dist.out(alias, "--help")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        [""],
        ["--nonsense"],
        ["--root"],
        ["--root="],
        ["--root", "", "list"],
        ["list", "--root", ""],
        ["list", "--root"],
        ["list", "--nonsense"],
        ["list", "--qui"],
        ["active", "-q"],
        ["path"],
        ["path", "--quiet=1", NO_SUCH],
        ["get"],
        ["get", NO_SUCH, NO_SUCH],
        ["delete"],
        ["abort"],
        ["ingest"],
        ["ingest", "a", "b"],
        ["ingest", "--expected-digest", ""],
        ["ingest", "--expected-digest", "", "r"],
        ["ingest", "--expected-digest=", "r"],
        ["ingest", "--expected-digest", "sha256:", "r"],
        ["ingest", "--expected-digest", "sha256:../../x", "r"],
        ["ingest", "--expected-digest", f"md5:{'0' * 32}", "r"],
        ["ingest", "--expected-digest", NO_SUCH.upper(), "r"],
        ["ingest", "--expected-size", "", "r"],
        ["ingest", "--expected-size", "-1", "r"],
        ["ingest", "--expected-size", "1e3", "r"],
        ["ingest", "--expected-size", "1_000", "r"],
        ["ingest", "--expected-size", "9" * 5000, "r"],
        ["ingest", "--timeout", "soon", "r"],
        ["ingest", "--timeout", "-1s", "r"],
        ["verify", "--rate", "0", "x"],
        ["verify", "--rate", "fast", "x"],
        ["verify", "-j", "0"],
        ["prune", "--older-than", ""],
        ["prune", "--older-than", "yesterday"],
        ["prune", "anything"],
    ],
    ids=lambda words: repr(words)[1:60],
)
def test_usage_errors(dist: Dist, arguments: list[str]) -> None:
    """A command line that makes no sense is exit 2, one line that names the help, no store."""
    assert "--help" in dist.error(*arguments, code=2)
    assert not dist.root.exists()


def test_usage_error_stays_on_one_line(dist: Dist) -> None:
    """Control characters of the command line do not reach the terminal."""
    line = dist.error("list", "--x\n\x1b[31m", code=2)
    assert r"--x\n\x1b[31m" in line


@pytest.mark.parametrize("where", ["before", "before=", "after", "environment", "default"])
def test_root(dist: Dist, tmp_path: Path, where: str) -> None:
    """The store is --root before or after the command, else $DIST_ROOT, else .content."""
    root, command = str(tmp_path / "elsewhere"), ["ingest", "r"]
    arguments = {
        "before": ["--root", root, *command],
        "before=": [f"--root={root}", *command],
        "after": [*command, "--root", root],
    }.get(where, command)
    dist.env["DIST_ROOT"] = root if where == "environment" else ""
    dist(*arguments, stdin=b"x")
    expected = tmp_path / ".content" if where == "default" else tmp_path / "elsewhere"
    assert {"blobs", "ingest"} == set(os.listdir(expected))


def test_root_after_the_command_wins(dist: Dist, tmp_path: Path) -> None:
    """The nearer --root is the one that counts."""
    near, far = tmp_path / "near", tmp_path / "far"
    dist("--root", str(far), "ingest", "--root", str(near), "r", stdin=b"x")
    assert near.exists()
    assert not far.exists()


def test_root_that_is_no_text(dist: Dist, tmp_path: Path) -> None:
    """A store's folder may have any name that a file system takes, and paths show it as it is."""
    root = os.fsencode(tmp_path) + b"/caf\xe9"
    digest = dist("--root", root, "ingest", "r", stdin=b"x").stdout.strip()
    path = dist("--root", root, "path", "-q", digest).stdout
    assert path == root + b"/blobs/sha256/" + digest.removeprefix(b"sha256:") + b"\n"


def test_root_that_is_a_file(dist: Dist) -> None:
    """A file where the store should be is an error of one line, whatever the command."""
    dist.root.write_text("not a store")
    assert str(dist.root) in dist.error("ingest", "r", stdin=b"x")
    assert dist.root.read_text() == "not a store"


@pytest.mark.parametrize("command", ["list", "active"])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_nothing_lists_as_nothing(dist: Dist, command: str, flags: list[str]) -> None:
    """A store that is not there, or is empty, lists as nothing and is left as it is."""
    assert dist.out(command, *flags) == ""
    assert not dist.root.exists()
    dist.root.mkdir()
    assert dist.out(command, *flags) == ""
    assert os.listdir(dist.root) == []


def test_python_m(dist: Dist) -> None:
    """``python -m store.dist`` is ``dist``."""
    done = subprocess.run(
        [sys.executable, "-m", "store.dist", "--help"],
        capture_output=True,
        check=True,
        env=dist.env,
    )
    assert done.stdout.decode() == dist.out("--help")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_stdout_is_quiet(dist: Dist, unbuffered: str) -> None:
    """A reader that has had enough ends a command without a word, with a signal's exit code."""
    dist.env["PYTHONUNBUFFERED"] = unbuffered
    digest = dist.put(bytes(2**20))
    for command in (f"get {digest}", "list", "list -q", "list --json", f"path {digest}", "--help"):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [DIST, *command.split()],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            env=dist.env,
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, b""), command


@pytest.mark.parametrize("command", ["list", "list -q", "list --json", "get", "path", "--help"])
def test_full_stdout_is_an_error(dist: Dist, command: str) -> None:
    """Results that cannot be written are exit 1, never a silent success."""
    digest = dist.put(bytes(2**20))
    words = [*command.split(), *([digest] if command in {"get", "path"} else [])]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [DIST, *words], stdout=full, stderr=subprocess.PIPE, check=False, env=dist.env
        )
    assert done.returncode == 1
    assert done.stderr == b"dist: standard output: No space left on device\n"


def test_no_stdout(dist: Dist) -> None:
    """Where there is no standard output at all nothing of ours is written to instead."""
    dist.put(b"x")
    done = dist.shell("dist list >&-", code=1)
    assert done.stderr == b"dist: standard output: closed\n"


def test_no_stderr(dist: Dist) -> None:
    """Where there is no standard error complaints are lost, and nothing else changes."""
    dist.shell(f"dist get {NO_SUCH} 2>&-", code=1)


def test_interrupt_is_quiet(dist: Dist, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """^C ends a command without a word and with a signal's exit code."""
    digest = dist.put(b"x")
    process = start("delete", "-")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{digest}\n".encode())
    process.stdin.flush()
    assert process.stdout.readline() == f"{digest}\n".encode()
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == b""
    assert process.returncode == 130


def test_failures_are_told_and_the_rest_is_done(dist: Dist) -> None:
    """Of many things those that fail are complained of, each in its line; the others are done."""
    good = dist.put(b"x")
    done = dist("path", "nonsense", good, NO_SUCH, "sha256:../../x", "", code=1)
    assert [good] == [line.split()[0] for line in done.stdout.decode().splitlines()]
    complaints = done.stderr.decode().splitlines()
    assert len(complaints) == 4
    assert all(line.startswith("dist: ") for line in complaints)


@pytest.mark.parametrize("name", LOCAL)
def test_other_commands_are_not_imported(name: str) -> None:
    """A command imports its own module, and nothing heavy that only others need."""
    script = (
        "import sys; from store.dist.cli import main; main([sys.argv[1], '--help']); "
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, name], capture_output=True, check=True, text=True
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert "store.dist.cli" in modules
    others = {c.module for c in COMMANDS if c.name != name} - {"store.dist.list"}
    heavy = {"filelock", "pycurl", "pyfuse3", "rich", "trio"}
    if name != "verify":  # which hashes long enough not to feel it
        heavy |= {"concurrent.futures", "json", "logging", "shutil"}
    assert not modules & (others | heavy)


def test_start_up(dist: Dist) -> None:
    """Listing an empty store costs at most three times the processor time of Python itself."""
    dist.env["PYTHONDONTWRITEBYTECODE"] = ""  # as for a user, whose second run finds the bytecode
    dist.env["PYTHONPYCACHEPREFIX"] = str(dist.root.parent / "bytecode")
    ours, bare = [DIST, "list", "-q"], [sys.executable, "-c", "pass"]
    dist.shell("dist list -q")
    ratio = statistics.median(_cost(ours, dist) / _cost(bare, dist) for _ in range(15))
    assert ratio <= 3


def _cost(command: list[str], dist: Dist) -> float:
    pid = os.posix_spawn(command[0], command, dist.env)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime
