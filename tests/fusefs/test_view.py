"""Looking at a mount: what is shown is what is there, at once."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store import Digest, Store, algorithms
from tests.fusefs.actors import elsewhere
from tests.fusefs.mounted import (
    DIGEST,
    EXPECTED_DIGEST,
    EXPECTED_SIZE,
    Mount,
    append,
    attribute,
    digest_of,
    expect,
    refused,
    sha256,
    until,
)


def put(root: Path, content: bytes) -> Digest:
    """Have a blob in a store, by no way of the mount."""
    digest = Digest.of(content)
    with Store(root).writer(str(digest)) as writer:
        writer.write(content)
        writer.commit()
    return digest


def output(*words: str | Path) -> list[str]:
    """What a program prints, in lines; it must succeed, and complain of nothing."""
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def picture(root: Path) -> list[tuple[str, int, int, int]]:
    """All that is in a folder, with what would tell of a change."""
    return sorted(
        (str(path), found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        for path in [root, *root.rglob("*")]
        for found in [path.lstat()]
    )


@pytest.fixture
def content(mount: Mount) -> Iterator[bytes]:
    """The content of a blob that is there for this test alone."""
    made = f"content {mount.ref().name} ".encode() + b"x" * 9000
    put(mount.root, made)
    yield made
    mount.stored(made).unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------- tools


def test_ls(mount: Mount, content: bytes) -> None:
    """`ls -l` shows modes, sizes and names."""
    (line,) = [
        line
        for line in output("ls", "-l", mount.blobs / "sha256")
        if line.endswith(sha256(content))
    ]
    assert line.split()[:5] == ["-r--r--r--", "1", "root", "root", str(len(content))]
    ref = mount.ref()
    append(ref, b"12345")
    (line,) = [line for line in output("ls", "-l", mount.ingest) if line.endswith(f" {ref.name}")]
    assert line.split()[:5] == ["-rw-r--r--", "1", "root", "root", "5"]
    assert [line.split()[0] for line in output("ls", "-l", mount.point)[1:]] == [
        "dr-xr-xr-x",
        "drwxr-xr-x",
    ]
    ref.unlink()


def test_tree_and_find(mount: Mount, content: bytes) -> None:
    """`tree` and `find` show the two folders, every algorithm, the blobs and the ingests."""
    ref = mount.ref()
    append(ref, b"12345")
    found = set(output("find", mount.point, "-printf", "%y %s %P\\n"))
    assert {
        f"f {len(content)} blobs/sha256/{sha256(content)}",
        f"f 5 ingest/{ref.name}",
    } <= found
    folders = {line.split()[-1] for line in found if line.startswith("d")} - {"4096", "0"}
    assert folders == {"blobs", "ingest", *(f"blobs/{name}" for name in algorithms())}
    assert output("find", mount.point, "-xdev", "-type", "f", "-name", ref.name) == [str(ref)]
    files = sum(line.startswith("f") for line in found)
    assert output("tree", mount.point)[-1].endswith(
        f" directories, {files} file{'s'[: files != 1]}"
    )
    ref.unlink()


def test_du_and_df(mount: Mount, content: bytes) -> None:
    """`du` adds up what is stored, and `df` shows the file system of the store."""
    assert output("du", "-B1", mount.blob(content)) == [
        f"{mount.stored(content).stat().st_blocks * 512}\t{mount.blob(content)}"
    ]
    ours, below = os.statvfs(mount.point), os.statvfs(mount.root)
    assert (ours.f_blocks, ours.f_bsize, ours.f_frsize) == (
        below.f_blocks, below.f_bsize, below.f_frsize,
    )  # fmt: skip
    assert abs(ours.f_bavail - below.f_bavail) < below.f_blocks / 100
    assert ours.f_namemax == 255
    (line,) = output("df", "--output=source,fstype,target", mount.point)[1:]
    assert line.split() == [str(mount.root), "fuse.contentfs", str(mount.point)]
    assert output("df", "-i", mount.point)


def test_stat(mount: Mount, content: bytes) -> None:
    """Size, blocks and mtime of a blob are those of the stored file, and so are an ingest's."""
    ours, below = mount.blob(content).stat(), mount.stored(content).stat()
    assert (ours.st_size, ours.st_blocks, ours.st_mtime_ns) == (
        below.st_size, below.st_blocks, below.st_mtime_ns,
    )  # fmt: skip
    assert (ours.st_nlink, ours.st_uid, ours.st_gid) == (1, 0, 0)
    assert stat.S_IMODE(ours.st_mode) == 0o444
    ref = mount.ref()
    append(ref, b"x" * 10_000)
    # Changes nothing, but waits until the close has done all its work, which ends with a date.
    os.truncate(ref, 10_000)
    ours, below = ref.stat(), (mount.folder(ref.name) / "data").stat()
    assert (ours.st_size, ours.st_blocks, ours.st_mtime_ns) == (
        below.st_size, below.st_blocks, below.st_mtime_ns,
    )  # fmt: skip
    ref.unlink()


