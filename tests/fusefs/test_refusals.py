"""Every refusal that the contract names, with its errno: as root, and as nobody in particular."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from store import Store
from tests.fusefs.actors import NOBODY, elsewhere
from tests.fusefs.mounted import DIGEST, EXPECTED_DIGEST, EXPECTED_SIZE, Mount, refused, sha256

BLOB: Final = b"the content of a blob"
BYTES: Final = b"the bytes so far"
OTHER: Final = b"of another ingest"
ABSENT: Final = "0" * 64
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Scene:
    """Relative paths below the mountpoint.

    Attributes:
        blob: a blob.
        ingest: an ingest that nobody writes to.
        other: another one.
        held: one that a writer holds.
        sized: one of which as many bytes are expected as it has, and two more.
        new: nothing.
    """

    blob: str
    ingest: str
    other: str
    held: str
    sized: str
    new: str

    def there(self, point: Path) -> dict[str, bytes]:
        """What can be read on a mount."""
        paths = (self.blob, self.ingest, self.other, self.held, self.sized)
        return {path: (point / path).read_bytes() for path in paths}


def with_fd(path: str, flags: int, call: Callable[[int], Any]) -> Any:
    """A call on an open file."""
    fd = os.open(path, flags, 0o644)
    try:
        return call(fd)
    finally:
        os.close(fd)


def renameat2(old: str, new: str, flags: int) -> None:
    """Rename with flags."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def fallocate(fd: int, mode: int) -> None:
    """Ask for a page."""
    if _libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(4096)):
        raise OSError(ctypes.get_errno(), "fallocate")


