"""Real programs copy into a real mount: their exit status, and the blob's bytes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.fusefs.loopback import serving
from tests.fusefs.mounted import ERROR, EXPECTED_DIGEST, Mount, sha256, until

SIZE: Final = 1_300_021  # more than one request of the kernel, and no round number
PART: Final = 500_003

# What every script finds: $SRC the file to copy, $SHM the same on another file system, $URL the
# same on a web server; $F the ingest to make, $D its digest, $N its size; $PART a number of bytes
# below $N; $MNT the mount, $WORK an empty folder.
PRELUDE: Final = """
digest() { setfattr -n user.content.expected-digest -v "$D" "$1"; }
size() { setfattr -n user.content.expected-size -v "$N" "$1"; }
begun() { touch "$F"; size "$F"; head -c "$PART" "$SRC" >>"$F"; }
"""

KEPT: Final = "the ingest is kept under $F"
DROPPED: Final = "the tool removes what it could not finish"
UNNOTICED: Final = "the tool does not look at what close says; the ingest is kept"


@dataclass(frozen=True)
class Tool:
    """How a program copies.

    Attributes:
        script: what is run; $F ends in the digest that is expected.
        wrong: what becomes of it where the digest is wrong.
        plain: whether $F says nothing about the digest.
        content: what $SRC holds.
    """

    script: str
    wrong: str = KEPT
    plain: bool = False
    content: str = "bytes"


TOOLS: Final = {
    "cp": Tool('cp "$SRC" "$F"'),
    "cp of nothing but a digest": Tool('cp "$SRC" "$MNT/ingest/$D"'),
    "cp over what is there": Tool('begun; cp "$SRC" "$F"'),
    "cp -a": Tool('cp -a "$SRC" "$F"'),
    "cp -p": Tool('cp -p "$SRC" "$F"'),
    "cp --reflink=auto": Tool('cp --reflink=auto "$SRC" "$F"'),
    "cp --preserve=xattr": Tool(
        'setfattr -n user.checksum.sha256 -v "${D#*:}" "$SRC"; cp --preserve=xattr "$SRC" "$F"',
        plain=True,
    ),
    "cp -a of a tagged file": Tool(
        'setfattr -n user.checksum.sha256 -v "${D#*:}" "$SRC"; cp -a "$SRC" "$F"', plain=True
    ),
    "cp -a of a folder": Tool(
        'mkdir "$WORK/d"; cp "$SRC" "$WORK/d/${F##*/}"; cp -a "$WORK/d/." "$MNT/ingest"'
    ),
    "rsync -a of a folder": Tool(
        'mkdir "$WORK/d"; cp "$SRC" "$WORK/d/${F##*/}"; rsync -a "$WORK/d/" "$MNT/ingest"',
        wrong=DROPPED,
    ),
    "tar -x of a folder": Tool(
        'cp "$SRC" "$WORK/${F##*/}"; cd "$WORK"; tar -c . | tar -xp -C "$MNT/ingest"'
    ),
    "cp -r of a folder": Tool(
        'mkdir "$WORK/d"; cp "$SRC" "$WORK/d/${F##*/}"; cp -r "$WORK/d/." "$MNT/ingest"'
    ),
    "touch, setfattr, cp": Tool('touch "$F"; digest "$F"; cp "$SRC" "$F"', plain=True),
    "cp, setfattr": Tool('cp "$SRC" "$F"; digest "$F"', plain=True),
    "cp, setfattr of the tag": Tool(
        'cp "$SRC" "$F"; setfattr -n user.checksum.sha256 -v "${D#*:}" "$F"', plain=True
    ),
    "cp, mv": Tool('cp "$SRC" "$F.part"; mv "$F.part" "$F@$D"', wrong=DROPPED, plain=True),
    "cp --sparse=always": Tool('cp --sparse=always "$SRC" "$F"', content="sparse"),
    "cp --sparse=auto of a file with holes": Tool(
        'cp --sparse=always "$SRC" "$WORK/s"; cp "$WORK/s" "$F"', content="sparse"
    ),
    "install": Tool('install "$SRC" "$F"'),
    "install -m -o": Tool('install -p -m 600 -o 1 -g 1 "$SRC" "$F"'),
    "mv from another file system": Tool('mv "$SHM" "$F"; test ! -e "$SHM"'),
    "cat >": Tool('cat "$SRC" >"$F"'),
    "cat >>": Tool('cat "$SRC" >>"$F"'),
    "cat >> in parts": Tool('begun; tail -c +$((PART + 1)) "$SRC" >>"$F"'),
    "cat | cat >": Tool('cat "$SRC" | cat >"$F"'),
    "shell group": Tool(
        'touch "$F"; size "$F"; { head -c 1000 "$SRC"; (tail -c +1001 "$SRC"); } >"$F"'
    ),
    "exec >": Tool('exec 3>"$F"; cat "$SRC" >&3; exec 3>&-'),
    "tee": Tool('tee "$F" <"$SRC" >/dev/null'),
    "tee -a": Tool('begun; tail -c +$((PART + 1)) "$SRC" | tee -a "$F" >/dev/null'),
    "dd bs=4k": Tool('dd if="$SRC" of="$F" bs=4k status=none'),
    "dd bs=1M": Tool('dd if="$SRC" of="$F" bs=1M status=none'),
    "dd conv=fsync": Tool('dd if="$SRC" of="$F" bs=256k conv=fsync status=none'),
    "dd oflag=sync": Tool('dd if="$SRC" of="$F" bs=256k oflag=sync status=none'),
    "dd oflag=direct": Tool('dd if="$SRC" of="$F" bs=64k oflag=direct status=none'),
    "dd oflag=append conv=notrunc": Tool(
        'begun; dd if="$SRC" of="$F" bs=$PART skip=1 oflag=append conv=notrunc status=none'
    ),
    "dd seek": Tool(
        'begun; dd if="$SRC" of="$F" bs=$PART skip=1 seek=1 conv=notrunc status=none'
    ),
    "dd conv=sparse": Tool('dd if="$SRC" of="$F" bs=4k conv=sparse status=none', content="sparse"),
    "truncate -s, then a name": Tool(
        'head -c 10 "$SRC" >"$F"; truncate -s "$N" "$F"; mv "$F" "$F@$D"',
        plain=True, content="zeros", wrong=DROPPED,
    ),
    "truncate -s completes": Tool(
        'touch "$F"; size "$F"; head -c 10 "$SRC" >"$F"; truncate -s "$N" "$F"', content="zeros"
    ),
    "curl -o": Tool('curl -sSf -o "$F" "$URL"'),
    "curl >": Tool('curl -sSf "$URL" >"$F"', wrong=UNNOTICED),
    "curl -C -": Tool('begun; curl -sSf -C - -o "$F" "$URL"'),
    "curl -R": Tool('curl -sSf -R -o "$F" "$URL"'),
    "wget": Tool('cd "$MNT/ingest"; wget -q "${URL%/*}/${F##*/}"', wrong=UNNOTICED),
    "wget -O": Tool('wget -q -O "$F" "$URL"'),
    "wget -c": Tool(
        'begun; cd "$MNT/ingest"; wget -q -c "${URL%/*}/${F##*/}"', wrong=UNNOTICED
    ),
    "wget -c -O": Tool('begun; wget -q -c -O "$F" "$URL"'),
    "rsync": Tool('rsync "$SRC" "$F"', wrong=DROPPED),
    "rsync -a": Tool('rsync -a "$SRC" "$F"', wrong=DROPPED),
    "rsync -X": Tool(
        'setfattr -n user.checksum.sha256 -v "${D#*:}" "$SRC"; rsync -aX "$SRC" "$F"',
        plain=True, wrong=DROPPED,
    ),
    "rsync --inplace": Tool('rsync --inplace "$SRC" "$F"'),
    "rsync -a --inplace": Tool('rsync -a --inplace "$SRC" "$F"'),
    "rsync --append": Tool('begun; rsync --append "$SRC" "$F"'),
    "rsync --append-verify": Tool('begun; rsync --append-verify "$SRC" "$F"'),
    "rsync --sparse": Tool('rsync --sparse "$SRC" "$F"', content="sparse", wrong=DROPPED),
    "tar -x": Tool(
        'cp -p "$SRC" "$WORK/${F##*/}"; cd "$WORK"; tar -c "./${F##*/}" | tar -x -C "$MNT/ingest"'
    ),
    "tar -x of somebody's file": Tool(
        'cp -p "$SRC" "$WORK/${F##*/}"; cd "$WORK"; chown 1:1 *;'
        ' tar -c "./${F##*/}" | tar -xp -C "$MNT/ingest"'
    ),
    "tar --xattrs -x": Tool(
        'setfattr -n user.checksum.sha256 -v "${D#*:}" "$SRC"; cd "${SRC%/*}";'
        ' tar --xattrs -c --transform "s,.*,${F##*/}," "${SRC##*/}"'
        ' | tar --xattrs -x -C "$MNT/ingest"',
        plain=True,
    ),
    "split": Tool('split -b 9M --additional-suffix="@$D" "$SRC" "$F"', plain=True),
    "sort -o": Tool('sort -o "$F" "$SRC"', content="lines"),
    "sort -o over what is there": Tool('begun; sort -o "$F" "$SRC"', content="lines"),
    "gzip -c >": Tool('gzip -dc "$SRC.gz" >"$F"'),
    "xz -c >": Tool('xz -c "$SRC" | xz -dc >"$F"'),
    "python: with open": Tool(
        'python3 -c "import sys; s, f = sys.argv[1:]; d = open(s, \'rb\').read()\n'
        'with open(f, \'wb\') as o: o.write(d)" "$SRC" "$F"'
    ),
    "shutil.copyfile": Tool(
        'python3 -c "import shutil,sys; shutil.copyfile(*sys.argv[1:])" "$SRC" "$F"'
    ),
    "shutil.copy": Tool('python3 -c "import shutil,sys; shutil.copy(*sys.argv[1:])" "$SRC" "$F"'),
    "shutil.copy2": Tool('python3 -c "import shutil,sys; shutil.copy2(*sys.argv[1:])" "$SRC" "$F"'),
    "shutil.copy2 of a tagged file": Tool(
        'setfattr -n user.checksum.sha256 -v "${D#*:}" "$SRC"; '
        'python3 -c "import shutil,sys; shutil.copy2(*sys.argv[1:])" "$SRC" "$F"',
        plain=True,
    ),
    "shutil.copytree": Tool(
        'mkdir "$WORK/d"; cp "$SRC" "$WORK/d/${F##*/}"; python3 -c "import shutil,sys;'
        ' shutil.copytree(*sys.argv[1:], dirs_exist_ok=True)" "$WORK/d" "$MNT/ingest"'
    ),
    "perl": Tool(
        """perl -e 'open(I,"<",$ARGV[0]) or die; open(O,">",$ARGV[1]) or die; binmode O;"""
        """ while(read(I,$b,65536)){print O $b or die} close O or die "close: $!"' "$SRC" "$F\""""
    ),
    "vim": Tool('vim -u NONE -n -es -c "w! $F" -c q "$SRC"', content="lines"),
}  # fmt: skip
# split's own part of the name comes before what the script adds.
ENDINGS: Final = {"split": "aa@{}", "cp, mv": "@{}", "truncate -s, then a name": "@{}"}


