"""The commands that look: list, active, path and get."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from store import Ref, Store
from store.times import parse
from tests.dist.command import NO_SUCH, Dist, digest_of

if TYPE_CHECKING:
    from pathlib import Path

MINUTE_NS = 60 * 10**9
NASTY = "a\nb\x1b[31m\tc\u202e\u2028 d"


def begin(
    store: Store, ref: str, data: bytes = b"", size: int | None = None, expected: str | None = None
) -> None:
    """Leave an ingest behind."""
    with store.writer(ref, size=size, expected=expected) as writer:
        writer.write(data)


def json_lines(text: str) -> list[dict[str, object]]:
    """What ``--json`` printed."""
    return [json.loads(line) for line in text.splitlines()]


class TestList:
    """``dist list``."""

    @pytest.fixture
    def digests(self, dist: Dist) -> list[str]:
        """Forty blobs, sorted."""
        return sorted(dist.plant(b"%d" % number) for number in range(40))

    def test_table(self, dist: Dist) -> None:
        """DIGEST, SIZE as go-units writes it, and AGE since the commit, aligned with spaces."""
        digest, small = dist.put(bytes(4194304)), dist.put(b"x")
        path = dist.store.path(digest)
        mtime = os.stat(path).st_mtime_ns - 3 * MINUTE_NS
        os.utime(path, ns=(mtime, mtime))
        lines = dist.out("list").splitlines()
        assert lines[0].split() == ["DIGEST", "SIZE", "AGE"]
        assert sorted(line.split(None, 2) for line in lines[1:]) == sorted(
            [[digest, "4.194MB", "3 minutes"], [small, "1B", "Less than a second"]]
        )
        for column in ("SIZE", "AGE"):
            at = lines[0].index(column)
            assert {line[at - 1 : at + 1].isspace() for line in lines} == {False}
            assert {line[at - 1] for line in lines} == {" "}

    @pytest.mark.parametrize("command", ["list", "ls"])
    def test_quiet(self, dist: Dist, digests: list[str], command: str) -> None:
        """``-q`` prints digests alone, sorted."""
        assert dist.out(command, "-q").split() == digests

    def test_sorted(self, dist: Dist, digests: list[str]) -> None:
        """The table and JSON have the same order."""
        assert [line.split()[0] for line in dist.out("list").splitlines()[1:]] == digests
        assert [each["digest"] for each in json_lines(dist.out("list", "--json"))] == digests

    def test_json(self, dist: Dist) -> None:
        """``--json`` has exactly digest, size and createdAt."""
        digest = dist.put(b"abc")
        (shown,) = json_lines(dist.out("list", "--json"))
        assert list(shown) == ["digest", "size", "createdAt"]
        assert (shown["digest"], shown["size"]) == (digest, 3)
        assert parse(str(shown["createdAt"])) == dist.store.info(digest).created_ns

    @pytest.mark.parametrize("flag", ["-q", "--json"])
    @pytest.mark.parametrize("length", [0, 3, 6, 7, 8, 9, 20, 71])
    def test_prefix(self, dist: Dist, digests: list[str], length: int, flag: str) -> None:
        """A PREFIX selects those that begin with it, down to the whole digest."""
        prefix = digests[0][:length]
        wanted = [digest for digest in digests if digest.startswith(prefix)]
        shown = dist.out("list", flag, prefix)
        assert [digest for digest in digests if digest in shown] == wanted

    def test_prefixes(self, dist: Dist, digests: list[str]) -> None:
        """Several select the union, sorted and each blob once."""
        prefixes = [digests[20][:9], digests[3], digests[20][:10], digests[3], digests[20]]
        wanted = [d for d in digests if any(d.startswith(prefix) for prefix in prefixes)]
        assert dist.out("list", "-q", *prefixes).split() == wanted
        assert dist.out("list", prefixes[0], "-q", prefixes[1]).split() == [
            d for d in digests if d.startswith((prefixes[0], prefixes[1]))
        ]

    def test_prefix_of_nothing(self, dist: Dist, digests: list[str]) -> None:
        """A PREFIX that no blob has lists as nothing."""
        assert digests
        assert dist.out("list", "sha512:") == ""
        assert dist.out("list", NO_SUCH) == ""

    @pytest.mark.parametrize(
        "prefix", ["md5:", "01", "sha256:0G", "SHA256:", "sha256:01/", "sha2566"]
    )
    def test_bad_prefix(self, dist: Dist, digests: list[str], prefix: str) -> None:
        """A PREFIX that can begin no digest fails by itself."""
        done = dist("list", "-q", prefix, digests[0], code=1)
        assert done.stdout.decode().split() == [digests[0]]
        assert b"sha256:01" in done.stderr

    def test_odd_files(self, dist: Dist, digests: list[str]) -> None:
        """What is no blob under blobs/ is not listed and breaks nothing."""
        folder = dist.root / "blobs" / "sha256"
        (folder / "README").write_text("odd")
        (folder / NO_SUCH[7:].replace("0", "A")).write_text("capitals")
        (folder / ("1" * 63)).write_text("short")
        (folder / ("2" * 64)).mkdir()
        (folder / ("3" * 64)).symlink_to("README")
        os.mkfifo(folder / ("4" * 64))
        (folder / ("5" * 62 + "  ")).write_text("blanks")
        (dist.root / "blobs" / "md5").mkdir()
        (dist.root / "blobs" / "md5" / ("6" * 32)).write_text("unknown algorithm")
        (dist.root / "blobs" / "file").write_text("no folder")
        assert dist.out("list", "-q").split() == digests
        assert len(dist.out("list").splitlines()) == len(digests) + 1

    def test_closed_early(self, dist: Dist) -> None:
        """``| head`` of a long listing is quiet."""
        folder = dist.root / "blobs" / "sha256"
        folder.mkdir(parents=True)
        for number in range(5000):
            (folder / f"{number:064x}").touch()
        for flags in ("", "-q", "--json"):
            done = dist.shell(f"set +o pipefail; dist list {flags} | head -n 1")
            assert (len(done.stdout.splitlines()), done.stderr) == (1, b"")
        assert len(dist.out("list", "-q").splitlines()) == 5000


class TestActive:
    """``dist active``."""

    def test_table(self, dist: Dist) -> None:
        """REF, SIZE and AGE, sorted and aligned, however long and wide the refs are."""
        begin(dist.store, "層-1", bytes(4194304))
        begin(dist.store, "docker.io/library/redis:latest", b"x")
        begin(dist.store, "b")
        lines = dist.out("active").splitlines()
        assert [line.split()[:2] for line in lines] == [
            ["REF", "SIZE"],
            ["b", "0B"],
            ["docker.io/library/redis:latest", "1B"],
            ["層-1", "4.194MB"],
        ]
        column = lines[0].index("SIZE")
        assert all(line[column] != " " and line[column - 1] == " " for line in lines[:-1])
        assert lines[-1].index("4.194MB") == column - 1  # the character is two columns wide

    def test_odd_refs(self, dist: Dist) -> None:
        """A ref with line breaks and escapes stays on its line and out of the terminal."""
        begin(dist.store, NASTY)
        shown = dist.out("active").splitlines()
        assert len(shown) == 2
        assert shown[1].startswith(r"a\nb\x1b[31m\tc\u202e\u2028 d ")
        assert [each["ref"] for each in json_lines(dist.out("active", "--json"))] == [NASTY]
        assert r"a\nb" in dist.error("get", NASTY)

    def test_terminal_that_lacks_letters(self, dist: Dist) -> None:
        """What the encoding of standard output lacks is spelled out."""
        begin(dist.store, "caf\u00e9-層")
        dist.env.update(
            LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii"
        )
        assert dist.out("active").splitlines()[1].startswith(r"caf\xe9-\u5c64 ")
        dist.env["PYTHONIOENCODING"] = "latin-1"
        assert dist("active").stdout.splitlines()[1].startswith(b"caf\xe9-\\u5c64 ")

    @pytest.mark.parametrize(
        ("patterns", "shown"),
        [
            ([], ["layer-1", "layer-2", "manifest", "x[1]"]),
            (["layer-1"], ["layer-1"]),
            (["layer-*"], ["layer-1", "layer-2"]),
            (["layer-[!1]", "man*"], ["layer-2", "manifest"]),
            (["x[1]"], ["x[1]"]),
            (["layer"], []),
            (["LAYER-1"], []),
        ],
    )
    def test_patterns(self, dist: Dist, patterns: list[str], shown: list[str]) -> None:
        """REF is a shell pattern or the very ref; none means all."""
        for ref in ("manifest", "layer-2", "layer-1", "x[1]"):
            begin(dist.store, ref)
        found = [each["ref"] for each in json_lines(dist.out("active", "--json", *patterns))]
        assert found == shown

    def test_json(self, dist: Dist) -> None:
        """``--json`` has exactly the contract's keys, and null for what is not known."""
        begin(dist.store, "bare", b"abc")
        begin(dist.store, "full", b"abc", size=10, expected=NO_SUCH)
        bare, full = json_lines(dist.out("active", "--json"))
        keys = ["ref", "offset", "total", "expected", "startedAt", "updatedAt", "locked"]
        assert (list(bare), list(full)) == (keys, keys)
        assert [bare[key] for key in keys[:4]] == ["bare", 3, None, None]
        assert [full[key] for key in keys[:4]] == ["full", 3, 10, NO_SUCH]
        assert bare["locked"] is full["locked"] is False
        started, updated = (parse(str(bare[key])) for key in ("startedAt", "updatedAt"))
        assert started is not None
        assert updated is not None

    def test_locked(self, dist: Dist) -> None:
        """An ingest that somebody writes is shown as held, and looking does not take it away."""
        with dist.store.writer("r") as writer:
            assert json_lines(dist.out("active", "--json"))[0]["locked"] is True
            writer.write(b"x")
        assert json_lines(dist.out("active", "--json"))[0]["locked"] is False

    def test_half_made(self, dist: Dist) -> None:
        """Folders that a crash left half-made, and files that do not parse, break no listing."""
        begin(dist.store, "r", b"x")
        folder = dist.store.layout.ingest(Ref("r"))
        for name in ("startedat", "total", "expected"):
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write("nonsense")
        (dist.root / "ingest" / ("0" * 64)).mkdir()
        (dist.root / "ingest" / "odd").write_text("odd")
        (shown,) = json_lines(dist.out("active", "--json"))
        assert (shown["startedAt"], shown["total"], shown["expected"]) == (None, None, None)
        assert dist.out("active").splitlines()[1].split() == ["r", "1B", "-"]