def create(path: str) -> int:
    """Make a new file."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def twice(path: str, flags: int = os.O_WRONLY) -> None:
    """Open a file for writing while it is open for writing."""
    with_fd(path, flags, lambda _: with_fd(path, flags, lambda fd: fd))


Call = Callable[[Scene], Any]

ON_BLOBS: Final[dict[str, tuple[int, Call]]] = {
    "open O_WRONLY": (errno.EPERM, lambda s: os.open(s.blob, os.O_WRONLY)),
    "open O_RDWR": (errno.EPERM, lambda s: os.open(s.blob, os.O_RDWR)),
    "open O_APPEND": (errno.EPERM, lambda s: os.open(s.blob, os.O_WRONLY | os.O_APPEND)),
    "open O_TRUNC": (errno.EPERM, lambda s: os.open(s.blob, os.O_RDONLY | os.O_TRUNC)),
    "open O_CREAT": (errno.EPERM, lambda s: os.open(s.blob, os.O_WRONLY | os.O_CREAT)),
    "create a blob": (errno.EPERM, lambda _: create(f"blobs/sha256/{ABSENT}")),
    "create an odd name": (errno.EPERM, lambda _: create("blobs/sha256/x")),
    "create in blobs": (errno.EPERM, lambda _: create("blobs/x")),
    "create in the root": (errno.EPERM, lambda _: create("x")),
    "O_TMPFILE": (errno.EOPNOTSUPP, lambda _: os.open("blobs/sha256", os.O_TMPFILE | os.O_RDWR)),
    "mknod": (errno.EPERM, lambda _: os.mknod("blobs/sha256/x")),
    "mkfifo": (errno.EPERM, lambda _: os.mkfifo("blobs/sha256/x")),
    "truncate": (errno.EPERM, lambda s: os.truncate(s.blob, 0)),
    "truncate to its size": (errno.EPERM, lambda s: os.truncate(s.blob, len(BLOB))),
    "rename": (errno.EPERM, lambda s: os.rename(s.blob, f"blobs/sha256/{ABSENT}")),
    "rename to itself elsewhere": (errno.EXDEV, lambda s: os.rename(s.blob, "blobs/sha512/x")),
    "rename into ingest": (errno.EXDEV, lambda s: os.rename(s.blob, s.new)),
    "rename from ingest": (errno.EXDEV, lambda s: os.rename(s.ingest, f"blobs/sha256/{ABSENT}")),
    "rename over a blob": (errno.EXDEV, lambda s: os.rename(s.ingest, s.blob)),
    "rename an algorithm": (errno.EPERM, lambda _: os.rename("blobs/sha256", "blobs/x")),
    "rename blobs": (errno.EPERM, lambda _: os.rename("blobs", "x")),
    "link": (errno.EPERM, lambda s: os.link(s.blob, f"blobs/sha256/{ABSENT}")),
    "link into ingest": (errno.EXDEV, lambda s: os.link(s.blob, s.new)),
    "link from ingest": (errno.EXDEV, lambda s: os.link(s.ingest, f"blobs/sha256/{ABSENT}")),
    "symlink": (errno.EPERM, lambda _: os.symlink("x", "blobs/sha256/x")),
    "symlink in the root": (errno.EPERM, lambda _: os.symlink("x", "x")),
    "mkdir": (errno.EPERM, lambda _: os.mkdir("blobs/sha256/x")),
    "mkdir of an algorithm": (errno.EPERM, lambda _: os.mkdir("blobs/md5")),
    "mkdir in the root": (errno.EPERM, lambda _: os.mkdir("x")),
    "rmdir of an algorithm": (errno.EPERM, lambda _: os.rmdir("blobs/sha512")),
    "rmdir of blobs": (errno.EPERM, lambda _: os.rmdir("blobs")),
    "rmdir of ingest": (errno.EPERM, lambda _: os.rmdir("ingest")),
    "chmod": (errno.EPERM, lambda s: os.chmod(s.blob, 0o444)),
    "chmod of a folder": (errno.EPERM, lambda _: os.chmod("blobs/sha256", 0o700)),
    "chmod of the root": (errno.EPERM, lambda _: os.chmod(".", 0o700)),
    "chown": (errno.EPERM, lambda s: os.chown(s.blob, os.getuid(), -1)),
    "utimens": (errno.EPERM, lambda s: os.utime(s.blob, (1, 1))),
    "utimens to now": (errno.EPERM, lambda s: os.utime(s.blob)),
    "unlink": (errno.EPERM, lambda s: os.unlink(s.blob)),
    "setxattr": (errno.EPERM, lambda s: os.setxattr(s.blob, "user.x", b"x")),
    "setxattr of its digest": (errno.EPERM, lambda s: os.setxattr(s.blob, DIGEST, b"x")),
    "removexattr": (errno.EPERM, lambda s: os.removexattr(s.blob, DIGEST)),
    "setxattr of a folder": (errno.EPERM, lambda _: os.setxattr("blobs", "user.x", b"x")),
    "getxattr of another name": (errno.EOPNOTSUPP, lambda s: os.getxattr(s.blob, "user.x")),
    "getxattr of another tag": (
        errno.ENODATA,
        lambda s: os.getxattr(s.blob, "user.checksum.sha512"),
    ),
    "shared writable mmap": (
        errno.EACCES,
        lambda s: with_fd(s.blob, os.O_RDONLY, lambda fd: mmap.mmap(fd, 0)),
    ),
    "ioctl": (
        errno.ENOTTY,
        lambda s: with_fd(s.blob, os.O_RDONLY, lambda fd: fcntl.ioctl(fd, 0x5401, bytes(64))),
    ),
    "what is not there": (errno.ENOENT, lambda _: os.stat(f"blobs/sha256/{ABSENT}")),
    "capitals": (errno.ENOENT, lambda _: os.stat(f"blobs/sha256/{sha256(BLOB).upper()}")),
    "no hex": (errno.ENOENT, lambda _: os.stat("blobs/sha256/" + "g" * 64)),
    "too short": (errno.ENOENT, lambda s: os.stat(s.blob[:-1])),
    "no UTF-8": (errno.ENOENT, lambda _: os.stat(b"blobs/sha256/\xff")),
    "too long": (errno.ENOENT, lambda _: os.stat("blobs/sha256/" + "0" * 255)),
    "another algorithm": (errno.ENOENT, lambda _: os.stat("blobs/md5")),
    "of another algorithm": (errno.ENOENT, lambda s: os.stat(s.blob.replace("256", "512"))),
    "what is not there in the root": (errno.ENOENT, lambda _: os.stat("x")),
    "a file as a folder": (errno.ENOTDIR, lambda s: os.stat(f"{s.blob}/x")),
    "delete what is not there": (errno.ENOENT, lambda _: os.unlink(f"blobs/sha256/{ABSENT}")),
}

_APPEND: Final = os.O_WRONLY | os.O_APPEND
_PUNCH: Final = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE

ON_INGESTS: Final[dict[str, tuple[int, Call]]] = {
    "write before the end": (
        errno.EPERM,
        lambda s: with_fd(s.ingest, os.O_WRONLY, lambda fd: os.pwrite(fd, b"x", 0)),
    ),
    "write across the end": (
        errno.EPERM,
        lambda s: with_fd(s.ingest, os.O_WRONLY, lambda fd: os.pwrite(fd, b"xx", len(BYTES) - 1)),
    ),
    "truncate": (errno.EPERM, lambda s: os.truncate(s.ingest, 1)),
    "ftruncate": (
        errno.EPERM,
        lambda s: with_fd(s.ingest, os.O_WRONLY, lambda fd: os.ftruncate(fd, 1)),
    ),
    "shared writable mmap": (
        errno.ENODEV,
        lambda s: with_fd(s.ingest, os.O_RDWR, lambda fd: mmap.mmap(fd, len(BYTES))),
    ),
    "write beyond the expected size": (
        errno.EFBIG,
        lambda s: with_fd(s.sized, _APPEND, lambda fd: os.write(fd, b"123")),
    ),
    "write a hole beyond the expected size": (
        errno.EFBIG,
        lambda s: with_fd(s.sized, os.O_WRONLY, lambda fd: os.pwrite(fd, b"1", len(BYTES) + 2)),
    ),
    "truncate beyond the expected size": (
        errno.EFBIG,
        lambda s: os.truncate(s.sized, len(BYTES) + 3),
    ),
    "open what is held": (errno.EBUSY, lambda s: os.open(s.held, os.O_WRONLY)),
    "open what is held to read and write": (errno.EBUSY, lambda s: os.open(s.held, os.O_RDWR)),
    "O_TRUNC of what is held": (errno.EBUSY, lambda s: os.open(s.held, os.O_WRONLY | os.O_TRUNC)),
    "open what this process holds": (errno.EBUSY, lambda s: twice(s.ingest)),
    "create what this process holds": (
        errno.EBUSY,
        lambda s: twice(s.other, os.O_WRONLY | os.O_CREAT),
    ),
    "unlink what is held": (errno.EBUSY, lambda s: os.unlink(s.held)),
    "rename what is held": (errno.EBUSY, lambda s: os.rename(s.held, s.new)),
    "rename over what is held": (errno.EBUSY, lambda s: os.rename(s.ingest, s.held)),
    "O_EXCL": (errno.EEXIST, lambda s: create(s.ingest)),
    "mknod": (errno.EEXIST, lambda s: os.mknod(s.ingest)),
    "RENAME_NOREPLACE": (
        errno.EEXIST,
        lambda s: renameat2(s.ingest, s.other, _RENAME_NOREPLACE),
    ),
    "RENAME_EXCHANGE": (errno.EINVAL, lambda s: renameat2(s.ingest, s.other, _RENAME_EXCHANGE)),
    "mkdir": (errno.EPERM, lambda s: os.mkdir(s.new)),
    "rmdir": (errno.ENOTDIR, lambda s: os.rmdir(s.ingest)),
    "symlink": (errno.EPERM, lambda s: os.symlink("x", s.new)),
    "readlink": (errno.EINVAL, lambda s: os.readlink(s.ingest)),
    "link": (errno.EPERM, lambda s: os.link(s.ingest, s.new)),
    "mkfifo": (errno.EPERM, lambda s: os.mkfifo(s.new)),
    "mknod of a socket": (errno.EPERM, lambda s: os.mknod(s.new, stat.S_IFSOCK | 0o600)),
    "mknod of a device": (
        errno.EPERM,
        lambda s: os.mknod(s.new, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    ),
    "O_TMPFILE": (errno.EOPNOTSUPP, lambda _: os.open("ingest", os.O_TMPFILE | os.O_RDWR)),
    "fallocate": (
        errno.EOPNOTSUPP,
        lambda s: with_fd(s.ingest, os.O_WRONLY, lambda fd: fallocate(fd, 0)),
    ),
    "fallocate of a hole": (
        errno.EOPNOTSUPP,
        lambda s: with_fd(s.ingest, os.O_WRONLY, lambda fd: fallocate(fd, _PUNCH)),
    ),
    "ioctl": (
        errno.ENOTTY,
        lambda s: with_fd(s.ingest, os.O_RDONLY, lambda fd: fcntl.ioctl(fd, 0x5401, bytes(64))),
    ),
    "open what is not there": (errno.ENOENT, lambda s: os.open(s.new, os.O_WRONLY)),
    "stat of what is not there": (errno.ENOENT, lambda s: os.stat(s.new)),
    "unlink what is not there": (errno.ENOENT, lambda s: os.unlink(s.new)),
    "rename what is not there": (errno.ENOENT, lambda s: os.rename(s.new, s.other)),
    "rename to a malformed name": (errno.EINVAL, lambda s: os.rename(s.ingest, "ingest/%")),
    "rename to no UTF-8": (errno.EINVAL, lambda s: os.rename(s.ingest, b"ingest/\xff")),
    "rename to a name too long": (
        errno.ENAMETOOLONG,
        lambda s: os.rename(s.ingest, "ingest/" + "x" * 256),
    ),
    "setxattr of another name": (errno.EOPNOTSUPP, lambda s: os.setxattr(s.ingest, "user.x", b"")),
    "setxattr of what is computed": (errno.EPERM, lambda s: os.setxattr(s.ingest, DIGEST, b"x")),
    "getxattr of another name": (errno.EOPNOTSUPP, lambda s: os.getxattr(s.ingest, "user.x")),
    "getxattr of what is not set": (
        errno.ENODATA,
        lambda s: os.getxattr(s.ingest, EXPECTED_DIGEST),
    ),
    "getxattr of an error where none was": (
        errno.ENODATA,
        lambda s: os.getxattr(s.ingest, "user.content.error"),
    ),
    "removexattr of what is not set": (
        errno.ENODATA,
        lambda s: os.removexattr(s.ingest, EXPECTED_SIZE),
    ),
    "removexattr of another name": (
        errno.EOPNOTSUPP,
        lambda s: os.removexattr(s.ingest, "user.x"),
    ),
    "removexattr of what is computed": (errno.EPERM, lambda s: os.removexattr(s.ingest, DIGEST)),
    "XATTR_CREATE of what is set": (
        errno.EEXIST,
        lambda s: os.setxattr(s.sized, EXPECTED_SIZE, b"99", os.XATTR_CREATE),
    ),
    "XATTR_REPLACE of what is not set": (
        errno.ENODATA,
        lambda s: os.setxattr(s.ingest, EXPECTED_SIZE, b"99", os.XATTR_REPLACE),
    ),
    "setxattr of the folder": (errno.EPERM, lambda _: os.setxattr("ingest", "user.x", b"x")),
    "getxattr of the folder": (errno.EOPNOTSUPP, lambda _: os.getxattr("ingest", "user.x")),
}

MALFORMED_NAMES: Final = {
    "a bare %": b"%",
    "a small %2f": b"a%2fb",
    "% and another letter": b"%41",
    "half an escape": b"a%2",
    "a dot escaped for nothing": b"%2Ea",
    "no UTF-8": b"\xff\xfe",
    "a surrogate": b"\xed\xa0\x80",
}

BAD_VALUES: Final = {
    "no digest": (EXPECTED_DIGEST, b"sha256", errno.EINVAL),
    "nothing": (EXPECTED_DIGEST, b"", errno.EINVAL),
    "too short": (EXPECTED_DIGEST, b"sha256:00", errno.EINVAL),
    "capitals": (EXPECTED_DIGEST, b"sha256:" + b"A" * 64, errno.EINVAL),
    "a newline": (EXPECTED_DIGEST, b"sha256:" + b"a" * 64 + b"\n", errno.EINVAL),
    "a path": (EXPECTED_DIGEST, b"sha256:../../../x", errno.EINVAL),
    "no UTF-8": (EXPECTED_DIGEST, b"sha256:" + b"\xff" * 64, errno.EINVAL),
    "another algorithm": (EXPECTED_DIGEST, b"md5:" + b"a" * 32, errno.EOPNOTSUPP),
    "a tag of another algorithm": ("user.checksum.md5", b"a" * 32, errno.EOPNOTSUPP),
    "a tag with its algorithm": ("user.checksum.sha256", b"sha256:" + b"a" * 64, errno.EINVAL),
    "a tag of nothing": ("user.checksum.sha256", b"", errno.EINVAL),
    "no number": (EXPECTED_SIZE, b"many", errno.EINVAL),
    "no size": (EXPECTED_SIZE, b"", errno.EINVAL),
    "a negative size": (EXPECTED_SIZE, b"-1", errno.EINVAL),
    "a hexadecimal size": (EXPECTED_SIZE, b"0x10", errno.EINVAL),
    "a fraction": (EXPECTED_SIZE, b"1.5", errno.EINVAL),
    "more than a file can have": (EXPECTED_SIZE, b"9223372036854775808", errno.EINVAL),
}


@pytest.fixture(scope="module")
def _open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    mount = Mount(tmp_path_factory.mktemp("all"), "allow_other", "umask=000")
    yield mount
    mount.close()


_scenes: dict[Path, Scene] = {}


def scene_of(mount: Mount) -> Scene:
    """What the calls are about: made once for a mount, since no call is to change it."""
    if mount.root not in _scenes:
        for name in mount.names():
            (mount.ingest / name).unlink()
        (mount.ingest / f"sha256:{sha256(BLOB)}").write_bytes(BLOB)
        refs = [mount.ref() for _ in range(5)]
        for ref in refs[:4]:
            ref.write_bytes(OTHER if ref is refs[1] else BYTES)
        os.setxattr(refs[3], EXPECTED_SIZE, b"%d" % (len(BYTES) + 2))
        paths = [str(path.relative_to(mount.point)) for path in (mount.blob(BLOB), *refs)]
        _scenes[mount.root] = Scene(*paths)
    return _scenes[mount.root]


def look(mount: Mount, scene: Scene) -> tuple[dict[str, bytes], list[list[str]]]:
    """What can be read, and what is listed."""
    folders = (mount.point, mount.ingest, mount.blobs, mount.blobs / "sha256")
    return scene.there(mount.point), [sorted(os.listdir(folder)) for folder in folders]


def must_refuse(mount: Mount, call: Call, *numbers: int, user: int | None = None) -> None:
    """A call fails as it should, and everything is as it was."""
    scene = scene_of(mount)
    holder = os.open(mount.point / scene.held, os.O_WRONLY)
    try:
        before = look(mount, scene)
        assert list(before[0].values()) == [BLOB, BYTES, OTHER, BYTES, BYTES]
        with refused(*numbers):
            elsewhere(lambda: call(scene) and None, user=user, folder=mount.point)
        assert look(mount, scene) == before
    except BaseException:
        del _scenes[mount.root]
        raise
    finally:
        os.close(holder)


@pytest.fixture
def open_to_all(_open_to_all: Mount) -> Iterator[Mount]:
    """A mount on which nobody in particular may do what root may."""
    with _open_to_all.watched():
        yield _open_to_all
    _open_to_all.assert_no_faults()


@pytest.mark.parametrize("name", ON_BLOBS)
def test_a_blob_is_not_to_be_changed(name: str, mount: Mount) -> None:
    """Each way to change a blob, or what blobs are in, is refused with its errno, to root too."""
    number, call = ON_BLOBS[name]
    must_refuse(mount, call, number)


@pytest.mark.parametrize("name", ON_BLOBS)
def test_a_blob_is_not_to_be_changed_by_nobody(name: str, open_to_all: Mount) -> None:
    """What root is refused, another user is refused too; the kernel may be the first to say so."""
    number, call = ON_BLOBS[name]
    # EPERM for link(2) comes from fs.protected_hardlinks.
    must_refuse(open_to_all, call, number, errno.EACCES, errno.EPERM, user=NOBODY)


@pytest.mark.parametrize("name", ON_INGESTS)
def test_what_an_ingest_refuses(name: str, mount: Mount) -> None:
    """Each call that an ingest does not allow is refused with its errno, and changes nothing."""
    number, call = ON_INGESTS[name]
    must_refuse(mount, call, number)


@pytest.mark.parametrize("name", ON_INGESTS)
def test_what_an_ingest_refuses_to_nobody(name: str, open_to_all: Mount) -> None:
    """Another user gets the same errno as root, where the modes let him get so far."""
    number, call = ON_INGESTS[name]
    must_refuse(open_to_all, call, number, user=NOBODY)


@pytest.mark.parametrize("name", MALFORMED_NAMES)
@pytest.mark.parametrize("deed", ["stat", "create", "mkdir", "mknod", "unlink"])
def test_a_malformed_name_is_einval(name: str, deed: str, mount: Mount) -> None:
    """A name that is not in the form of refs is EINVAL, whatever is done to it."""
    path = os.fsencode(mount.ingest) + b"/" + MALFORMED_NAMES[name]
    deeds: dict[str, Callable[[bytes], object]] = {
        "stat": os.stat,
        "create": lambda path: os.open(path, os.O_CREAT | os.O_WRONLY),
        "mkdir": os.mkdir,
        "mknod": os.mknod,
        "unlink": os.unlink,
    }
    with refused(errno.EINVAL):
        deeds[deed](path)


@pytest.mark.parametrize("length", [256, 1000, 1025, 4000])
def test_a_name_too_long_is_enametoolong(length: int, mount: Mount) -> None:
    """A name of more than 255 bytes is ENAMETOOLONG, be it ours or the kernel's limit."""
    with refused(errno.ENAMETOOLONG):
        os.open(mount.ingest / ("x" * length), os.O_CREAT | os.O_WRONLY)
    with refused(errno.ENAMETOOLONG):
        os.stat(mount.ingest / ("x" * length))