def test_a_hole_takes_no_blocks(mount: Mount) -> None:
    """A sparse ingest shows the blocks that it really has."""
    ref = mount.ref()
    with open(ref, "wb") as file:
        os.ftruncate(file.fileno(), 10_000_000)
    assert ref.stat().st_size == 10_000_000
    assert ref.stat().st_blocks < 100
    ref.unlink()


def test_what_is_written_shows_at_once(mount: Mount) -> None:
    """The size that stat, ls and a reader see is that of this moment, while one writes."""
    ref = mount.ref()
    with open(ref, "wb", buffering=0) as file, open(ref, "rb", buffering=0) as reader:
        for i in range(1, 20):
            file.write(b"x" * 1000)
            assert ref.stat().st_size == 1000 * i
            assert os.fstat(reader.fileno()).st_size == 1000 * i
            assert elsewhere(lambda: ref.stat().st_size) == 1000 * i
            assert len(reader.read(10_000)) == 1000
    ref.unlink()


def test_a_mapped_reader_sees_what_is_appended(mount: Mount) -> None:
    """Who opens an ingest again sees the new bytes, not pages of before."""
    ref = mount.ref()
    written = b""
    for i in range(20):
        piece = b"%d" % (i % 10) * 999
        append(ref, piece)
        written += piece
        assert ref.read_bytes() == written
    ref.write_bytes(b"y" * 500)
    assert ref.read_bytes() == b"y" * 500
    ref.unlink()


def test_tail_follows_an_ingest(mount: Mount) -> None:
    """`tail -f` prints what is appended, as it is appended."""
    ref = mount.ref()
    append(ref, b"one\n")
    with subprocess.Popen(
        ["tail", "-n", "+1", "-s", "0.01", "-f", ref], stdout=subprocess.PIPE
    ) as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline() == b"one\n"
        append(ref, b"two\n")
        assert tail.stdout.readline() == b"two\n"
        tail.terminate()
    ref.unlink()


def test_the_folders_can_be_synced(new_mount: Callable[..., Mount]) -> None:
    """Fsync of every folder succeeds, also while nothing of it is on disk."""
    mount = new_mount()
    for folder in (mount.point, mount.blobs, mount.blobs / "sha256", mount.ingest):
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    assert list(mount.root.iterdir()) == []
    subprocess.run(["sync", "-f", mount.point], check=True)


def test_access(new_mount: Callable[..., Mount]) -> None:
    """access(2) tells what is offered: blobs to read, ingests to read and write."""
    mount = new_mount()
    put(mount.root, b"some content")
    append(mount.ingest / "r", b"x")
    offered = {
        mount.point: "rx",
        mount.blobs / "sha256": "rx",
        mount.ingest: "rwx",
        mount.blob(b"some content"): "r",
        mount.ingest / "r": "rw",
    }
    modes = {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}
    for path, letters in offered.items():
        assert "".join(each for each in modes if os.access(path, modes[each])) == letters


def test_locks(mount: Mount, content: bytes) -> None:
    """flock(2) and fcntl(2) locks work among those who use the mount."""
    with open(mount.blob(content), "rb") as first, open(mount.blob(content), "rb") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        with refused(errno.EAGAIN):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(first, fcntl.LOCK_UN)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(first, fcntl.LOCK_SH | fcntl.LOCK_NB)