class TestPath:
    """``dist path``."""

    def test_path(self, dist: Dist) -> None:
        """DIGEST PATH, absolute; the file there has the bytes."""
        digest = dist.put(b"abc")
        path = str(dist.root / "blobs" / "sha256" / digest[7:])
        assert dist.out("path", digest) == f"{digest} {path}\n"
        assert dist.out("path", "-q", digest) == f"{path}\n"
        assert json_lines(dist.out("path", "--json", digest)) == [{"digest": digest, "path": path}]

    def test_relative_root(self, dist: Dist) -> None:
        """A path is absolute even where the store's folder was given as a relative one."""
        digest = dist.put(b"abc")
        assert dist.out("--root", "root", "path", digest) == dist.out("path", digest)

    def test_stdin(self, dist: Dist) -> None:
        """``-`` stands for the digests on standard input, however they are spaced."""
        digests = [dist.put(b"%d" % number) for number in range(3)]
        text = f"{digests[0]}\n\n  {digests[1]} \r\n{digests[2]}".encode()
        assert dist.out("path", "-", stdin=text) == dist.out("path", *digests)
        assert dist.out("path", "-") == ""

    def test_bad_stdin(self, dist: Dist) -> None:
        """Bytes on standard input that are no text are one malformed digest."""
        digest = dist.put(b"x")
        done = dist("path", "-q", "-", stdin=b"\xff\xfe\n" + digest.encode(), code=1)
        assert len(done.stdout.splitlines()) == len(done.stderr.splitlines()) == 1

    def test_not_there(self, dist: Dist) -> None:
        """A blob that is not there is an error and has no path."""
        assert dist.error("path", NO_SUCH) == f"blob {NO_SUCH}: not found"