@pytest.mark.parametrize(
    "name",
    ["a" * 255, "\u00e9" * 127, "%2E", "%2E%2E", "%2F", "%25", "%25 %2F", "a b\n\t\x7f", "-", ".x"],
)
def test_a_name_in_the_form_of_refs_is_taken(name: str, mount: Mount) -> None:
    """Whatever is in the form of refs can be made, is listed as given, and can be dropped."""
    path = mount.ingest / name
    path.write_bytes(b"x")
    assert name in mount.names()
    ref = {"%2E": ".", "%2E%2E": ".."}.get(name, name.replace("%2F", "/").replace("%25", "%"))
    assert os.getxattr(path, "user.content.ref").decode() == ref
    assert (mount.folder(ref) / "ref").read_bytes() == ref.encode()
    path.unlink()
    assert not mount.folder(ref).exists()


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_malformed_value_is_refused(name: str, mount: Mount) -> None:
    """A value that cannot mean anything is refused, and what was set before stays."""
    attribute, value, number = BAD_VALUES[name]
    ref = mount.ref()
    ref.write_bytes(BYTES)
    digest = f"sha512:{'a' * 128}".encode()
    os.setxattr(ref, EXPECTED_SIZE, b"100")
    os.setxattr(ref, EXPECTED_DIGEST, digest)
    with refused(number):
        os.setxattr(ref, attribute, value)
    assert os.getxattr(ref, EXPECTED_DIGEST) == digest
    assert os.getxattr(ref, EXPECTED_SIZE) == b"100"
    ref.unlink()


