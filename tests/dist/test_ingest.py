"""``dist ingest``: verified, resumable, and patient with others of the same mind."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.dist.command import DIST, NO_SUCH, Dist, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MIB = 2**20
NOTHING = digest_of(b"")


def patterned(size: int) -> bytes:
    """``size`` bytes of which no two MiB are alike."""
    return b"".join(i.to_bytes(8, "big") for i in range(size // 8 + 1))[:size]


def active(dist: Dist) -> dict[str, dict[str, object]]:
    """The ingests in progress as ``dist active --json`` shows them, by ref."""
    shown = [json.loads(line) for line in dist.out("active", "--json").splitlines()]
    return {each["ref"]: each for each in shown}


@pytest.mark.parametrize("size", [0, 1, 4096, MIB, 3 * MIB + 5])
@pytest.mark.parametrize("source", ["pipe", "file"])
def test_ingest(dist: Dist, tmp_path: Path, size: int, source: str) -> None:
    """What comes in is what is there afterwards, under the digest that is printed."""
    data = patterned(size)
    if source == "pipe":
        done = dist("ingest", "r", stdin=data)
    else:
        (tmp_path / "input").write_bytes(data)
        done = dist.shell("dist ingest r < input")
    digest = done.stdout.decode()
    assert digest == f"{digest_of(data)}\n"
    assert done.stderr == b""
    assert dist("get", digest.strip()).stdout == data
    assert active(dist) == {}


def test_file_that_is_partly_read(dist: Dist, tmp_path: Path) -> None:
    """The input begins where standard input stands, which need not be the start of the file."""
    (tmp_path / "input").write_bytes(b"header\nrest")
    script = "(read -r header; dist ingest r) < input"
    assert dist.shell(script).stdout.decode().strip() == digest_of(b"rest")


def test_json(dist: Dist) -> None:
    """``--json`` prints what ``dist list --json`` would print of the blob."""
    shown = dist.out("ingest", "--json", "r", stdin=b"x")
    assert json.loads(shown)["digest"] == digest_of(b"x")
    assert shown == dist.out("list", "--json")


def test_default_ref(dist: Dist) -> None:
    """Without a REF the ingest is called as the expected digest, with - for the colon."""
    dist("ingest", "--expected-digest", NO_SUCH, stdin=b"x", code=1)
    assert list(active(dist)) == [NO_SUCH.replace(":", "-")]


@pytest.mark.parametrize("digest", [NO_SUCH, f"sha512:{'0' * 128}"])
def test_wrong_digest(dist: Dist, digest: str) -> None:
    """Other content than expected is refused with both digests, and its bytes are kept."""
    line = dist.error("ingest", "--expected-digest", digest, "r", stdin=b"x")
    assert f"expected {digest}" in line
    assert f"found {digest.partition(':')[0]}:" in line
    assert "--restart" in line
    assert dist.out("list") == ""
    assert active(dist)["r"]["offset"] == 1
    assert active(dist)["r"]["expected"] == digest
    assert active(dist)["r"]["locked"] is False


@pytest.mark.parametrize(("data", "found"), [(b"1234", "4"), (b"123456", "6")])
def test_wrong_size(dist: Dist, data: bytes, found: str) -> None:
    """More or fewer bytes than expected are refused, and nothing becomes a blob."""
    line = dist.error("ingest", "--expected-size", "5", "r", stdin=data)
    assert "5" in line
    assert found in line
    assert dist.out("list") == ""


def test_right_size_and_digest(dist: Dist) -> None:
    """Content that is as expected is taken without a word, also where nothing is expected."""
    for data in (b"12345", b""):
        digest, size = digest_of(data), str(len(data))
        done = dist("ingest", "--expected-digest", digest, "--expected-size", size, stdin=data)
        assert (done.stdout.decode(), done.stderr) == (f"{digest}\n", b"")


def test_other_algorithm(dist: Dist) -> None:
    """The digest that was asked for is the one that the blob gets."""
    digest = f"sha512:{hashlib.sha512(b'x').hexdigest()}"
    assert dist.out("ingest", "--expected-digest", digest, stdin=b"x") == f"{digest}\n"
    assert dist.out("list", "-q") == f"{digest}\n"


def test_already_there(dist: Dist, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Content that is there is said to be, and the input is left unread."""
    digest = dist.put(b"x")
    reader, writer = os.pipe()
    with open(writer, "wb", buffering=0) as held_open:
        process = start("ingest", "--expected-digest", digest, stdin=reader)
        output, errors = process.communicate()
        assert process.returncode == 0
        assert output.decode() == f"{digest}\n"
        assert errors.decode() == f"dist: {digest} is in the store already\n"
        held_open.write(b"unread")
    assert os.read(reader, 10) == b"unread"
    os.close(reader)


def test_ref_that_names_its_digest(dist: Dist) -> None:
    """A REF that is a digest is an expectation, as it is in the mount."""
    assert "expected" in dist.error("ingest", f"a/b@{NO_SUCH}", stdin=b"x")
    assert dist.out("ingest", digest_of(b"y"), stdin=b"y").strip() == digest_of(b"y")