# ----------------------------------------------------------------------------------- inode numbers


def test_inode_numbers_are_stable(mount: Mount, content: bytes) -> None:
    """A listing and stat agree on every number, again and again."""
    ref = mount.ref()
    append(ref, b"x")
    blob = mount.blob(content)
    for folder in (mount.point, mount.blobs, mount.blobs / "sha256", mount.ingest):
        with os.scandir(folder) as entries:
            listed = {entry.name: entry.inode() for entry in entries}
        assert listed == {path.name: path.stat().st_ino for path in folder.iterdir()}
        assert len(set(listed.values())) == len(listed)
    number = blob.stat().st_ino
    assert elsewhere(lambda: blob.stat().st_ino) == number
    assert ref.stat().st_ino == ref.stat().st_ino
    # Forgotten by the kernel, and back: it is the same blob.
    mount.stored(content).unlink()
    until(lambda: not blob.exists(), "the blob is gone", 1)
    put(mount.root, content)
    assert blob.stat().st_ino == number
    ref.unlink()


def test_an_ingest_that_begins_anew_is_another_file(mount: Mount) -> None:
    """After unlink and create an ingest has another number, and a reader keeps the old one."""
    ref = mount.ref()
    append(ref, b"old")
    with open(ref, "rb", buffering=0) as reader:
        number = ref.stat().st_ino
        ref.unlink()
        append(ref, b"newer")
        assert ref.stat().st_ino != number
        assert os.fstat(reader.fileno()).st_ino == number
        assert os.fstat(reader.fileno()).st_size == 3
        assert reader.read() == b"old"
    ref.unlink()


# ------------------------------------------------------------------------------- behind the mount


def test_a_blob_that_appears_shows_within_a_second(mount: Mount) -> None:
    """What another process commits is there in a second, also where one has looked in vain."""
    content = f"appears {mount.ref().name}".encode()
    blob = mount.blob(content)
    assert not blob.exists()
    assert blob.name not in os.listdir(blob.parent)
    elsewhere(lambda: str(put(mount.root, content)))
    until(blob.exists, "it can be looked up", 1)
    until(lambda: blob.name in os.listdir(blob.parent), "it is listed", 1)
    assert blob.read_bytes() == content
    mount.stored(content).unlink()


def test_a_blob_that_goes_is_gone_within_a_second(mount: Mount, content: bytes) -> None:
    """What another process deletes is gone in a second, from stat and from the listing."""
    blob = mount.blob(content)
    assert blob.stat().st_size == len(content)
    assert blob.name in os.listdir(blob.parent)
    mount.stored(content).unlink()
    until(lambda: not blob.exists(), "it cannot be looked up", 1)
    assert blob.name not in os.listdir(blob.parent)
    with refused(errno.ENOENT):
        blob.read_bytes()


def test_a_blob_that_went_just_now_is_enoent(mount: Mount, content: bytes) -> None:
    """To open what was deleted a moment ago is ENOENT, not ESTALE, though the kernel knew it."""
    blob = mount.blob(content)
    assert blob.stat().st_size == len(content)
    mount.stored(content).unlink()
    with refused(errno.ENOENT):
        os.open(blob, os.O_RDONLY)


def test_an_ingest_that_comes_and_goes_behind_the_mount(mount: Mount) -> None:
    """Ingests of another process show at once, grow at once, and are gone at once."""
    ref = mount.ref()
    store = Store(mount.root)
    with store.writer(ref.name) as writer:
        writer.write(b"123")
        assert ref.read_bytes() == b"123"
        assert ref.name in mount.names()
        writer.write(b"456")
        assert ref.stat().st_size == 6
        assert ref.read_bytes() == b"123456"
        writer.abort()
    with refused(errno.ENOENT):
        ref.stat()
    assert ref.name not in mount.names()