def test_a_write_beyond_the_expected_size_leaves_nothing_of_it(mount: Mount) -> None:
    """EFBIG takes no byte of a request, and less is taken afterwards."""
    ref = mount.ref()
    with open(ref, "wb", buffering=0) as file:
        os.setxattr(ref, EXPECTED_SIZE, b"10")
        file.write(b"123456")
        with refused(errno.EFBIG):
            file.write(b"78901")
        assert ref.read_bytes() == b"123456"
        file.write(b"7890")
    assert ref.read_bytes() == b"1234567890"


def test_a_large_write_beyond_the_expected_size(mount: Mount) -> None:
    """The kernel hands a large write over in pieces: those that fit are taken, the next is not."""
    mib = 1024 * 1024
    total = 5 * mib // 2
    ref = mount.ref()
    with open(ref, "wb", buffering=0) as file:
        os.setxattr(ref, EXPECTED_SIZE, b"%d" % total)
        # A piece has as many pages as a MiB, of which the first need not be used from its start.
        taken = file.write(b"x" * 3 * mib)
        assert 2 * mib - 8192 < taken <= 2 * mib
        with refused(errno.EFBIG):
            file.write(b"x" * mib)
        assert file.write(b"x" * (total - taken)) == total - taken
    assert ref.stat().st_size == total
    ref.unlink()


