"""The command line: what it says, what it refuses, and what the table of mounts then shows."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mounting.place import SECONDS, Place, ended, kill


def refused(done: subprocess.CompletedProcess[str], status: int, *texts: str) -> None:
    """The command has said one line on standard error that has these texts."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"contentfs: .+\n", done.stderr)
    for text in texts:
        assert text in done.stderr


def test_help_teaches() -> None:
    """It shows how to begin, and every option."""
    done = subprocess.run(
        [sys.executable, "-m", "fusefs", "--help"], capture_output=True, text=True, check=True
    )
    for text in ("examples:", "allow_delete", "fstab", "umount", "--log-file", "exit status"):
        assert text in done.stdout


def test_version_is_told() -> None:
    """It is one line, with a number where it is installed."""
    done = subprocess.run(
        [sys.executable, "-m", "fusefs", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"contentfs \S.*\n", done.stdout)


def test_importing_the_command_takes_neither_trio_nor_pyfuse3() -> None:
    """They would set up what no fork survives, and cost what an error need not cost."""
    code = "import sys, fusefs.cli; print({'trio', 'pyfuse3', 'store'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "ROOT"),
        (("one",), "MOUNTPOINT"),
        (("one", "two", "three"), "three"),
        (("--frobnicate", "one", "two"), "--frobnicate"),
        (("one", "two", "--log-level", "loud"), "loud"),
        (("one", "two", "-o", "ro,frobnicate"), "frobnicate"),
        (("one", "two", "-o"), "-o"),
    ],
)
def test_a_wrong_command_line_is_status_2(place: Place, words: tuple[str, ...], named: str) -> None:
    """The line names what is wrong and where help is."""
    refused(place.run(*words), 2, named, "--help")


def test_folders_must_be_there(place: Place) -> None:
    """A mistyped name is an error, not a new store."""
    missing, file = place.folder / "missing", place.folder / "file"
    file.touch()
    refused(place.run(missing, place.point), 1, str(missing), "does not exist")
    refused(place.run(place.root, missing), 1, str(missing), "does not exist")
    refused(place.run(file, place.point), 1, str(file), "not a folder")
    refused(place.run(place.root, file), 1, str(file), "not a folder")
    assert not missing.exists()
    assert list(place.root.iterdir()) == []


def test_a_mount_must_not_hide_or_mirror_its_store(place: Place) -> None:
    """Not on the store, nor above it, nor in what it shows, under whatever name."""
    inner = place.root / "blobs/sha256"
    inner.mkdir(parents=True)
    (place.folder / "link").symlink_to(place.root)
    refused(place.run(place.root, place.root), 1, "the store itself")
    refused(place.run(place.root, place.folder / "link"), 1, "the store itself")
    refused(place.run(place.folder / "link", place.root), 1, "the store itself")
    refused(place.run(place.root, place.folder), 1, "contains the store")
    refused(place.run(place.root, "/"), 1, "contains the store")
    refused(place.run(place.root, inner), 1, "lies in the blobs")
    refused(place.run(".", ".", cwd=place.root), 1, "the store itself")


def test_a_mount_that_lives_is_not_covered(place: Place) -> None:
    """The second time is an error, whoever's store it is."""
    place.mount()
    before = place.mounted
    refused(place.run(place.root, place.point), 1, "already mounted", str(place.root))
    refused(place.run(place.root, f"{place.point}/"), 1, "already mounted")
    assert place.mounted == before


def test_a_log_that_cannot_be_written_is_told(place: Place) -> None:
    """Before anything is mounted."""
    done = place.run(place.root, place.point, "--log-file", place.folder / "no/log")
    refused(done, 1, "no/log", "No such file")
    assert place.mounted is None