def test_an_open_blob_survives_its_deletion(mount: Mount, content: bytes) -> None:
    """Who has a blob open reads it to the end, and can stat it, after it is deleted."""
    with open(mount.blob(content), "rb", buffering=0) as file:
        assert file.read(10) == content[:10]
        before = os.fstat(file.fileno())
        mount.stored(content).unlink()
        until(lambda: not mount.blob(content).exists(), "it is gone", 1)
        assert file.read(100_000) == content[10:]
        after = os.fstat(file.fileno())
        assert (before.st_ino, before.st_size, before.st_mtime_ns) == (
            after.st_ino, after.st_size, after.st_mtime_ns,
        )  # fmt: skip
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        assert file.read(100_000) == content


def test_many_blobs_are_listed_each_once(new_mount: Callable[..., Mount], tmp_path: Path) -> None:
    """A large folder is listed whole, each name once, as it is and while others come and go."""
    root = tmp_path / "root"
    folder = root / "blobs/sha256"
    folder.mkdir(parents=True)
    contents = [b"%d" % i for i in range(3000)]
    for content in contents:
        (folder / sha256(content)).write_bytes(content)
        (folder / sha256(content)).chmod(0o444)
    mount = new_mount(root=root)
    names = sorted(map(sha256, contents))
    assert sorted(os.listdir(mount.blobs / "sha256")) == names
    lines = output("ls", "-l", mount.blobs / "sha256")
    assert [(line.split()[-1], int(line.split()[4])) for line in lines[1:]] == [
        (name, (folder / name).stat().st_size) for name in names
    ]
    with os.scandir(mount.blobs / "sha256") as entries:
        seen = [next(entries).name for _ in range(10)]
        for name in names[:1000]:
            if name not in seen:
                (folder / name).unlink()
        for i in range(3000, 3500):
            (folder / sha256(b"%d" % i)).write_bytes(b"%d" % i)
            (folder / sha256(b"%d" % i)).chmod(0o444)
        seen += [entry.name for entry in entries]
    assert len(seen) == len(set(seen))
    assert set(names[1000:]) <= set(seen)


class _Entry(ctypes.Structure):
    _fields_ = (
        ("inode", ctypes.c_uint64),
        ("next", ctypes.c_int64),
        ("length", ctypes.c_uint16),
        ("kind", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    )


def test_a_large_folder_is_read_on_from_anywhere(
    new_mount: Callable[..., Mount], tmp_path: Path
) -> None:
    """telldir(3) and seekdir(3), over more than what is read at once, forth and back."""
    root = tmp_path / "root"
    folder = root / "blobs/sha256"
    folder.mkdir(parents=True)
    for i in range(1600):
        (folder / sha256(b"%d" % i)).write_bytes(b"%d" % i)
        (folder / sha256(b"%d" % i)).chmod(0o444)
    mount = new_mount(root=root)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.POINTER(_Entry)
    libc.closedir.argtypes = libc.readdir.argtypes = libc.rewinddir.argtypes = (ctypes.c_void_p,)
    libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)
    opened = libc.opendir(os.fsencode(mount.blobs / "sha256"))
    try:
        seen: list[tuple[bytes, int]] = []
        while entry := libc.readdir(opened):
            seen.append((entry.contents.name, entry.contents.next))
        assert len(seen) == 1600
        for place in (1598, 600, 601, 1100, 520, 510, 3, 1500, 0, 1024):
            libc.seekdir(opened, seen[place][1])
            assert libc.readdir(opened).contents.name == seen[place + 1][0]
        libc.rewinddir(opened)
        assert libc.readdir(opened).contents.name == seen[0][0]
    finally:
        libc.closedir(opened)
    # The kernel has been given some of them more than once, and lets go of them all.
    Path("/proc/sys/vm/drop_caches").write_text("2\n")
    for stored in folder.iterdir():
        assert (mount.blobs / "sha256" / stored.name).stat().st_size == stored.stat().st_size


def test_the_sizes_that_programs_copy_in(mount: Mount, content: bytes) -> None:
    """Large ones into an ingest and out of a folder, pages out of a blob."""
    ref = mount.ref()
    append(ref, content)
    assert ref.stat().st_blksize == 256 << 10
    assert mount.ingest.stat().st_blksize == 1 << 20
    assert (mount.blobs / "sha256").stat().st_blksize == 1 << 20
    assert mount.blob(content).stat().st_blksize == 4096