def make_content(kind: str) -> bytes:
    """Content of a kind, the same in each run."""
    chance = random.Random(kind)
    if kind == "zeros":
        return bytes(SIZE)
    if kind == "lines":
        lines = sorted(b"%016x" % chance.getrandbits(64) for _ in range(SIZE // 17 + 1))
        return b"".join(line + b"\n" for line in lines)
    if kind == "sparse":
        return chance.randbytes(70_000) + bytes(700_000) + chance.randbytes(90_000) + bytes(440_021)
    return chance.randbytes(SIZE)


class Bench:
    """A file to copy in, and what a script has to know of it."""

    def __init__(self, mount: Mount, work: Path, tool: Tool, url: str, served: Path) -> None:
        self._mount = mount
        self._work = work
        self._tool = tool
        self._url = url
        self._served = served
        # Each run has content of its own: a blob that is there already would hide a fault.
        mark = f"{work}".encode()
        content = make_content(tool.content)
        self.content = content + bytes(zlib.crc32(mark) % 4093) if tool.content == "zeros" else (
            content[: -len(mark) - 2] + b"~" + mark + b"\n"
        )  # fmt: skip
        self.digest = f"sha256:{sha256(self.content)}"

    def run(self, digest: str) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
        """Run the script with a digest to be expected; gives the ingest's path as well."""
        ref = self._mount.ref("" if self._tool.plain else f"@{digest}")
        source, work = self._work / "source", self._work / "work"
        work.mkdir()
        source.write_bytes(self.content)
        subprocess.run(["gzip", "-nk1", source], check=True)
        other = Path("/dev/shm") / f"{self._work.name}-{os.getpid()}"
        other.write_bytes(self.content)
        shutil.copy(source, self._served / ref.name)
        try:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", PRELUDE + self._tool.script],
                env={
                    "PATH": os.environ["PATH"],
                    "LC_ALL": "C.UTF-8",
                    "SRC": str(source),
                    "SHM": str(other),
                    "URL": f"{self._url}/{ref.name}",
                    "F": str(ref),
                    "D": digest,
                    "N": str(len(self.content)),
                    "PART": str(PART),
                    "MNT": str(self._mount.point),
                    "WORK": str(work),
                },
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd="/",
                check=False,
            )
        finally:
            self.left_source = other.exists()
            other.unlink(missing_ok=True)
        return ref, done


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A web server: its URL, and the folder that it shows."""
    folder = tmp_path_factory.mktemp("served")
    with serving(folder) as url:
        yield url, folder


def bench_for(mount: Mount, work: Path, name: str, served: tuple[str, Path]) -> Bench:
    """What a tool needs; skips where the tool is not installed."""
    program = name.split(maxsplit=1)[0].strip(":,")
    if program in {"vim", "curl", "wget", "rsync", "perl", "xz"} and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    return Bench(mount, work, TOOLS[name], *served)


@pytest.mark.parametrize("name", TOOLS)
def test_what_a_tool_copies_in_is_a_blob_at_once(
    name: str, mount: Mount, tmp_path: Path, served: tuple[str, Path]
) -> None:
    """The tool succeeds without a word, the blob holds the bytes, and no ingest is left."""
    bench = bench_for(mount, tmp_path, name, served)
    ref, done = bench.run(bench.digest)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert mount.blob(bench.content).read_bytes() == bench.content
    assert mount.stored(bench.content).read_bytes() == bench.content
    assert not [left for left in mount.names() if left.startswith(ref.name)]
    assert not mount.folder(ref.name).exists()


@pytest.mark.parametrize("name", TOOLS)
def test_what_a_tool_copies_in_under_a_wrong_digest_is_refused(
    name: str, mount: Mount, tmp_path: Path, served: tuple[str, Path]
) -> None:
    """The tool fails where it looks, no blob appears, the bytes are kept for another try."""
    bench = bench_for(mount, tmp_path, name, served)
    wrong = f"sha256:{sha256(b'something else')}"
    ref, done = bench.run(wrong)
    fate = TOOLS[name].wrong
    assert done.returncode != 0 or fate == UNNOTICED
    assert bench.left_source
    assert not mount.blob(bench.content).exists()
    if fate == DROPPED:
        return
    left = ref.parent / (ref.name + ENDINGS.get(name, "").format(wrong))
    if name == "cp of nothing but a digest":
        left = mount.ingest / wrong
    assert left.name in mount.names()
    assert left.read_bytes() == bench.content
    error = os.getxattr(left, ERROR).decode()
    assert wrong in error
    assert bench.digest in error
    os.setxattr(left, EXPECTED_DIGEST, bench.digest.encode())
    assert mount.blob(bench.content).read_bytes() == bench.content


@pytest.mark.parametrize("same", [False, True], ids=["of ten contents", "of one content"])
def test_ten_side_by_side(same: bool, mount: Mount, tmp_path: Path) -> None:  # noqa: FBT001
    """Ten programs that copy in at the same time all succeed, and so does what they brought."""
    script = """
    for i in 0 1 2 3 4 5 6 7 8 9; do
        (cp "$WORK/$i" "$MNT/ingest/$REF$i@sha256:$(sha256sum <"$WORK/$i" | cut -c-64)") &
        pids="${pids-} $!"
    done
    for pid in $pids; do wait "$pid"; done
    """
    contents = [random.Random(f"{same}{i * (not same)}").randbytes(SIZE) for i in range(10)]
    for i, content in enumerate(contents):
        (tmp_path / str(i)).write_bytes(content)
    ref = mount.ref().name
    env = {**os.environ, "WORK": str(tmp_path), "MNT": str(mount.point), "REF": f"ten{ref}-"}
    subprocess.run(["bash", "-euc", script], env=env, check=True)
    assert all(mount.blob(content).read_bytes() == content for content in contents)
    assert not [name for name in mount.names() if name.startswith(env["REF"])]


def test_split_into_parts_that_are_named_afterwards(mount: Mount, tmp_path: Path) -> None:
    """Parts of a file become blobs one by one, when it is said what they are to be."""
    content = make_content("bytes")
    (tmp_path / "source").write_bytes(content)
    prefix = mount.ref("-part-")
    subprocess.run(["split", "-b", "300000", tmp_path / "source", prefix], check=True)
    parts = sorted(name for name in mount.names() if name.startswith(prefix.name))
    assert b"".join((mount.ingest / name).read_bytes() for name in parts) == content
    for name in parts:
        path = mount.ingest / name
        part = path.read_bytes()
        os.setxattr(path, EXPECTED_DIGEST, f"sha256:{sha256(part)}".encode())
        assert mount.blob(part).read_bytes() == part
    assert not [name for name in mount.names() if name.startswith(prefix.name)]


def test_what_is_being_written_is_seen_to_grow(mount: Mount) -> None:
    """What a slow program has written so far is there to be read, at once and in full."""
    ref = mount.ref()
    with subprocess.Popen(
        ["tee", ref], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as tee:
        assert tee.stdin is not None
        assert tee.stdout is not None
        for i in range(1, 6):
            tee.stdin.write(b"%04d" % i)
            # tee writes to its standard output first.
            tee.stdout.read(4)
            until(lambda i=i: ref.exists() and ref.stat().st_size == 4 * i, "the bytes are there")  # type: ignore[misc]
            assert ref.read_bytes() == b"".join(b"%04d" % j for j in range(1, i + 1))
        tee.stdin.close()
    assert tee.returncode == 0