def test_what_another_process_holds_is_busy_after_some_patience(mount: Mount) -> None:
    """A ref that another process holds is EBUSY, after a quarter of a second at the most."""
    ref = mount.ref()
    ref.write_bytes(BYTES)
    other = mount.ref()
    other.write_bytes(BYTES)
    with Store(mount.root).writer(ref.name, timeout=5):
        deeds: dict[str, Callable[[], object]] = {
            "open": lambda: os.open(ref, os.O_WRONLY),
            "create": lambda: os.open(ref, os.O_WRONLY | os.O_CREAT),
            "unlink": ref.unlink,
            "rename": lambda: ref.rename(mount.ref()),
            "rename over": lambda: other.rename(ref),
            "truncate": lambda: os.truncate(ref, 100),
        }
        for deed in deeds.values():
            begun = time.monotonic()
            with refused(errno.EBUSY):
                deed()
            assert time.monotonic() - begun < 1
        assert ref.read_bytes() == BYTES
        assert other.read_bytes() == BYTES
    with open(ref, "ab") as file:
        file.write(b"!")


def test_what_another_process_lets_go_of_in_time_is_not_busy(mount: Mount) -> None:
    """A ref that another process holds for a moment longer is waited for."""
    ref = mount.ref()
    ref.write_bytes(BYTES)
    writer = Store(mount.root).writer(ref.name, timeout=5)
    reader, signal = os.pipe()
    child = os.fork()
    if child == 0:
        # The child's copy of the lock must not be what is waited for.
        os.close(signal)
        os.read(reader, 1)
        try:
            os.close(os.open(ref, os.O_WRONLY))
        except OSError:
            os._exit(1)
        os._exit(0)
    os.close(reader)
    os.close(signal)
    writer.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_one_writer_over_two_mounts_of_a_store(
    mount: Mount, new_mount: Callable[..., Mount]
) -> None:
    """What is open for writing on one mount is EBUSY on another of the same store."""
    second = new_mount(root=mount.root)
    ref = mount.ref()
    with open(ref, "wb", buffering=0) as file:
        file.write(BYTES)
        assert (second.ingest / ref.name).read_bytes() == BYTES
        with refused(errno.EBUSY):
            os.open(second.ingest / ref.name, os.O_WRONLY)
    with open(second.ingest / ref.name, "ab") as file:
        file.write(OTHER)
    assert ref.read_bytes() == BYTES + OTHER


