"""Who may do what: others get nothing unless they are let in, and then what the modes say."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.reliability.mounted import CHECKOUT, ENVIRONMENT, Mounted, can_mount

pytestmark = can_mount

_NOBODY = 65534
_CONTENT = b"what is stored"
_NAME = sha256(_CONTENT).hexdigest()

Mount = Callable[..., Mounted]


@pytest.fixture
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """Mount a store with one blob and one ingest, where others could reach it."""
    made: list[Mounted] = []
    # Not below the folder of all tests, which is closed to others.
    work = Path("/tmp") / f"{tmp_path_factory.mktemp('privileges').name}-{os.getpid()}"
    work.mkdir(mode=0o755)

    def begin(*options: str) -> Mounted:
        made.append(Mounted(work, *options))
        made[-1].start()
        return made[-1]

    yield begin
    for mounted in made:
        mounted.stop()
    shutil.rmtree(work)


def fill(mounted: Mounted) -> None:
    """Store a blob and begin an ingest."""
    (mounted.ingest / f"sha256:{_NAME}").write_bytes(_CONTENT)
    (mounted.ingest / "begun").write_bytes(b"bytes")


def other(script: str, mounted: Mounted) -> str:
    """Run a script as another user, and return what it prints, errors and all."""
    done = subprocess.run(
        ["sh", "-c", script],
        cwd="/",
        env={**os.environ, "M": str(mounted.point), "B": str(mounted.blobs / _NAME), "LC_ALL": "C"},
        user=_NOBODY,
        group=_NOBODY,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout


def refused(said: str) -> bool:
    """Whether every line is a refusal."""
    return bool(said) and all("Permission denied" in line for line in said.splitlines())


def test_others_get_nothing(mount: Mount) -> None:
    """Without allow_other another user can neither look, read nor write."""
    mounted = mount()
    fill(mounted)
    for script in ("ls $M", "cat $B", "stat $M/ingest", "echo x > $M/ingest/a", "rm -f $B"):
        assert refused(other(script, mounted)), script
    assert sorted(os.listdir(mounted.ingest)) == ["begun"]


def test_who_is_let_in_may_do_what_the_modes_say(mount: Mount) -> None:
    """With allow_other another user reads, and changes nothing that is not his."""
    mounted = mount("-o", "allow_other,allow_delete")
    fill(mounted)
    assert other("cat $B", mounted) == _CONTENT.decode()
    assert other("cat $M/ingest/begun", mounted) == "bytes"
    for script in (
        "echo x > $M/ingest/new",
        "echo x >> $M/ingest/begun",
        "mv $M/ingest/begun $M/ingest/other",
        "rm -f $M/ingest/begun",
        "rm -f $B",
        "truncate -s 0 $M/ingest/begun",
    ):
        assert refused(other(script, mounted)), script
    assert "not permitted" in other("chmod 777 $M/ingest/begun", mounted)
    said = other(f"{sys.executable} -c \"import os; os.setxattr('$M/ingest/begun', "
                 "'user.content.expected-size', b'1')\"", mounted)  # fmt: skip
    assert "Permission denied" in said
    assert (mounted.ingest / "begun").read_bytes() == b"bytes"
    assert (mounted.blobs / _NAME).read_bytes() == _CONTENT


def test_a_umask_closes_the_rest(mount: Mount) -> None:
    """With allow_other and umask=077 another user gets nothing again."""
    mounted = mount("-o", "allow_other,umask=077")
    fill(mounted)
    for script in ("ls $M/blobs", "cat $B", "echo x > $M/ingest/a"):
        assert refused(other(script, mounted)), script


def test_uid_gives_it_to_another_user(mount: Mount) -> None:
    """With uid= another user stores a blob, and the store's files stay the daemon's."""
    mounted = mount("-o", f"allow_other,uid={_NOBODY},gid={_NOBODY}")
    script = f"printf 'what is stored' > $M/ingest/sha256:{_NAME} && cat $B && stat -c %u $B"
    assert other(script, mounted) == f"what is stored{_NOBODY}\n"
    for path in mounted.root.rglob("*"):
        assert path.stat().st_uid == os.geteuid()


def test_no_set_user_id_bit_and_no_device_appears(mount: Mount) -> None:
    """Neither what a client asks for, nor what was done to the store's own files, is shown."""
    mounted = mount("-o", "allow_other")
    fill(mounted)
    begun = mounted.ingest / "begun"
    begun.chmod(0o6777)
    source = mounted.root.with_name("source")
    source.write_bytes(_CONTENT)
    subprocess.run(["install", "-m", "6755", source, mounted.ingest / "installed"], check=True)
    with pytest.raises(PermissionError):
        os.mknod(mounted.ingest / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    stored = mounted.root / "blobs" / "sha256" / _NAME
    stored.chmod(0o7777)
    os.mknod(stored.with_name("0" * 64), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    mounted.unmount()
    mounted.start()
    shown = [*mounted.point.rglob("*")]
    assert {path.name for path in shown} >= {"begun", "installed", _NAME}
    for path in shown:
        mode = path.stat().st_mode
        assert not mode & 0o7022, path
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode), path
    found = subprocess.run(
        ["findmnt", "-no", "OPTIONS", mounted.point], capture_output=True, text=True, check=True
    )
    assert {"nosuid", "nodev"} <= set(found.stdout.strip().split(","))


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_what_the_daemon_makes_has_the_modes_of_its_umask(tmp_path: Path, umask: int) -> None:
    """Blobs are 0444 and all else is as a file or folder of the user who mounts, no more."""
    before = os.umask(umask)
    mounted = Mounted(tmp_path)
    try:
        mounted.start()
        fill(mounted)
        for path in mounted.root.rglob("*"):
            wanted = 0o777 if path.is_dir() else 0o444 if path.name == _NAME else 0o666
            assert stat.S_IMODE(path.stat().st_mode) == wanted & ~umask, path
    finally:
        os.umask(before)
        mounted.stop()


_AS_USER = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mknod -m 666 /mnt/fuse c 10 229
mount --bind /mnt/fuse /dev/fuse
echo user_allow_other > /mnt/fuse.conf
mount --bind /mnt/fuse.conf /etc/fuse.conf
user() { id=$1; shift; setpriv --reuid="$id" --regid="$id" --clear-groups -- "$@"; }
user 65534 "$PYTHON" -c "import pyfuse3" || exit 77
mkdir -m 755 /mnt/home
chown 65534:65534 /mnt/home
user 65534 mkdir /mnt/home/root /mnt/home/point
user 65534 "$PYTHON" -m fusefs /mnt/home/root /mnt/home/point $OPTIONS
one=/mnt/home/point/ingest/one
user 65534 sh -c "printf x > $one"
echo "the user: $(user 65534 cat $one)"
echo "another: $(user 4711 cat $one 2>&1)"
echo "who serves: $(ps -o uid= -p "$(pgrep -f "^$PYTHON -m fusefs")" | tr -d ' ')"
echo "owners: $(find /mnt/home/root -printf '%U\n' | sort -u | tr '\n' ' ')"
user 65534 fusermount3 -u /mnt/home/point
"""


@pytest.mark.parametrize(
    ("options", "another"), [("", "Permission denied"), ("-o allow_other", ": x")]
)
def test_a_user_mounts_without_root(options: str, another: str) -> None:
    """The daemon is the user's and makes the user's files; others get in if he lets them."""
    if any(shutil.which(command) is None for command in ("unshare", "setpriv", "fusermount3")):
        pytest.skip("unshare, setpriv and fusermount3 are not all here")
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", _AS_USER],
        env={**ENVIRONMENT, "PYTHON": sys.executable, "OPTIONS": options, "LC_ALL": "C"},
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 77:
        pytest.skip("the interpreter is closed to others")
    assert done.returncode == 0, done.stdout
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert said["the user"] == "x"
    assert another in f": {said['another']}"
    assert said["who serves"] == "65534"
    assert said["owners"] == "65534 "
