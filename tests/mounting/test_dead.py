"""A mountpoint whose server was killed is replaced; one whose server is slow is not."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from fusefs import mountpoint
from fusefs.mounterror import MountError
from fusefs.mounts import CUT_OFF, read_mounts
from tests.mounting.place import Place, ended, kill


def test_a_dead_mount_is_replaced(place: Place) -> None:
    """Also while the kernel still answers stat from its cache."""
    first = place.mount()
    os.stat(place.point)
    kill(first)
    os.stat(place.point)  # it does not know yet
    second = place.mount()
    assert second != first
    assert sorted(os.listdir(place.point)) == ["blobs", "ingest"]
    assert len([mount for mount in read_mounts() if mount.point == str(place.point)]) == 1


def test_a_dead_mount_is_replaced_once_it_is_seen(place: Place) -> None:
    """The usual "Transport endpoint is not connected"."""
    kill(place.mount())
    with pytest.raises(OSError, match="endpoint") as caught:
        os.listdir(place.point)
    assert caught.value.errno in CUT_OFF
    with pytest.raises(OSError, match="endpoint"):
        os.statvfs(place.point)
    place.mount()
    os.listdir(place.point)


def test_an_aborted_mount_is_replaced(place: Place) -> None:
    """Its server was cut off by the kernel, and stopped so that it cannot clean up itself."""
    server = place.mount()
    os.kill(server, signal.SIGSTOP)
    place.abort()
    place.mount()
    os.listdir(place.point)
    before = place.mounted
    # When it goes on, it finds another mount in its place, and leaves it alone.
    os.kill(server, signal.SIGCONT)
    assert ended(server)
    assert place.mounted == before


def test_a_slow_mount_is_left_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not answer, but it is not dead: its server may be stopped in a debugger."""
    server = place.mount()
    monkeypatch.setattr(mountpoint, "_PROBE_PATIENCE", 0.2)
    os.kill(server, signal.SIGSTOP)
    try:
        with pytest.raises(MountError, match="already mounted"):
            mountpoint.prepare(str(place.root), str(place.point))
    finally:
        os.kill(server, signal.SIGCONT)
    os.listdir(place.point)


def test_what_is_mounted_below_a_dead_mount_stays(place: Place) -> None:
    """Only the dead one is detached."""
    place.mount()
    below = place.mounted
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place.point], check=True)
    kill(place.mount())
    done = place.run(place.root, place.point)
    assert done.returncode == 0, done.stderr
    subprocess.run(["umount", place.point], check=True)
    subprocess.run(["umount", place.point], check=True)
    assert place.mounted == below