def test_modes_times_and_owners_are_accepted_and_mean_nothing(mount: Mount) -> None:
    """Chmod, utimens and chown by root succeed on an ingest, and change nothing."""
    ref = mount.ref()
    ref.write_bytes(BYTES)
    before = ref.stat()
    ref.chmod(0o600)
    os.utime(ref, (1, 1))
    os.chown(ref, 1, 1)
    with open(ref, "r+b") as file:
        os.fchmod(file.fileno(), 0o777)
        os.fchown(file.fileno(), 2, -1)
        os.utime(file.fileno())
    after = ref.stat()
    assert (before.st_mode, before.st_uid, before.st_gid) == (after.st_mode, 0, 0)
    # Not the second that utimens has asked for: its writer's close may have dated it since.
    assert after.st_mtime_ns - before.st_mtime_ns < 60 * 10**9
    assert after.st_mtime_ns >= before.st_mtime_ns
    assert stat.S_IMODE(after.st_mode) == 0o644


def test_what_somebody_else_may_set_of_an_ingest(open_to_all: Mount) -> None:
    """Chown to another owner by others than root is EPERM."""
    ref = open_to_all.ref()
    ref.write_bytes(BYTES)

    def change() -> None:
        os.chown(f"ingest/{ref.name}", NOBODY, -1)

    with refused(errno.EPERM):
        elsewhere(change, user=NOBODY, folder=open_to_all.point)


