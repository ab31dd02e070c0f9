"""``dist verify``: what is wrong is named, and nothing else is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from store import Digest, NotFound, Ref
from store.verify import Verifier, quarantine
from tests.dist.command import DIST, NO_SUCH, Dist, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 2**20


@pytest.fixture(autouse=True)
def state(dist: Dist, tmp_path: Path) -> Path:
    """The folder where verifications note how far they came."""
    dist.env["XDG_STATE_HOME"] = str(tmp_path / "state")
    return tmp_path / "state" / "contentfs"


def corrupt(dist: Dist, digest: str) -> str:
    """Change a bit of a blob, and say what it hashes to now."""
    path = dist.store.path(digest)
    os.chmod(path, 0o644)
    with open(path, "r+b") as blob:
        data = bytearray(blob.read())
        data[len(data) // 2] ^= 1
        blob.seek(0)
        blob.write(data)
    os.chmod(path, 0o444)
    return digest_of(bytes(data))


def snapshot(root: Path) -> list[tuple[str, int]]:
    """Everything below a folder, with its time of change."""
    return sorted((str(path), path.lstat().st_ctime_ns) for path in root.rglob("*"))


@pytest.fixture
def digests(dist: Dist) -> list[str]:
    """Ten blobs, sorted."""
    return sorted(dist.plant(b"%d" % number * 1000) for number in range(10))


def test_sound(dist: Dist, digests: list[str]) -> None:
    """A sound store is exit 0, no result, and a summary; nothing of it changes."""
    with dist.store.writer("r") as writer:
        writer.write(b"x")
    before = snapshot(dist.root)
    done = dist("verify")
    assert done.stdout == b""
    assert done.stderr.decode() == f"dist: verified {len(digests)} blobs, 10kB: nothing wrong\n"
    assert snapshot(dist.root) == before


def test_no_store(dist: Dist) -> None:
    """A store that is not there has nothing wrong, and is not made."""
    dist("verify")
    assert not dist.root.exists()


@pytest.mark.parametrize("threads", ["1", "7"])
def test_corrupt(dist: Dist, digests: list[str], threads: str) -> None:
    """Each corrupt blob is named, with what was expected and found, in order; exit 1."""
    found = {digest: corrupt(dist, digest) for digest in digests[2:5]}
    lines = dist.out("verify", "-j", threads, code=1).splitlines()
    assert lines == [
        f"{digest}: corrupt: expected {digest}, found {found[digest]}" for digest in digests[2:5]
    ]


def test_json(dist: Dist, digests: list[str]) -> None:
    """``--json`` has the same facts, and null for what does not apply."""
    found = corrupt(dist, digests[0])
    (dist.root / "blobs" / "odd").touch()
    blob, odd = map(json.loads, dist.out("verify", "--json", code=1).splitlines())
    assert blob == {
        "digest": digests[0],
        "ref": None,
        "path": None,
        "problem": "corrupt",
        "expected": digests[0],
        "found": found,
        "quarantined": False,
    }
    assert list(odd) == list(blob)
    assert (odd["path"], odd["problem"], odd["digest"]) == ("blobs/odd", "no folder", None)


def test_named(dist: Dist, digests: list[str]) -> None:
    """Only those that are named are looked at; what is no digest or not there fails by itself."""
    corrupt(dist, digests[0])
    (dist.root / "blobs" / "odd").touch()
    assert dist.out("verify", *digests[1:]) == ""
    assert digests[0] in dist.out("verify", "-", stdin="\n".join(digests).encode(), code=1)
    done = dist("verify", "nonsense", digests[1], NO_SUCH, code=1)
    assert done.stdout == b""
    assert [b"nonsense" in line for line in done.stderr.splitlines()] == [True, False, False]
    assert f"blob {NO_SUCH}: not found".encode() in done.stderr


def test_cannot_be_read(dist: Dist) -> None:
    """A named blob in whose place something else stands is wrong, and stays there."""
    folder = dist.root / "blobs" / "sha256"
    folder.mkdir(parents=True)
    os.mkfifo(folder / ("0" * 64))
    assert "not a regular file" in dist.out("verify", "--quarantine", NO_SUCH, code=1)
    assert (folder / ("0" * 64)).is_fifo()


def test_quarantine(dist: Dist, digests: list[str]) -> None:
    """A corrupt blob is put away, reading it fails at once, and the next ingest repairs it."""
    digest, data = digests[0], dist("get", digests[0]).stdout
    found = corrupt(dist, digest)
    line = dist.out("verify", "--quarantine", code=1)
    assert line.endswith(f"found {found}; moved to quarantine\n")
    assert "not found" in dist.error("get", digest)
    assert digest_of((dist.root / "quarantine" / "sha256" / digest[7:]).read_bytes()) == found
    assert dist.out("verify") == ""
    assert dist.out("ingest", "--expected-digest", digest, stdin=data) == f"{digest}\n"
    assert dist("get", digest).stdout == data
    corrupt(dist, digest)
    assert json.loads(dist.out("verify", "--quarantine", "--json", code=1))["quarantined"] is True
    assert dist.out("list", "-q").split() == digests[1:]


def test_quarantine_fails(dist: Dist, digests: list[str]) -> None:
    """Where a blob cannot be put away that is told, it is left, and the others are looked at."""
    for digest in digests[:2]:
        corrupt(dist, digest)
    (dist.root / "quarantine").write_text("in the way")
    done = dist("verify", "--quarantine", code=1)
    assert len(done.stdout.splitlines()) == 2
    assert b"quarantine\n" not in done.stdout
    assert done.stderr.count(b"root/quarantine: ") == 2
    assert dist.out("list", "-q").split() == digests


def test_quarantine_spares_a_successor(dist: Dist) -> None:
    """A file that has taken a corrupt blob's place since it was checked is left there."""
    digest = dist.put(b"x")
    corrupt(dist, digest)
    store = dist.store
    (checked,) = Verifier(store).check([Digest.parse(digest)])
    assert checked.corrupt
    kept = open(store.path(digest), "rb")  # noqa: SIM115 - so that its inode number is not used again
    store.delete(digest)
    assert quarantine(store, checked) is False
    dist.put(b"x")
    assert quarantine(store, checked) is False
    kept.close()
    assert dist("get", digest).stdout == b"x"
    assert list((dist.root / "quarantine" / "sha256").iterdir()) == []


