"""`-o native_blobs`: the kernel reads blobs by itself, and the mount ends as whole as any other."""

from __future__ import annotations

import errno
import hashlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fusefs.mounterror import MountError
from fusefs.mounts import Mount, read_mounts, topmost
from fusefs.native import NativeBlobs
from store import algorithms
from tests.mounting.place import SECONDS, Place, ended, kill

CONTENT = b"read by the kernel"
HEX = hashlib.sha256(CONTENT).hexdigest()
NATIVE = ("-o", "native_blobs")
CHECKOUT = Path(__file__).parents[2]

ENDINGS = (
    ("umount",),
    ("umount", "-R"),
    ("umount", "-l"),
    ("fusermount3", "-uz"),
    (str(CHECKOUT / "mount.sh"), "-u"),
)


@pytest.fixture
def open_place(place: Place) -> Iterator[Place]:
    """A place that others than root can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        open_place = Place(Path(folder))
        yield open_place
        open_place.clean_up()


def bound(place: Place) -> Mount | None:
    """What is mounted on blobs/."""
    return topmost(str(place.point / "blobs"))


def left(place: Place) -> list[str]:
    """All mountpoints at or below the place's."""
    return [mount.point for mount in read_mounts() if mount.point.startswith(str(place.point))]


def commit(place: Place) -> Path:
    """Store CONTENT through the mount; the path at which it must be from then on."""
    (place.point / "ingest" / f"sha256:{HEX}").write_bytes(CONTENT)
    return place.point / "blobs" / "sha256" / HEX


def until_mounts(condition: Callable[[], bool]) -> None:
    """Wait for the table of mounts to be so; the kernel tells when it changes."""
    until = time.monotonic() + SECONDS
    with open("/proc/self/mountinfo", "rb") as table:
        poll = select.poll()
        poll.register(table, select.POLLPRI)
        while not condition():
            assert poll.poll(max(0.0, until - time.monotonic()) * 1000), "it never came so far"


def test_blobs_are_the_stored_files(place: Place) -> None:
    """A fresh store is bound too, and what is committed is there at once, also behind its back."""
    place.mount(*NATIVE)
    blob = commit(place)
    assert blob.read_bytes() == CONTENT
    assert os.path.samefile(blob, place.root / "blobs" / "sha256" / HEX)
    assert sorted(os.listdir(place.point / "blobs")) == sorted(algorithms())
    assert os.listdir(place.point / "ingest") == []
    file = os.open(blob, os.O_RDONLY)
    (place.root / "blobs" / "sha256" / HEX).unlink()
    assert not blob.exists()
    assert os.read(file, 100) == CONTENT
    os.close(file)


def test_the_table_of_mounts_tells_it(place: Place) -> None:
    """The mount as ever, and below it the folder, read-only."""
    place.mount("-o", "native_blobs,noexec")
    shown = subprocess.check_output(
        ["findmnt", "-Rrno", "TARGET,SOURCE,VFS-OPTIONS", place.point], text=True
    )
    above, below = shown.splitlines()
    assert above.split()[:2] == [str(place.point), str(place.root)]
    target, source, options = below.split()
    assert target == str(place.point / "blobs")
    assert source.endswith("/root/blobs]")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options.split(","))


def test_blobs_cannot_be_changed(place: Place) -> None:
    """Not by root either."""
    place.mount(*NATIVE)
    blob = commit(place)
    new = blob.with_name("new")
    changes: list[Callable[[], object]] = [
        lambda: os.open(blob, os.O_WRONLY),
        lambda: os.open(new, os.O_WRONLY | os.O_CREAT),
        lambda: os.truncate(blob, 0),
        lambda: os.unlink(blob),
        lambda: os.rename(blob, new),
        lambda: os.link(blob, new),
        lambda: os.mkdir(new),
        lambda: os.chmod(blob, 0o600),
        lambda: os.chown(blob, 1, 1),
        lambda: os.utime(blob),
        lambda: os.setxattr(blob, "user.name", b"value"),
    ]
    for change in changes:
        with pytest.raises(OSError, match="Read-only") as caught:
            change()
        assert caught.value.errno == errno.EROFS
    assert blob.read_bytes() == CONTENT