class TestGet:
    """``dist get``."""

    DATA = bytes(range(256)) * 10000

    @pytest.mark.parametrize(
        "redirection", ["> file", ">> file", "| cat > file", "1<> file", "> >(cat > file); wait $!"]
    )
    @pytest.mark.parametrize("data", [DATA, b""], ids=["much", "nothing"])
    def test_bytes(self, dist: Dist, tmp_path: Path, redirection: str, data: bytes) -> None:
        """The bytes come out whole into whatever standard output is."""
        dist.shell(f"dist get {dist.put(data)} {redirection}")
        assert (tmp_path / "file").read_bytes() == data

    def test_socket(self, dist: Dist) -> None:
        """The bytes come out whole into a socket."""
        import socket  # noqa: PLC0415 - this test alone

        ours, theirs = socket.socketpair()
        digest = dist.put(self.DATA)
        with subprocess.Popen(
            [*dist.command, "get", digest], stdout=theirs.fileno(), env=dist.env
        ) as process:
            theirs.close()
            with ours, ours.makefile("rb") as stream:
                assert stream.read() == self.DATA
        assert process.returncode == 0

    def test_alias(self, dist: Dist) -> None:
        """``cat`` is the same."""
        assert dist("cat", dist.put(self.DATA)).stdout == self.DATA

    def test_not_there(self, dist: Dist) -> None:
        """A blob that is not there, and what is no digest, are errors and no bytes."""
        assert dist.error("get", NO_SUCH) == f"blob {NO_SUCH}: not found"
        assert "invalid digest" in dist.error("get", "sha256:../../etc/passwd")

    def test_planted(self, dist: Dist) -> None:
        """A symlink, fifo or folder in a blob's place is neither followed nor waited on."""
        folder = dist.root / "blobs" / "sha256"
        folder.mkdir(parents=True)
        (folder / ("1" * 64)).symlink_to("/etc/passwd")
        os.mkfifo(folder / ("2" * 64))
        (folder / ("3" * 64)).mkdir()
        for digit in "123":
            assert "not a regular file" in dist.error("get", f"sha256:{digit * 64}")

    def test_closed_early(self, dist: Dist) -> None:
        """``| head -c`` is quiet, and what it got is right."""
        digest = dist.put(self.DATA)
        done = dist.shell(f"set +o pipefail; dist get {digest} | head -c 10")
        assert (done.stdout, done.stderr) == (self.DATA[:10], b"")


@pytest.mark.parametrize(
    "command", ["list", "list -q", "active", "active --json", "path D", "get D"]
)
def test_looking_changes_nothing(dist: Dist, command: str) -> None:
    """The commands that look make no file, no lock and no folder in a store."""
    digest = dist.put(b"x")
    begin(dist.store, "r", b"x")
    os.unlink(f"{dist.store.layout.ingest(Ref('r'))}/lock")
    before = sorted((p, p.lstat().st_mtime_ns) for p in dist.root.rglob("*"))
    dist(*command.replace("D", digest).split())
    assert sorted((p, p.lstat().st_mtime_ns) for p in dist.root.rglob("*")) == before
    assert digest == digest_of(b"x")