# ------------------------------------------------------------------------------------- the options


def test_allow_delete_lets_rm_delete_a_blob(new_mount: Callable[..., Mount]) -> None:
    """With -o allow_delete `rm` works on blobs, also on one that is open; nothing else does."""
    mount = new_mount("allow_delete")
    put(mount.root, b"some content")
    blob = mount.blob(b"some content")
    for deed in (
        lambda: blob.rename(blob.with_name("0" * 64)),
        lambda: os.open(blob, os.O_WRONLY),
        lambda: os.truncate(blob, 0),
        lambda: blob.chmod(0o644),
        blob.parent.rmdir,
    ):
        with refused(errno.EPERM):
            deed()
    with open(blob, "rb") as file:
        subprocess.run(["rm", "-f", blob], check=True)
        assert not blob.exists()
        assert os.listdir(blob.parent) == []
        assert file.read() == b"some content"
    assert not mount.stored(b"some content").exists()
    with refused(errno.ENOENT):
        blob.unlink()
    append(mount.ingest / digest_of(b"some content"), b"some content")
    assert blob.read_bytes() == b"some content"


def test_rm_asks_nothing_of_a_mount_without_allow_delete(mount: Mount, content: bytes) -> None:
    """Without the option rm is refused, and the blob is there."""
    done = subprocess.run(["rm", "-f", mount.blob(content)], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Operation not permitted" in done.stderr
    assert mount.blob(content).read_bytes() == content


def test_umask_uid_and_gid(new_mount: Callable[..., Mount]) -> None:
    """The options say who owns all that is shown, and with which modes."""
    mount = new_mount("umask=027", "uid=12", "gid=34", "allow_other")
    put(mount.root, b"some content")
    append(mount.ingest / "r", b"x")
    expected = {
        mount.point: 0o550,
        mount.blobs: 0o550,
        mount.blobs / "sha256": 0o550,
        mount.ingest: 0o750,
        mount.blob(b"some content"): 0o440,
        mount.ingest / "r": 0o640,
    }
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in expected} == expected
    assert {(path.stat().st_uid, path.stat().st_gid) for path in expected} == {(12, 34)}

    def read() -> bytes:
        os.setgroups([])
        os.setresgid(34, 34, 34)
        os.setresuid(13, 13, 13)
        return Path(f"blobs/sha256/{sha256(b'some content')}").read_bytes()

    assert elsewhere(read, folder=mount.point) == b"some content"

    def write() -> None:
        os.setresuid(12, 12, 12)
        append(Path("ingest") / digest_of(b"by the owner"), b"by the owner")

    elsewhere(write, folder=mount.point)
    assert mount.blob(b"by the owner").read_bytes() == b"by the owner"