def test_the_folders_stay_apart(place: Place) -> None:
    """A rename or link out of one is EXDEV, as without the option; blobs have no attributes."""
    place.mount(*NATIVE)
    blob = commit(place)
    ingest = place.point / "ingest" / "name"
    ingest.touch()
    there, here = blob.with_name("new"), ingest.with_name("new")
    for call, words in (
        (os.rename, (ingest, there)),
        (os.rename, (blob, here)),
        (os.link, (blob, here)),
    ):
        with pytest.raises(OSError, match="cross-device"):
            call(*words)
    with pytest.raises(OSError, match="Read-only"):
        os.link(ingest, there)
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(blob, "user.content.digest")


@pytest.mark.parametrize("command", ENDINGS)
def test_an_unmount_takes_both_away(place: Place, command: Sequence[str]) -> None:
    """As it ends a mount without the option: with exit status 0."""
    process = place.start(*NATIVE)
    commit(place)
    subprocess.run([*command, place.point], check=True)
    assert process.wait(SECONDS) == 0
    assert left(place) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_takes_both_away(place: Place, number: signal.Signals) -> None:
    """Without waiting for clients that are not there."""
    process = place.start(*NATIVE)
    process.send_signal(number)
    assert process.wait(SECONDS) == 0
    assert left(place) == []
    assert "is busy" not in place.log.read_text()


def test_an_open_blob_does_not_stop_a_signal(place: Place) -> None:
    """Who has it open can even read on."""
    process = place.start(*NATIVE)
    with open(commit(place), "rb") as file:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert left(place) == []
        assert file.read() == CONTENT


def test_an_open_blob_is_in_the_way_of_umount(place: Place) -> None:
    """As of every unmount; nothing is changed then."""
    place.mount(*NATIVE)
    with open(commit(place), "rb"):
        before = bound(place)
        assert subprocess.run(["umount", place.point], check=False).returncode != 0
        assert before is not None
        assert bound(place) == before


def test_the_bind_comes_back_where_the_mount_stays(place: Place) -> None:
    """It has made way for an unmount that failed; meanwhile the view shows the same blobs."""
    place.mount(*NATIVE)
    blob = commit(place)
    with open(place.point / "ingest" / "name", "wb"):
        assert subprocess.run(["umount", place.point], check=False).returncode != 0
        assert blob.read_bytes() == CONTENT
        assert "make way" in place.log.read_text()
        until_mounts(lambda: bound(place) is not None)
        assert blob.read_bytes() == CONTENT
        with pytest.raises(OSError, match="Read-only"):
            blob.unlink()
    subprocess.run(["umount", place.point], check=True)
    assert left(place) == []


def test_the_bind_stays_away_from_others(place: Place) -> None:
    """What is mounted in our place by the time that it would come back is not its affair."""
    process = place.start(*NATIVE)
    subprocess.run(["umount", place.point], check=True)
    second = place.mount()
    assert process.wait(SECONDS) == 0
    assert left(place) == [str(place.point)]
    os.kill(second, signal.SIGTERM)
    assert ended(second)


def test_a_mount_with_the_same_numbers_is_another(place: Place) -> None:
    """What is bound again is bound into the mount whose connection is at hand, or not at all."""
    place.mount(*NATIVE)
    subprocess.run(["umount", place.point / "blobs"], check=True)
    mount = place.mounted
    assert mount is not None
    native = NativeBlobs(str(place.root / "blobs"), mount, programs=True)
    reader, writer = os.pipe()
    os.close(reader)  # to poll(2) the other end is now as a connection that was cut off
    with pytest.raises(MountError, match="taken away"):
        native.bind(writer)
    os.close(writer)
    assert bound(place) is None
    native.bind()
    assert bound(place) is not None