def test_layout(dist: Dist) -> None:
    """What is no blob under blobs/, and no ingest under ingest/, is named."""
    with dist.store.writer("r") as writer:
        writer.write(b"x")
    blobs, ingests = dist.root / "blobs", dist.root / "ingest"
    (blobs / "sha256").mkdir(parents=True)
    (blobs / "odd").touch()
    (blobs / "sha256" / "README\n").touch()
    (blobs / "sha256" / ("1" * 64)).symlink_to("README")
    (blobs / "md5").mkdir()
    (blobs / "md5" / ("2" * 32)).touch()
    (ingests / "odd").touch()
    (ingests / ("3" * 64)).mkdir()
    (ingests / ("4" * 64)).mkdir()
    (ingests / ("4" * 64) / "data").touch()
    assert sorted(dist.out("verify", code=1).splitlines()) == [
        f"blobs/md5/{'2' * 32}: not the name of a blob",
        "blobs/odd: no folder",
        f"blobs/sha256/{'1' * 64}: not a regular file",
        r"blobs/sha256/README\n: not the name of a blob",
        f"ingest/{'3' * 64}: half made: it has no data",
        f"ingest/{'4' * 64}: its ref is missing or another's, so it is not listed",
        "ingest/odd: not the folder of an ingest",
    ]


@pytest.mark.parametrize("name", ["total", "expected", "startedat", "updatedat"])
def test_ingest_files(dist: Dist, name: str) -> None:
    """A file of an ingest that does not parse is named; one that a writer holds is left alone."""
    with dist.store.writer("a\nb") as writer:
        writer.write(b"x")
    folder = dist.store.layout.ingest(Ref("a\nb"))
    with open(f"{folder}/{name}", "wb") as file:
        file.write(b"\xff")
    line = dist.out("verify", code=1)
    assert (
        line == rf"ingest a\nb ({folder[len(str(dist.root)) + 1 :]}): its {name} does not parse"
        "\n"
    )
    with dist.store.writer("a\nb"):
        with open(f"{folder}/{name}", "wb") as file:
            file.write(b"\xff")
        assert dist.out("verify") == ""


def test_rate(dist: Dist) -> None:
    """``--rate`` holds for all threads together."""
    for number in range(4):
        dist.plant(b"%d" % number * 50_000)
    slow = dist.shell("TIMEFORMAT=%R; time dist verify -j 4 --rate 400k")
    assert float(slow.stderr.split()[-1]) >= 200_000 / 400_000


