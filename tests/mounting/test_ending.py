"""Every end of a mount is a clean one: exit 0, soon, no mount left, everything drained."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence

import pytest

from tests.mounting.place import SECONDS, Place, ended

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
UNMOUNTS = (("umount",), ("fusermount3", "-u"), ("fusermount3", "-uz"), ("umount", "-l"))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_it(place: Place, number: signal.Signals) -> None:
    """In the foreground with exit status 0."""
    place.odd()
    process = place.start()
    process.send_signal(number)
    assert process.wait(SECONDS) == 0
    assert place.notices.recv(100) == b"STOPPING=1"
    assert place.mounted is None
    assert "drained" in place.log.read_text()


@pytest.mark.parametrize("command", UNMOUNTS)
def test_an_unmount_ends_it(place: Place, command: Sequence[str]) -> None:
    """In the foreground with exit status 0."""
    place.odd()
    process = place.start()
    subprocess.run([*command, place.point], check=True)
    assert process.wait(SECONDS) == 0
    assert place.mounted is None
    assert "drained" in place.log.read_text()


def test_a_signal_ends_the_background_process(place: Place) -> None:
    """As in the foreground."""
    server = place.mount()
    os.kill(server, signal.SIGTERM)
    assert ended(server)
    assert place.mounted is None


@pytest.mark.parametrize("number", SIGNALS)
def test_open_files_do_not_stop_a_signal(place: Place, number: signal.Signals) -> None:
    """Who has them open is cut off after a second or two."""
    place.odd()
    process = place.start()
    file = os.open(place.point / "file", os.O_RDONLY)
    process.send_signal(number)
    assert process.wait(SECONDS) == 0
    assert place.mounted is None
    for call in (os.fstat, os.close):
        with pytest.raises(OSError, match="not connected"):
            call(file)
    assert "is busy" in place.log.read_text()


def test_a_request_that_has_begun_is_finished(place: Place) -> None:
    """Its answer reaches whoever has asked, though the signal was faster."""
    place.odd()
    process = place.start()
    found: list[os.stat_result] = []
    client = threading.Thread(target=lambda: found.append(os.stat(place.point / "gate")))
    client.start()
    with place.gate():
        process.send_signal(signal.SIGTERM)
        assert place.notices.recv(100) == b"STOPPING=1"
    client.join(SECONDS)
    assert len(found) == 1
    assert process.wait(SECONDS) == 0
    assert place.mounted is None


def test_a_request_that_is_never_answered_is_given_up(place: Place) -> None:
    """By a fault of ours, which the exit status tells."""
    place.odd()
    process = place.start(ODD_PATIENCE="0.1")
    client = subprocess.Popen(["stat", place.point / "stuck"], stderr=subprocess.PIPE, text=True)
    assert place.notices.recv(100) == b"stuck"
    process.send_signal(signal.SIGTERM)
    _, said = client.communicate(timeout=SECONDS)
    assert process.wait(SECONDS) == 1
    assert "connection abort" in said or "not connected" in said or "No such file" in said
    assert place.mounted is None
    assert "given up" in place.log.read_text()
    assert "drained" in place.log.read_text()


def test_a_signal_before_the_first_answer_ends_it(place: Place) -> None:
    """The mount is there already, so it must not be left."""
    place.odd()
    process = place.begin(ODD_START="1")
    with place.gate():
        process.send_signal(signal.SIGTERM)
        assert place.notices.recv(100) == b"STOPPING=1"
    assert process.wait(SECONDS) == 0
    assert place.mounted is None
    assert "is mounted on" not in place.log.read_text()


def test_many_signals_are_as_good_as_one(place: Place) -> None:
    """None of them kills it while it drains."""
    place.odd()
    process = place.start(ODD_DRAIN="0.5")
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        # As fast as may be, but for the time that one handler takes.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.001)
    assert process.wait(SECONDS) == 0
    assert "drained" in place.log.read_text()
    assert place.mounted is None


def test_a_hang_up_is_ignored_under_nohup(place: Place) -> None:
    """As nohup(1) asks for."""
    place.odd()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = place.start()
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    assert os.stat(place.point / "thread")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert "SIGHUP" not in place.log.read_text()


def test_a_fault_in_the_loop_unmounts_with_status_1(place: Place) -> None:
    """The client gets an error, the log a traceback in one line, and nothing is left."""
    place.odd()
    process = place.start()
    with pytest.raises(OSError, match=r"abort|not connected"):
        os.stat(place.point / "crash")
    assert process.wait(SECONDS) == 1
    assert place.mounted is None
    [line] = [line for line in place.log.read_text().splitlines() if "KeyError" in line]
    assert "has failed" in line
    assert "Traceback" in line
    assert "drained" in place.log.read_text()


def test_an_aborted_mount_is_taken_away(place: Place) -> None:
    """By the server itself, which is told by the kernel."""
    process = place.start()
    place.abort()
    assert process.wait(SECONDS) == 0
    assert place.mounted is None


def test_the_next_mount_is_not_taken_for_the_last_one(place: Place) -> None:
    """The kernel gives it the same numbers, while the last server still drains."""
    place.odd()
    first = place.start(ODD_DRAIN="1")
    before = place.mounted
    subprocess.run(["umount", place.point], check=True)
    second = place.start()
    assert before is not None
    assert place.mounted is not None
    assert place.mounted.point == before.point
    assert first.wait(SECONDS) == 0
    assert os.stat(place.point / "file")
    assert second.poll() is None


def test_a_mount_that_covers_ours_stays(place: Place) -> None:
    """An unmount goes by the path: rather nothing is unmounted than something else."""
    process = place.start()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place.point], check=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert place.mounted is not None
    assert place.mounted.kind == "tmpfs"
    assert "mounted on top of it" in place.log.read_text()
    subprocess.run(["umount", place.point], check=True)


def test_a_mount_that_is_seen_elsewhere_too_ends(place: Place) -> None:
    """A bind mount, or another name space, keeps the connection open: not for ever."""
    other = place.folder / "other"
    other.mkdir()
    process = place.start()
    subprocess.run(["mount", "--bind", place.point, other], check=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert place.mounted is None


def test_a_mount_that_has_moved_is_found(place: Place) -> None:
    """It is known by its number, not by its path."""
    below, other = place.folder / "below", place.folder / "other"
    for folder in (below, other):
        folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    subprocess.run(["mount", "--make-private", below], check=True)
    place.point = below / "point"
    place.point.mkdir()
    process = place.start()
    done = subprocess.run(["mount", "--move", place.point, other], check=False)
    if done.returncode != 0:
        pytest.skip("mounts cannot be moved here")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    assert not os.path.ismount(other)