def test_other_programs_do_not_disturb_it(place: Place) -> None:
    """A statfs alone is no unmount."""
    place.mount(*NATIVE)
    before = bound(place)
    subprocess.run(["df", place.point], check=True, stdout=subprocess.DEVNULL)
    assert before is not None
    assert bound(place) == before


def test_a_killed_one_is_replaced(place: Place) -> None:
    """Both of its layers, before and after somebody has met with the dead mount."""
    kill(place.mount(*NATIVE))
    server = place.mount(*NATIVE)
    blob = commit(place)
    kill(server)
    with pytest.raises(OSError, match="endpoint"):
        os.listdir(place.point)
    place.mount(*NATIVE)
    assert left(place) == [str(place.point), str(place.point / "blobs")]
    assert blob.read_bytes() == CONTENT


def test_a_killed_one_can_be_unmounted(place: Place) -> None:
    """By `./mount.sh -u`, as a living one."""
    kill(place.mount(*NATIVE))
    subprocess.run([CHECKOUT / "mount.sh", "-u", place.point], check=True)
    assert left(place) == []


def test_it_works_where_mounts_are_shared(place: Place) -> None:
    """As systemd has them: the other name spaces see it come and go."""
    shared, other = place.folder / "shared", place.folder / "other"
    for folder in (shared, other):
        folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared], check=True)
    subprocess.run(["mount", "--make-shared", shared], check=True)
    subprocess.run(["mount", "--bind", shared, other], check=True)
    place.point = shared / "point"
    place.point.mkdir()
    process = place.start(*NATIVE)
    commit(place)
    assert (other / "point" / "blobs" / "sha256" / HEX).read_bytes() == CONTENT
    subprocess.run(["umount", place.point], check=True)
    assert process.wait(SECONDS) == 0
    assert left(place) == []
    assert topmost(str(other / "point")) is None


def test_a_store_that_may_not_be_changed(place: Place) -> None:
    """`ro` binds what is there, makes nothing, and says so where there is nothing."""
    done = place.run("-o", "ro,native_blobs", place.root, place.point)
    assert done.returncode == 1
    assert done.stderr == f"contentfs: native_blobs: there is no folder {place.root}/blobs yet\n"
    assert os.listdir(place.root) == []
    folder = place.root / "blobs" / "sha256"
    folder.mkdir(parents=True)
    (folder / HEX).write_bytes(CONTENT)
    place.mount("-o", "ro,native_blobs")
    assert (place.point / "blobs" / "sha256" / HEX).read_bytes() == CONTENT
    assert os.listdir(place.root) == ["blobs"]
    assert os.listdir(place.root / "blobs") == ["sha256"]


def test_what_cannot_be_bound_is_not_mounted(place: Place) -> None:
    """A mount inside the folder would not show, so it is one line, and nothing is left."""
    folder = place.root / "blobs" / "sha256"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    done = place.run(*NATIVE, place.root, place.point)
    assert done.returncode == 1
    assert done.stderr.startswith(f"contentfs: native_blobs: {folder} is a mount of its own")
    assert done.stderr.count("\n") == 1
    assert left(place) == []


def test_others_than_root_may_not(open_place: Place) -> None:
    """One line, before anything is made or mounted."""
    code = """
import os
import fusefs.mount
from fusefs.cli import main
os.seteuid(65534)
raise SystemExit(main())
"""
    for folder in (open_place.root, open_place.point):
        folder.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", code, "-f", *NATIVE, open_place.root, open_place.point],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "native_blobs: only root may mount so" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(open_place.root) == []


def test_others_see_blobs_only_where_they_may(open_place: Place) -> None:
    """The path leads through the mount, which is root's alone without allow_other."""
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat"]
    for options, status in (("native_blobs", 1), ("native_blobs,allow_other", 0)):
        open_place.mount("-o", options)
        done = subprocess.run([*command, commit(open_place)], capture_output=True, check=False)
        assert done.returncode == status, done.stderr
        subprocess.run(["umount", open_place.point], check=True)
