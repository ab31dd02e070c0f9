"""What a line of the log looks like, and where it goes."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fusefs.notify import notify

CHECKOUT = Path(__file__).parents[2]
SCRIPT = r"""
import logging, sys
from fusefs.logs import set_up_logging
set_up_logging("info", sys.argv[1] if sys.argv[1:] else None, foreground=True)
log = logging.getLogger("part")
log.debug("not this")
log.info("a name with\na newline, \x1b[31mcolour and \u2028")
try:
    raise ValueError("two\nlines")
except ValueError:
    log.exception("it failed")
reply = "fuse_release(): fuse_reply_* failed with %s"
logging.getLogger("pyfuse3").error(reply, "No such file or directory")
logging.getLogger("pyfuse3").error(reply, "Invalid argument")
"""

SYSTEM = r"""
import logging, os, socket, subprocess
from fusefs.logs import set_up_logging
subprocess.run(["mount", "-t", "tmpfs", "none", "/dev"], check=True)
set_up_logging("info", None, foreground=False)
log = logging.getLogger("part")
log.info("nobody is there yet")
for text in "it has come", "it has come back":
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("/dev/log")
        listener.settimeout(10)
        log.info(text)
        print(os.getpid(), listener.recv(1000))
    os.unlink("/dev/log")
    log.info("it is gone")
"""


def lines(*words: str, **environment: str) -> list[str]:
    """Run the script above, and return what it says on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


def judge(found: list[str], beginning: str) -> None:
    """One line an event, without what is no news."""
    assert len(found) == 3
    assert re.fullmatch(
        beginning + r"INFO part: a name with \| a newline, \\x1b.*\\u2028", found[0]
    )
    assert re.fullmatch(beginning + r"ERROR part: it failed \| Traceback .* \| lines", found[1])
    assert re.fullmatch(beginning + r"ERROR pyfuse3: .*Invalid argument", found[2])


def test_standard_error_gets_one_line_an_event() -> None:
    """With the time."""
    judge(lines(), r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


def test_a_file_gets_the_same(tmp_path: Path) -> None:
    """And standard error nothing."""
    assert lines(str(tmp_path / "log")) == []
    judge((tmp_path / "log").read_text().splitlines(), r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


def test_the_system_log_gets_it_where_there_is_one() -> None:
    """Whenever it comes, and comes back: facility and level, the process, one line."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can have a /dev of its own, with unshare")
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", SYSTEM],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    pid = first.split()[0]
    assert first == f"{pid} b'<30>contentfs[{pid}]: INFO part: it has come\\x00'"
    assert second == f"{pid} b'<30>contentfs[{pid}]: INFO part: it has come back\\x00'"


def test_the_journal_gets_priorities(tmp_path: Path) -> None:
    """Where standard error is what systemd says, and the journal adds the time itself."""
    with open(tmp_path / "stream", "w+b") as stream:
        status = os.fstat(stream.fileno())
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={
                **os.environ,
                "PYTHONPATH": str(CHECKOUT),
                "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}",
            },
            stderr=stream,
            check=True,
        )
        stream.seek(0)
        judge(stream.read().decode().splitlines(), r"<[63]>")


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool
) -> None:
    """On a socket with a path, or in the abstract name space."""
    address = f"@contentfs-test-{os.getpid()}" if abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address.replace("@", "\0", 1) if abstract else address)
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1")
        assert channel.recv(100) == b"READY=1"


def test_a_service_manager_that_is_gone_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a line in the log."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "none"))
    with caplog.at_level(logging.WARNING):
        notify("READY=1")
    assert "READY=1" in caplog.text
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")