def test_nobody_may_not_write_where_only_the_owner_may(mount: Mount) -> None:
    """On a mount with the usual modes other users can look, and are refused all the rest."""
    ref = mount.ref()
    ref.write_bytes(BYTES)
    name = f"ingest/{ref.name}"
    deeds: list[Callable[[], object]] = [
        lambda: os.open(name, os.O_WRONLY),
        lambda: os.open(f"{name}-new", os.O_CREAT | os.O_WRONLY),
        lambda: os.unlink(name),
        lambda: os.rename(name, f"{name}-new"),
        lambda: os.truncate(name, 0),
        lambda: os.setxattr(name, EXPECTED_SIZE, b"1"),
        lambda: os.mknod(f"{name}-new"),
    ]
    for deed in deeds:
        with refused(errno.EACCES):
            elsewhere(deed, user=NOBODY, folder=mount.point)
    read = elsewhere(lambda: Path(name).read_bytes(), user=NOBODY, folder=mount.point)
    assert read == BYTES


READ_ONLY: Final[dict[str, Call]] = {
    "create": lambda s: create(s.new),
    "open for writing": lambda s: os.open(s.ingest, os.O_WRONLY),
    "truncate": lambda s: os.truncate(s.ingest, 0),
    "unlink": lambda s: os.unlink(s.ingest),
    "rename": lambda s: os.rename(s.ingest, s.new),
    "setxattr": lambda s: os.setxattr(s.ingest, EXPECTED_SIZE, b"1"),
    "removexattr": lambda s: os.removexattr(s.sized, EXPECTED_SIZE),
    "chmod": lambda s: os.chmod(s.ingest, 0o600),
    "utimens": lambda s: os.utime(s.ingest),
    "mkdir": lambda s: os.mkdir(s.new),
    "mknod": lambda s: os.mknod(s.new),
    "unlink a blob": lambda s: os.unlink(s.blob),
    "open a blob for writing": lambda s: os.open(s.blob, os.O_WRONLY),
    "create in the root": lambda _: create("x"),
}