def test_what_libfuse_says_is_told(place: Place) -> None:
    """It prints on standard error; that becomes part of our line."""
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for folder in (place.folder, *place.folder.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    checkout = Path(__file__).parents[2]
    probe = [*user, sys.executable, "-c", "import fusefs"]
    if subprocess.run(probe, cwd=checkout, check=False, capture_output=True).returncode != 0:
        pytest.skip("other users cannot read this checkout, or its Python")
    done = subprocess.run(
        [*user, sys.executable, "-m", "fusefs", place.root, place.point],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    refused(done, 1, str(place.point), "fuse")


@pytest.mark.parametrize("name", ["with space", "é ü", "a,b\\c", "tab\there", "#hash", "\udcff"])
def test_any_name_is_mounted_and_shown(place: Place, name: str) -> None:
    """ROOT is the source, and the type is our own."""
    place.root = place.folder / f"root {name}"
    place.point = place.folder / f"point {name}"
    place.root.mkdir()
    place.point.mkdir()
    place.mount()
    assert place.mounted is not None
    assert (place.mounted.source, place.mounted.kind) == (str(place.root), "fuse.contentfs")
    os.listdir(place.point)


def test_links_and_relative_names_are_followed(place: Place) -> None:
    """The mountpoint is where the link leads; the source is the user's own name for it."""
    links = place.folder / "links"
    links.mkdir()
    (links / "point").symlink_to("../point")
    (links / "root").symlink_to(place.root)
    done = place.run("root", "point/", cwd=links)
    assert done.returncode == 0, done.stderr
    assert place.mounted is not None
    assert place.mounted.source == str(links / "root")
    done = place.run("../root", "../links/point", cwd=links)
    refused(done, 1, "already mounted")


@pytest.mark.parametrize(
    ("options", "expected", "excluded"),
    [
        ("", "rw,nosuid,nodev,relatime", "ro,default_permissions,allow_other"),
        ("ro,noexec,noatime", "ro,nosuid,nodev,noexec,noatime", "rw"),
        ("dev,suid,rw", "rw", "nodev,nosuid"),
        ("allow_other", "allow_other,default_permissions", ""),
        ("allow_root", "allow_other,default_permissions", ""),
        ("uid=1,gid=1,umask=077,allow_delete,nofail,x-y", "rw", ""),
    ],
)
def test_options_reach_the_kernel(place: Place, options: str, expected: str, excluded: str) -> None:
    """Mount flags are on, ours are not handed on."""
    place.mount("-o", options)
    found = set(
        subprocess.run(
            ["findmnt", "-no", "OPTIONS", place.point], capture_output=True, text=True, check=True
        )
        .stdout.strip()
        .split(",")
    )
    assert found >= set(expected.split(","))
    assert not found & set(excluded.split(","))


def test_flags_of_mount_are_taken(place: Place) -> None:
    """As /sbin/mount.contentfs the command gets them."""
    place.mount("-n", "-s", "-v", "-o", "rw", "-o", "noauto")


def test_the_background_process_lets_go_of_everything(place: Place) -> None:
    """Of the terminal, the folder, and the lock of a script that called it."""
    with open(place.folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = place.mount(pass_fds=(lock.fileno(),), cwd=place.folder)
    with open(place.folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert os.getsid(server) == server
    assert os.readlink(f"/proc/{server}/cwd") == "/"
    assert {os.readlink(f"/proc/{server}/fd/{number}") for number in range(3)} == {"/dev/null"}


def test_closed_standard_descriptors_do_no_harm(place: Place) -> None:
    """Else /dev/fuse would get the number of one, and all that is printed with it."""
    command = f'exec {sys.executable} -m fusefs "$0" "$1" 0<&- 1>&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, place.root, place.point], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0
    assert sorted(os.listdir(place.point)) == ["blobs", "ingest"]


def test_more_is_read_ahead(place: Place) -> None:
    """As root the daemon asks the kernel for larger requests."""
    place.mount()
    assert place.mounted is not None
    path = Path("/sys/class/bdi", place.mounted.device, "read_ahead_kb")
    assert path.read_text() == "1024\n"


def test_it_unmounts_when_nobody_waits_for_it_any_more(place: Place) -> None:
    """Who asked for the mount was killed before it knew of it: it must not stay."""
    place.odd()
    process = place.spawn(ODD_START="1")
    with place.gate():
        server = place.server(process.pid)
        process.kill()
        process.wait(SECONDS)
    assert ended(server)
    assert place.mounted is None


def test_it_tells_when_the_background_process_is_killed(place: Place) -> None:
    """The caller does not wait for ever, and takes the dead mount away."""
    place.odd()
    process = place.spawn(ODD_START="1")
    with place.gate():
        kill(place.server(process.pid))
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert b"SIGKILL" in said
    assert place.mounted is None