def test_a_read_only_mount_creates_nothing(new_mount: Callable[..., Mount], tmp_path: Path) -> None:
    """Whatever is looked at through -o ro, nothing in the root is made, changed or touched."""
    root = tmp_path / "root"
    root.mkdir()
    put(root, b"some content")
    store = Store(root)
    with store.writer("r", size=100, expected=digest_of(b"x")) as writer:
        writer.write(b"so far")
    (store_lock,) = root.glob("ingest/*/lock")
    store_lock.unlink()
    before = picture(root)
    mount = new_mount("ro", root=root)
    assert mount.names() == ["r"]
    assert output("find", mount.point, "-type", "f", "-size", "-2")
    ref = mount.ingest / "r"
    assert ref.read_bytes() == b"so far"
    for name in (DIGEST, EXPECTED_DIGEST, EXPECTED_SIZE, "user.content.updated-at"):
        assert attribute(ref, name)
    assert sorted(os.listxattr(ref)) == [EXPECTED_DIGEST, EXPECTED_SIZE]
    assert attribute(mount.blob(b"some content"), DIGEST) == digest_of(b"some content")
    with open(ref, "rb") as file:
        os.fsync(file.fileno())
    folder = os.open(mount.ingest, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    assert os.statvfs(mount.point).f_flag & os.ST_RDONLY
    with refused(errno.EROFS):
        append(mount.ingest / "new", b"x")
    mount.unmount()
    assert picture(root) == before


@pytest.mark.parametrize("options", [("ro",), ("ro", "allow_delete"), ()])
def test_a_root_that_is_empty_stays_so(
    options: tuple[str, ...], new_mount: Callable[..., Mount]
) -> None:
    """A fresh root lists as nothing, and nothing is made in it before it is needed."""
    mount = new_mount(*options)
    assert sorted(os.listdir(mount.point)) == ["blobs", "ingest"]
    assert sorted(os.listdir(mount.blobs)) == sorted(algorithms())
    assert mount.names() == []
    assert output("find", mount.point, "-type", "f") == []
    assert list(mount.root.iterdir()) == []


# ------------------------------------------------------------------------------------ odd files


def test_odd_files_among_the_blobs(new_mount: Callable[..., Mount], tmp_path: Path) -> None:
    """What is no blob is neither listed nor found, and breaks no listing."""
    root = tmp_path / "root"
    put(root, b"some content")
    blobs = root / "blobs"
    (blobs / "a file").write_bytes(b"x")
    (blobs / "md5").mkdir()
    (blobs / "md5" / ("0" * 32)).write_bytes(b"x")
    (blobs / "sha512").write_bytes(b"in the way")
    odd: dict[str, Callable[[Path], object]] = {
        "x": lambda path: path.write_bytes(b"x"),
        sha256(b"some content").upper(): lambda path: path.write_bytes(b"x"),
        sha256(b"some content")[:-1]: lambda path: path.write_bytes(b"x"),
        "1" * 64: lambda path: path.mkdir(),
        "2" * 64: os.mkfifo,
        "3" * 64: lambda path: path.symlink_to(sha256(b"some content")),
        "4" * 64: lambda path: path.symlink_to("nowhere"),
        "5" * 64: lambda path: path.symlink_to(path.name),
        "6" * 64: lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
        os.fsdecode(b"\xff\xfe"): lambda path: path.write_bytes(b"x"),
    }
    for name, make in odd.items():
        make(blobs / "sha256" / name)
    mount = new_mount(root=root)
    assert sorted(os.listdir(mount.blobs)) == sorted(algorithms())
    assert os.listdir(mount.blobs / "sha256") == [sha256(b"some content")]
    for name in ("a file", "md5"):
        with refused(errno.ENOENT):
            os.lstat(mount.blobs / name)
    assert os.listdir(mount.blobs / "sha512") == []
    for name in odd:
        with refused(errno.ENOENT):
            os.lstat(mount.blobs / "sha256" / name)
        with refused(errno.ENOENT):
            os.open(mount.blobs / "sha256" / name, os.O_RDONLY)
    assert mount.blob(b"some content").read_bytes() == b"some content"
    for name in odd:
        path = blobs / "sha256" / name
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    (blobs / "sha512").unlink()


def make_ingest(root: Path, ref: str, data: bytes, **files: bytes) -> Path:
    """An ingest as somebody else may have left it."""
    folder = root / "ingest" / sha256(ref.encode())
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(data)
    for name, content in {"ref": ref.encode(), **files}.items():
        (folder / name).write_bytes(content)
    return folder


def test_odd_files_among_the_ingests(new_mount: Callable[..., Mount], tmp_path: Path) -> None:
    """What is no ingest is neither listed nor found, and breaks no listing."""
    root = tmp_path / "root"
    good = make_ingest(root, "good", b"bytes")
    (good / "unknown").write_bytes(b"x")
    (good / "more").mkdir()
    ingest = root / "ingest"
    (ingest / "a file").write_bytes(b"x")
    (ingest / ("a" * 64)).write_bytes(b"x")
    (ingest / ("b" * 64)).mkdir()
    os.mkfifo(ingest / ("c" * 64))
    (ingest / ("d" * 64)).symlink_to(good)
    (ingest / ("e" * 64)).symlink_to(ingest / ("e" * 64))
    (ingest / "short").mkdir()
    (make_ingest(root, "no data", b"") / "data").unlink()
    for kind in ("folder", "fifo", "symlink"):
        data = make_ingest(root, f"data is a {kind}", b"") / "data"
        data.unlink()
        if kind == "folder":
            data.mkdir()
        elif kind == "fifo":
            os.mkfifo(data)
        else:
            data.symlink_to(good / "data")
    for kind in ("folder", "fifo", "symlink"):
        path = make_ingest(root, f"ref is a {kind}", b"") / "ref"
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(good / "ref")
    mount = new_mount(root=root)
    mount.foresee("is not a regular file")
    assert mount.names() == ["good"]
    assert (mount.ingest / "good").read_bytes() == b"bytes"
    for kind in ("folder", "fifo", "symlink"):
        ref = mount.ingest / f"data is a {kind}"
        with refused(errno.ENOENT):
            ref.lstat()
        with refused(errno.EIO):
            os.open(ref, os.O_WRONLY | os.O_CREAT)
    assert (good / "data").read_bytes() == b"bytes"
    (mount.ingest / "good").unlink()
    assert sorted(os.listdir(good)) == ["more", "unknown"]
    append(mount.ingest / "no data", b"now")
    assert (mount.ingest / "no data").read_bytes() == b"now"


@pytest.mark.parametrize("ref", [None, b"", b"another", b"\xff\xfe", b"x" * 100_000])
def test_a_half_made_ingest_does_not_block_its_ref(
    ref: bytes | None, new_mount: Callable[..., Mount], tmp_path: Path
) -> None:
    """A ref file that is missing, empty or wrong is repaired for who asks for the ref."""
    root = tmp_path / "root"
    folder = make_ingest(root, "the ref", b"some ")
    if ref is None:
        (folder / "ref").unlink()
    else:
        (folder / "ref").write_bytes(ref)
    mount = new_mount(root=root)
    assert mount.names() == []
    append(mount.ingest / "the ref", b"bytes")
    assert mount.names() == ["the ref"]
    assert (folder / "ref").read_bytes() == b"the ref"
    expect(mount.ingest / "the ref", b"some bytes")
    assert mount.blob(b"some bytes").read_bytes() == b"some bytes"


def test_what_does_not_parse_counts_as_absent(
    new_mount: Callable[..., Mount], tmp_path: Path
) -> None:
    """A total, an expected digest or a time that means nothing is none, and blocks nothing."""
    root = tmp_path / "root"
    for i, junk in enumerate((b"", b"junk", b"\xff\xfe", b"-5", b"9" * 40)):
        make_ingest(root, f"r{i}", b"x", total=junk, expected=junk, startedat=junk, updatedat=junk)
    mount = new_mount(root=root)
    for i in range(5):
        ref = mount.ingest / f"r{i}"
        assert attribute(ref, EXPECTED_SIZE) is None
        assert attribute(ref, EXPECTED_DIGEST) is None
        assert attribute(ref, "user.content.started-at") is None
        content = b"x%d" % i
        append(ref, b"%d" % i)
        expect(ref, content)
        assert mount.blob(content).read_bytes() == content


def test_data_that_a_crash_left_linked(new_mount: Callable[..., Mount], tmp_path: Path) -> None:
    """An ingest that is its blob already counts as gone, and nothing is written through it."""
    root = tmp_path / "root"
    digest = put(root, b"some content")
    blob = root / "blobs/sha256" / digest.hex
    for ref, expected in (("its own", str(digest)), ("another", ""), (str(digest), "")):
        folder = make_ingest(root, ref, b"", expected=expected.encode())
        (folder / "data").unlink()
        os.link(blob, folder / "data")
    mount = new_mount(root=root)
    assert mount.names() == ["another"]
    for name in ("its own", str(digest)):
        with refused(errno.ENOENT):
            (mount.ingest / name).stat()
    append(mount.ingest / "its own", b"new")
    assert (mount.ingest / "its own").read_bytes() == b"new"
    append(mount.ingest / "another", b" and more")
    assert (mount.ingest / "another").read_bytes() == b"some content and more"
    append(mount.ingest / str(digest), b"some content")
    assert mount.blob(b"some content").read_bytes() == b"some content"
    assert blob.stat().st_nlink == 1