def test_a_read_only_mount_refuses_every_change(
    mount: Mount, new_mount: Callable[..., Mount]
) -> None:
    """On a mount with -o ro every change is EROFS, and looking is what it always is."""
    scene = scene_of(mount)
    looker = new_mount("ro", "allow_delete", root=mount.root)
    for name, call in READ_ONLY.items():
        with refused(errno.EROFS):
            elsewhere(lambda call=call: call(scene) and None, folder=looker.point)  # type: ignore[misc]
        assert scene.there(looker.point)[scene.ingest] == BYTES, name


def test_a_single_refusal_switches_nothing_off(mount: Mount) -> None:
    """After every refusal of this module the calls still reach us: ENOSYS was never said."""
    ref = mount.ref()
    with open(ref, "wb") as file:
        file.write(BYTES)
        os.fsync(file.fileno())
        os.setxattr(ref, EXPECTED_SIZE, b"100")
        assert os.getxattr(ref, EXPECTED_SIZE) == b"100"
        assert os.listxattr(ref) == [EXPECTED_SIZE]
        os.removexattr(ref, EXPECTED_SIZE)
    (mount.ingest / f"{ref.name}@sha256:{sha256(BYTES)}").write_bytes(BYTES)
    assert mount.blob(BYTES).read_bytes() == BYTES
    mount.stored(BYTES).unlink()
