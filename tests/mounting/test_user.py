"""Mounts of a user who is not root, by way of fusermount3."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mounting.place import SECONDS, Place

# A name space of its own, where the device is open to all, as it is on most systems.
PREPARE = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir -m 777 /mnt/user
mknod -m 666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
as_user "$PYTHON" -c "import pyfuse3" || exit 77
as_user mkdir /mnt/user/root /mnt/user/point
contentfs() { "$PYTHON" -m fusefs /mnt/user/root /mnt/user/point "$@"; }
server() { pgrep -f "^$PYTHON -m fusefs /mnt/user/root"; }
user_contentfs() { as_user "$PYTHON" -m fusefs /mnt/user/root /mnt/user/point "$@"; }
shown() { findmnt -no SOURCE,FSTYPE,OPTIONS /mnt/user/point; }
"""


@pytest.fixture
def run(place: Place) -> Callable[[str], str]:
    """Run a script after the one above, and return what it prints."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("unshare and setpriv are not here")

    def run(script: str) -> str:
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", PREPARE + script],
            env={**place._environment(), "PYTHON": sys.executable},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * SECONDS,
            check=False,
        )
        if done.returncode == 77:
            pytest.skip("the interpreter is not open to others")
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def test_a_user_mounts_and_unmounts(run: Callable[[str], str]) -> None:
    """Root sees the mount, and that it lives, though it may not look inside."""
    said = run("""
        user_contentfs
        shown
        as_user ls /mnt/user/point
        contentfs && exit 1
        kill "$(server)"
        tail -s 0.05 --pid="$(server)" -f /dev/null || :
        ! shown
        user_contentfs
        as_user fusermount3 -u /mnt/user/point
    """)
    assert "/mnt/user/root fuse.contentfs rw,nosuid,nodev" in said
    assert "user_id=65534" in said
    assert "blobs\ningest\n" in said
    assert "already mounted" in said


def test_a_busy_mount_of_a_user_ends_too(run: Callable[[str], str]) -> None:
    """By the lazy way of fusermount3."""
    run("""
        user_contentfs
        server=$(server)
        as_user sh -c 'cd /mnt/user/point; exec sleep 60' &
        kill "$server"
        tail -s 0.05 --pid="$server" -f /dev/null
        ! shown
    """)


@pytest.mark.parametrize("who", ["user_contentfs", "contentfs"])
def test_a_dead_mount_of_a_user_is_replaced(run: Callable[[str], str], who: str) -> None:
    """By the user, and by root, whom the kernel does not tell that it is dead."""
    said = run(f"""
        user_contentfs
        server=$(server)
        kill -KILL "$server"
        tail -s 0.05 --pid="$server" -f /dev/null
        {who}
        shown
    """)
    assert said.count("fuse.contentfs") == 1


@pytest.mark.parametrize("option", ["allow_other", "allow_root"])
def test_sharing_must_be_allowed(run: Callable[[str], str], option: str) -> None:
    """What fusermount3 says about it is our error."""
    said = run(f"""
        : > /mnt/fuse.conf
        mount --bind /mnt/fuse.conf /etc/fuse.conf
        user_contentfs -o {option} && exit 1
        ! shown
    """)
    assert said.startswith("contentfs: cannot mount on /mnt/user/point: ")
    assert "user_allow_other" in said
    assert said.count("\n") == 1


def test_mount_and_fstab_work(run: Callable[[str], str]) -> None:
    """Also twice: `mount -a` knows it by its source."""
    said = run(r"""
        mkdir /mnt/bin
        printf '#!/bin/sh\nexec "%s" -m fusefs "$@"\n' "$PYTHON" > /mnt/bin/contentfs
        chmod +x /mnt/bin/contentfs
        mount --bind /mnt/bin /usr/local/bin
        line="/mnt/user/root /mnt/user/point fuse.contentfs"
        echo "$line defaults,noatime,nofail,_netdev,x-systemd.automount 0 0" > /mnt/fstab
        as_user true
        mount -T /mnt/fstab /mnt/user/point
        shown
        mount -T /mnt/fstab -a
        umount /mnt/user/point
        mount -t fuse.contentfs -o frobnicate /mnt/user/root /mnt/user/point && exit 1
        :
    """)
    assert "/mnt/user/root fuse.contentfs rw,noatime" in said
    assert "frobnicate" in said