@pytest.mark.parametrize("ref", ["", "x" * 256, "%" * 100])
def test_bad_ref(dist: Dist, ref: str) -> None:
    """A ref that cannot be is an error before anything is made."""
    assert "ref" in dist.error("ingest", ref, stdin=b"x")
    assert not dist.root.exists()


class TestResuming:
    """An ingest that was cut short goes on where it stopped."""

    DATA = patterned(3 * MIB + 7)
    HELD = MIB + 3

    @pytest.fixture
    def held(self, dist: Dist) -> str:
        """The ref of an ingest that holds the first bytes of DATA."""
        with dist.store.writer("r") as writer:
            writer.write(self.DATA[: self.HELD])
        return "r"

    @pytest.mark.parametrize("source", ["cat input |", "< input"])
    def test_resume(self, dist: Dist, tmp_path: Path, held: str, source: str) -> None:
        """Input that is already held is skipped, in a file as in a pipe."""
        (tmp_path / "input").write_bytes(self.DATA)
        digest = digest_of(self.DATA)
        done = dist.shell(f"{source} dist ingest --expected-digest {digest} {held}")
        assert done.stdout.decode().strip() == digest
        assert active(dist) == {}

    def test_resume_reads_only_what_is_missing(self, dist: Dist, tmp_path: Path, held: str) -> None:
        """The bytes that are held come from the store and not from the input again."""
        (tmp_path / "input").write_bytes(bytes(self.HELD) + self.DATA[self.HELD :])
        done = dist.shell(f"dist ingest {held} < input")
        assert done.stdout.decode().strip() == digest_of(self.DATA)

    def test_all_of_it_is_held(self, dist: Dist, held: str) -> None:
        """Where nothing is missing it is committed."""
        data = self.DATA[: self.HELD]
        assert dist.out("ingest", held, stdin=data).strip() == digest_of(data)

    @pytest.mark.parametrize("source", ["cat input |", "< input"])
    def test_input_too_short(self, dist: Dist, tmp_path: Path, held: str, source: str) -> None:
        """Input with fewer bytes than are held is an error that says so, and changes nothing."""
        (tmp_path / "input").write_bytes(b"short")
        line = dist.shell(f"{source} dist ingest {held}", code=1).stderr.decode()
        assert f"holds {self.HELD} bytes" in line
        assert "only 5" in line
        assert active(dist)[held]["offset"] == self.HELD

    @pytest.mark.parametrize("data", [b"", b"other", DATA])
    def test_restart(self, dist: Dist, held: str, data: bytes) -> None:
        """``--restart`` forgets the bytes that are held."""
        assert dist.out("ingest", "--restart", held, stdin=data).strip() == digest_of(data)

    def test_after_a_refusal(self, dist: Dist) -> None:
        """After a wrong digest --restart, or another expectation, is all that it takes."""
        dist.error("ingest", "--expected-digest", NO_SUCH, "r", stdin=b"x")
        right = digest_of(b"x")
        assert dist.out("ingest", "--expected-digest", right, "r", stdin=b"x").strip() == right
        dist.error("ingest", "--expected-digest", NO_SUCH, "r", stdin=b"x")
        right = digest_of(b"y")
        arguments = ("ingest", "--restart", "--expected-digest", right, "r")
        assert dist.out(*arguments, stdin=b"y").strip() == right

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    def test_killed(
        self, dist: Dist, start: Callable[..., subprocess.Popen[bytes]], number: signal.Signals
    ) -> None:
        """Killed in the middle, it leaves what it has; the same command then goes on."""
        digest = digest_of(self.DATA)
        process = start("ingest", "--expected-digest", digest, "r")
        assert process.stdin is not None
        # When the pipe has taken all of this, all but its own 64 KiB and one read are written.
        process.stdin.write(self.DATA[: 2 * MIB])
        process.stdin.flush()
        process.send_signal(number)
        _, errors = process.communicate()
        assert process.returncode == (130 if number == signal.SIGINT else -number)
        assert errors == b""
        left = active(dist)["r"]
        assert left["locked"] is False
        assert isinstance(left["offset"], int)
        assert 2 * MIB - 128 * 1024 <= left["offset"] <= 2 * MIB
        done = dist("ingest", "--expected-digest", digest, "r", stdin=self.DATA)
        assert done.stdout.decode().strip() == digest

    def test_growing_input(self, dist: Dist, start: Callable[..., subprocess.Popen[bytes]]) -> None:
        """What has come so far is there for others to see while the input stays open."""
        process = start("ingest", "r")
        assert process.stdin is not None
        process.stdin.write(self.DATA[: 2 * MIB])
        process.stdin.flush()
        shown = active(dist)["r"]
        assert shown["locked"] is True
        assert isinstance(shown["offset"], int)
        assert shown["offset"] >= MIB
        assert f"process {process.pid}" in dist.error("abort", "r")
        output, _ = process.communicate(self.DATA[2 * MIB :])
        assert output.decode().strip() == digest_of(self.DATA)