class TestResume:
    """A verification that is cut short."""

    @pytest.fixture
    def many(self, dist: Dist) -> list[str]:
        """More than are hashed ahead, of which the second is corrupt and the rest takes long."""
        many = sorted(dist.plant(b"%d" % number * 100) for number in range(400))
        corrupt(dist, many[1])
        return many

    def interrupted(
        self, start: Callable[..., subprocess.Popen[bytes]], number: signal.Signals
    ) -> subprocess.Popen[bytes]:
        """Begin a verification that takes for ever, and interrupt it when it has got somewhere."""
        process = start("verify", "-j", "1", "--rate", "20k")
        assert process.stdout is not None
        assert b"corrupt" in process.stdout.readline()
        process.send_signal(number)
        process.communicate()
        return process

    def test_interrupted(
        self,
        dist: Dist,
        start: Callable[..., subprocess.Popen[bytes]],
        many: list[str],
        state: Path,
    ) -> None:
        """After ^C --resume goes on from there, and still tells what was bad before."""
        assert self.interrupted(start, signal.SIGINT).returncode == 130
        (note,) = state.iterdir()
        noted = json.loads(note.read_text())
        assert noted["after"] in many[:300]
        assert noted["bad"] == [many[1]]
        done = dist("verify", "--resume", code=1)
        first, last = done.stderr.decode().splitlines()
        assert first == f"dist: going on after {noted['after']}"
        left = len(many) - many.index(noted["after"])
        assert f"verified {left} blobs" in last
        assert many[1] in done.stdout.decode()
        assert list(state.iterdir()) == []

    def test_from_the_start(self, dist: Dist, many: list[str]) -> None:
        """Where nothing was cut short --resume verifies everything."""
        assert f"verified {len(many)} blobs" in dist("verify", "--resume", code=1).stderr.decode()

    @pytest.mark.parametrize(
        "noted", ["", "{}", "[]", '{"root": 1, "after": 2, "bad": 3}', "\udcff"]
    )
    def test_note_that_cannot_be_read(
        self,
        dist: Dist,
        start: Callable[..., subprocess.Popen[bytes]],
        many: list[str],
        state: Path,
        noted: str,
    ) -> None:
        """A note that makes no sense counts as none."""
        self.interrupted(start, signal.SIGINT)
        (note,) = state.iterdir()
        note.write_bytes(noted.encode(errors="surrogateescape"))
        assert f"verified {len(many)} blobs" in dist("verify", "--resume", code=1).stderr.decode()

    def test_other_store(
        self,
        dist: Dist,
        start: Callable[..., subprocess.Popen[bytes]],
        many: list[str],
        tmp_path: Path,
    ) -> None:
        """The note of one store says nothing of another."""
        assert many
        self.interrupted(start, signal.SIGINT)
        done = dist("--root", str(tmp_path / "other"), "verify", "--resume")
        assert b"verified 0 blobs" in done.stderr

    def test_nowhere_to_note(
        self,
        dist: Dist,
        start: Callable[..., subprocess.Popen[bytes]],
        many: list[str],
        tmp_path: Path,
    ) -> None:
        """Where the note cannot be written that is said, and the verification itself is fine."""
        assert many
        (tmp_path / "file").touch()
        dist.env["XDG_STATE_HOME"] = str(tmp_path / "file")
        process = start("verify", "-j", "1", "--rate", "20k")
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert b"--resume will not find the place" in process.communicate()[1]
        assert process.returncode == 130

    def test_named_ones_are_not_resumed(self, dist: Dist) -> None:
        """--resume with DIGESTs makes no sense."""
        assert "--resume" in dist.error("verify", "--resume", NO_SUCH, code=2)


def test_read_only(dist: Dist, digests: list[str]) -> None:
    """Only --quarantine writes; where it may not, what is wrong is told all the same."""
    corrupt(dist, digests[0])
    store = type(dist.store)(dist.root, read_only=True)
    (checked,) = Verifier(store).check([Digest.parse(digests[0])])
    with pytest.raises(Exception, match="read-only"):
        quarantine(store, checked)
    assert dist.out("list", "-q").split() == digests


def test_deleted_meanwhile(dist: Dist) -> None:
    """A blob that goes while others are verified is no fault."""
    (checked,) = Verifier(dist.store).check([Digest.parse(NO_SUCH)])
    assert isinstance(checked.error, NotFound)
    assert not checked.corrupt


def test_terminal(dist: Dist) -> None:
    """On a terminal a line says how far it is of how much, and is gone at the end."""
    dist.put(bytes(64 * MIB))
    ours, theirs = os.openpty()
    process = subprocess.Popen([DIST, "verify", "--rate", "200M"], stderr=theirs, env=dist.env)
    os.close(theirs)
    shown = b""
    while b"nothing wrong" not in shown:
        shown += os.read(ours, 1000)
    os.close(ours)
    assert process.wait() == 0
    assert b"of 67.11MB (" in shown
    assert shown.rpartition(b"\r")[0].rpartition(b"\r")[2].strip() == (
        b"dist: verified 1 blob, 67.11MB: nothing wrong"
    )