def test_input_set_to_non_blocking(dist: Dist) -> None:
    """Input that has nothing yet is not taken for input that is at its end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    done = subprocess.run(
        [DIST, "ingest", "r"], stdin=reader, capture_output=True, check=False, env=dist.env
    )
    os.close(reader)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr.startswith(b"dist: standard input: ")
    assert dist.out("list") == ""


def test_no_input(dist: Dist) -> None:
    """Without a standard input there is an error, not an empty blob."""
    done = dist.shell("dist ingest r <&-", code=1)
    assert done.stderr == b"dist: standard input: closed\n"
    assert dist.out("list") == ""


class TestHeld:
    """A ref that another writer holds."""

    @pytest.mark.parametrize("timeout", ["0", "0s", "100ms"])
    def test_timeout(self, dist: Dist, timeout: str) -> None:
        """``--timeout`` gives up, and says who holds it."""
        with dist.store.writer("r"):
            line = dist.error("ingest", "--timeout", timeout, "r", stdin=b"x")
        assert f"held by process {os.getpid()}" in line

    def test_waits_for_the_content(
        self, dist: Dist, start: Callable[..., subprocess.Popen[bytes]]
    ) -> None:
        """Where the holder brings what was expected, that is success and the input is unread."""
        digest = digest_of(b"x")
        with dist.store.writer("r") as writer:
            process = start("ingest", "--expected-digest", digest, "r")
            writer.write(b"x")
            assert process.stdout is not None
            assert process.poll() is None
            writer.commit()
        output, errors = process.communicate()
        assert (process.returncode, output.decode()) == (0, f"{digest}\n")
        assert errors.decode() == f"dist: {digest} is in the store already\n"
        assert active(dist) == {}

    def test_waits_for_its_turn(
        self, dist: Dist, start: Callable[..., subprocess.Popen[bytes]]
    ) -> None:
        """Where the holder lets go without having brought it, the ingest goes on from there."""
        digest = digest_of(b"xy")
        with dist.store.writer("r") as writer:
            process = start("ingest", "--expected-digest", digest, "r")
            writer.write(b"x")
        output, errors = process.communicate(b"xy")
        assert (process.returncode, output.decode(), errors) == (0, f"{digest}\n", b"")

    def test_repeats_are_quietly_ignored(self, dist: Dist, tmp_path: Path) -> None:
        """Of ten processes that bring the same content at once each succeeds."""
        data = patterned(2 * MIB)
        (tmp_path / "input").write_bytes(data)
        digest = digest_of(data)
        done = dist.shell(
            f"seq 10 | xargs -P10 -I_ sh -c 'cat input | dist ingest --expected-digest {digest}'"
        )
        assert done.stdout.decode() == f"{digest}\n" * 10
        assert dist.out("list", "-q") == f"{digest}\n"
        assert active(dist) == {}

    def test_repeats_of_several(self, dist: Dist, tmp_path: Path) -> None:
        """The seed's pipeline: many blobs, some of them more than once, ten at a time."""
        blobs = [patterned(size * 1000) for size in range(1, 7)]
        for data in blobs:
            (tmp_path / digest_of(data)).write_bytes(data)
        digests = [digest_of(data) for data in blobs]
        (tmp_path / "wanted").write_text("\n".join(digests * 3))
        dist.shell("xargs -P10 -I{} sh -c 'dist ingest --expected-digest {} < {}' < wanted")
        assert dist.out("list", "-q").split() == sorted(digests)
        assert active(dist) == {}


class TestProgress:
    """The line on the terminal."""

    def test_terminal(self, dist: Dist) -> None:
        """Where standard error is a terminal, a line says how far it is, and goes at the end."""
        ours, theirs = os.openpty()
        reader, writer = os.pipe()
        process = subprocess.Popen(
            [DIST, "ingest", "--expected-size", str(2**40), "r"],
            stdin=reader,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=dist.env,
        )
        os.close(theirs)
        os.close(reader)
        stop = threading.Event()
        feeder = threading.Thread(target=_feed, args=(writer, stop))
        feeder.start()
        shown = b""
        while b"of 1.1TB" not in shown:
            shown += os.read(ours, 1000)
        stop.set()
        feeder.join()
        process.communicate()
        assert process.returncode == 1
        shown += os.read(ours, 10000)
        os.close(ours)
        assert b"/s  r" in shown
        assert b"\n" not in shown.partition(b"dist: ")[0]
        assert b"size mismatch" in shown

    def test_no_terminal(self, dist: Dist) -> None:
        """Elsewhere there is not a word."""
        assert dist("ingest", "r", stdin=patterned(8 * MIB)).stderr == b""


def _feed(pipe: int, stop: threading.Event) -> None:
    with open(pipe, "wb", buffering=0) as stream:
        while not stop.is_set():
            stream.write(bytes(4096))
