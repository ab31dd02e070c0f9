"""Random system calls against a live mount: what hypothesis thinks of, held against the contract.

A program is a list of calls.  Whatever it is, each call ends within seconds, with success or with
an errno that the contract or the kernel's own checks give; the daemon logs no traceback; and
nothing outside the store has changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import select
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.reliability.mounted import Mounted

_SLOWEST: Final = 20.0
_libc = ctypes.CDLL(None, use_errno=True)

ALLOWED: Final = frozenset(
    {
        # the contract's
        errno.EPERM, errno.EACCES, errno.ENOENT, errno.EEXIST, errno.EINVAL, errno.ENAMETOOLONG,
        errno.EBUSY, errno.EFBIG, errno.EBADMSG, errno.EOPNOTSUPP, errno.ENODATA, errno.EXDEV,
        errno.ENODEV,
        # the kernel's, before it asks us
        errno.EISDIR, errno.ENOTDIR, errno.EBADF, errno.ELOOP, errno.ENXIO, errno.ENOTTY,
        errno.ERANGE, errno.E2BIG, errno.ESPIPE, errno.EAGAIN, errno.ETXTBSY, errno.ENOTEMPTY,
    }
)  # fmt: skip
"""Not among them: EIO, ENOSYS, ESTALE, and that of a mount that is gone."""

_CONTENTS: Final = [b"", b"a", b"content" * 1000, bytes(200_000)]
_DIGESTS: Final = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in _CONTENTS]

_digests = st.one_of(
    st.sampled_from(_DIGESTS),
    st.builds(
        "{}:{}".format,
        st.sampled_from(["sha256", "sha512", "blake3", "md5", "SHA256", "", "sha256+b", "..", "/"]),
        st.text("0123456789abcdefABCg./", max_size=130),
    ),
)
_names = st.one_of(
    _digests.map(str.encode),
    _digests.map(lambda digest: digest.partition(":")[2].encode()),
    st.text(max_size=80).map(str.encode),
    st.text("%25Ff./", min_size=1, max_size=12).map(str.encode),
    st.binary(max_size=40),
    st.integers(250, 260).map(lambda length: b"n" * length),
    st.sampled_from(
        [b".", b"..", b"%2E", b"%2e", b"%2E%2E", b"%00", b"\n", b"-rf", b"lock", b"ref"]
    ),
)
_folders = st.sampled_from(
    [b"ingest", b"ingest", b"ingest", b"blobs/sha256", b"blobs", b"", b"blobs/sha512",
     b"ingest/a", b"nothing", b"blobs/sha256/.."]
)  # fmt: skip
_POOL: Final = [b"a", b"b", b"c", *(f"r@{digest}".encode() for digest in _DIGESTS)]
_good = st.sampled_from(
    [*(b"ingest/" + name for name in _POOL),
     *(b"blobs/sha256/" + digest[7:].encode() for digest in _DIGESTS)]
)  # fmt: skip
_odd_paths = st.builds(
    lambda folder, name: os.path.join(folder, name.replace(b"/", b"").replace(b"\0", b"")),
    _folders,
    _names,
)
_paths = st.one_of(_good, _good, _odd_paths)
_xattrs = st.one_of(
    st.sampled_from(
        ["user.content.expected-digest", "user.content.expected-size", "user.checksum.sha256",
         "user.content.digest", "user.content.ref", "user.content.error", "user.checksum.md5",
         "user.content.started-at", "system.posix_acl_access", "security.capability",
         "trusted.overlay.opaque", "user.x", "user.content.", "user.checksum."]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60),
)  # fmt: skip
_values = st.one_of(
    _digests.map(str.encode),
    st.sampled_from([b"0", b"1", b"7000", b"200000", b"-1", b"1e3", b" 5", b"9" * 19, b"9" * 5000,
                     "\u0661".encode(), b"1_000", b"0" * 64]),
    st.binary(max_size=100),
    st.just(bytes(65_000)),
)  # fmt: skip
_offsets = st.one_of(
    st.integers(0, 10_000),
    st.sampled_from([0, 7000, 200_000, 1 << 20, (1 << 24) + 1, -1, 1 << 26, 2**63 - 1, -(2**63)]),
)
_sizes = st.sampled_from([0, 1, 7000, 7001, 100_000, 200_000, 5_000_000, -1, 2**62])
_bytes = st.one_of(st.sampled_from(_CONTENTS), st.binary(max_size=300))
_FLAGS: Final = (
    os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_SYNC, os.O_DSYNC, os.O_DIRECT,
    os.O_NOFOLLOW, os.O_DIRECTORY, os.O_TMPFILE, os.O_PATH, os.O_NOATIME, os.O_NONBLOCK,
)  # fmt: skip
_flags = st.builds(
    lambda access, more: access | sum(set(more)),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_CREAT, os.O_RDWR, 3]),
    st.lists(st.sampled_from(_FLAGS), max_size=3),
)
_modes = st.sampled_from(
    [stat.S_IFREG | 0o644, stat.S_IFREG | 0o6777, stat.S_IFIFO | 0o600, stat.S_IFCHR | 0o666,
     stat.S_IFBLK | 0o666, stat.S_IFSOCK | 0o600, 0]
)  # fmt: skip


def _call(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *arguments)


_calls = st.one_of(
    _call("open", _paths, _flags),
    _call("open", _paths, _flags),
    _call("write", _bytes, _offsets),
    _call("append", _bytes),
    _call("append", _bytes),
    _call("read", _sizes, _offsets),
    _call("ftruncate", _sizes),
    _call("fsync"),
    _call("odd", st.integers(0, 9), _sizes),
    _call("map", st.booleans()),
    _call("fsetxattr", _xattrs, _values),
    _call("close"),
    _call("close"),
    _call("whole", _paths, _bytes),
    _call("unlink", _paths),
    _call("rename", _paths, _paths, st.sampled_from([0, 0, 0, 1, 2, 4])),
    _call("two", st.sampled_from(["link", "symlink"]), _paths, _paths),
    _call("one", st.sampled_from(["mkdir", "rmdir", "stat", "lstat", "readlink", "listdir",
                                  "statvfs", "listxattr", "chdir"]), _paths),
    _call("mknod", _paths, _modes),
    _call("chmod", _paths, st.integers(0, 0o7777)),
    _call("chown", _paths, st.sampled_from([-1, 0, 12, 2**31])),
    _call("utime", _paths, st.integers(-(2**40), 2**40)),
    _call("truncate", _paths, _sizes),
    _call("setxattr", _paths, _xattrs, _values, st.integers(0, 3)),
    _call("getxattr", _paths, _xattrs),
    _call("removexattr", _paths, _xattrs),
)  # fmt: skip
_start = _call(
    "open", _good, st.sampled_from([os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT, os.O_RDONLY])
)
PROGRAMS: Final = st.builds(
    lambda start, calls: [*start, *calls],
    st.lists(_start, max_size=2),
    st.lists(_calls, min_size=1, max_size=14),
)


class _Client:
    """Runs a program, with the last file it has opened at hand."""

    def __init__(self, point: bytes) -> None:
        self._point = point
        self._fds: list[int] = []

    def _at(self, path: bytes) -> bytes:
        return os.path.join(self._point, path)

    def close_all(self) -> None:
        """Close what is open."""
        while self._fds:
            with contextlib.suppress(OSError):
                os.close(self._fds.pop())

    @property
    def _fd(self) -> int:
        if not self._fds:
            raise OSError(errno.EBADF, "nothing is open")
        return self._fds[-1]

    def open(self, path: bytes, flags: int) -> None:
        """Call open."""
        self._fds.append(os.open(self._at(path), flags, 0o4777))

    def write(self, data: bytes, offset: int) -> None:
        """Call pwrite."""
        # What lies between is zeros, all of which are hashed.
        os.pwrite(self._fd, data, offset)

    def append(self, data: bytes) -> None:
        """Call write at the end."""
        os.lseek(self._fd, 0, os.SEEK_END)
        os.write(self._fd, data)

    def read(self, size: int, offset: int) -> None:
        """Call pread."""
        os.pread(self._fd, min(max(size, 0), 1 << 23), offset)

    def ftruncate(self, size: int) -> None:
        """Call ftruncate."""
        os.ftruncate(self._fd, size % (1 << 26))

    def fsync(self) -> None:
        """Call fsync and fdatasync(2)."""
        os.fsync(self._fd)
        os.fdatasync(self._fd)

    def odd(self, which: int, size: int) -> None:
        """Calls that few make."""
        fd, some = self._fd, min(max(size, 0), 1 << 20)
        calls: list[Callable[[], object]] = [
            lambda: os.posix_fallocate(fd, 0, min(some, 4096)),
            lambda: os.copy_file_range(fd, fd, some, 0, 0),
            lambda: os.sendfile(fd, fd, 0, some),
            lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
            lambda: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
            lambda: fcntl.ioctl(fd, some | 0x5400, bytearray(256)),
            lambda: select.select([fd], [fd], [fd], 0),
            lambda: os.lseek(fd, some, os.SEEK_HOLE),
            lambda: os.fchdir(fd),
            lambda: _checked(
                _libc.fallocate(fd, some & 0x7F, ctypes.c_long(0), ctypes.c_long(some))
            ),
        ]
        calls[which]()

    def map(self, writable: bool) -> None:  # noqa: FBT001 - a program's words have no names
        """Call mmap, shared."""
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        with mmap.mmap(self._fd, 100, mmap.MAP_SHARED, access) as mapped:
            mapped.read()

    def fsetxattr(self, name: str, value: bytes) -> None:
        """Call fsetxattr."""
        os.setxattr(self._fd, name, value)

    def close(self) -> None:
        """Call close."""
        if self._fds:
            os.close(self._fds.pop())

    def whole(self, path: bytes, data: bytes) -> None:
        """Write a whole file, as cp does."""
        with open(self._at(path), "wb", buffering=0) as file:
            file.write(data)

    def unlink(self, path: bytes) -> None:
        """Call unlink."""
        os.unlink(self._at(path))

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        """Call renameat2."""
        _checked(_libc.renameat2(-100, self._at(old), -100, self._at(new), flags))

    def two(self, name: str, old: bytes, new: bytes) -> None:
        """A call on two paths."""
        getattr(os, name)(self._at(old), self._at(new))

    def one(self, name: str, path: bytes) -> None:
        """A call on a path."""
        getattr(os, name)(self._at(path))

    def mknod(self, path: bytes, mode: int) -> None:
        """Call mknod."""
        os.mknod(self._at(path), mode, os.makedev(1, 3))

    def chmod(self, path: bytes, mode: int) -> None:
        """Call chmod."""
        os.chmod(self._at(path), mode)

    def chown(self, path: bytes, owner: int) -> None:
        """Call chown."""
        os.chown(self._at(path), owner, -1)

    def utime(self, path: bytes, seconds: int) -> None:
        """Call utimensat."""
        os.utime(self._at(path), (seconds, seconds))

    def truncate(self, path: bytes, size: int) -> None:
        """Call truncate."""
        os.truncate(self._at(path), size % (1 << 26))

    def setxattr(self, path: bytes, name: str, value: bytes, flags: int) -> None:
        """Call setxattr."""
        os.setxattr(self._at(path), name, value, flags)

    def getxattr(self, path: bytes, name: str) -> None:
        """Call getxattr."""
        os.getxattr(self._at(path), name)

    def removexattr(self, path: bytes, name: str) -> None:
        """Call removexattr."""
        os.removexattr(self._at(path), name)


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def _watched(mounted: Mounted, begun: list[float]) -> Iterator[list[str]]:
    """Kill a daemon that lets a call wait; nothing else would end the call.

    Yields:
        What was to be killed for.
    """
    hung: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1):
            if begun and time.monotonic() - begun[-1] > _SLOWEST:
                hung.append("a call hangs")
                mounted.kill()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield hung
    finally:
        over.set()
        thread.join()


def fuzz_mount(mounted: Mounted, seconds: float, chance: int) -> Counter[str]:
    """Run programs against a mount for some time.

    Args:
        mounted: the mount.
        seconds: for how long.
        chance: what the programs come from.

    Returns:
        How often each call ended how.

    Raises:
        AssertionError: a call ended as none may; hypothesis has made its program short.
    """
    seen: Counter[str] = Counter()
    begun: list[float] = []
    deadline = time.monotonic() + seconds

    @seed(chance)
    @settings(
        max_examples=10_000_000 if seconds > 60 else 5_000,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(PROGRAMS)
    def run(program: list[tuple[Any, ...]]) -> None:
        if time.monotonic() > deadline:
            raise _OverError
        client = _Client(os.fsencode(mounted.point))
        here = os.open(".", os.O_PATH)
        try:
            for name, *arguments in program:
                begun.append(time.monotonic())
                answer = _answer(getattr(client, name), arguments)
                begun.clear()
                seen[f"{name}: {errno.errorcode.get(answer, answer) if answer else 'done'}"] += 1
                assert not answer or answer in ALLOWED, f"{name} {arguments}: {os.strerror(answer)}"
        finally:
            os.fchdir(here)
            os.close(here)
            begun.append(time.monotonic())
            client.close_all()
            begun.clear()

    with _watched(mounted, begun) as hung, contextlib.suppress(_OverError):
        run()
    assert not hung, hung
    return seen


class _OverError(BaseException):
    """The time is over; hypothesis lets it pass."""


def _answer(call: Callable[..., None], arguments: list[Any]) -> int:
    try:
        call(*arguments)
    except OSError as error:
        return error.errno or 0
    except (ValueError, OverflowError):
        pass  # Python's own objection: the call was not made
    return 0


def outside(root: Path) -> list[str]:
    """What is in a store's folder and is no part of a store."""
    odd = [str(path) for path in root.iterdir() if path.name not in {"blobs", "ingest"}]
    for path in root.glob("blobs/*/*"):
        digest = hashlib.new(path.parent.name, path.read_bytes()).hexdigest()
        odd += [] if digest == path.name and path.stat().st_nlink == 1 else [str(path)]
    for path in root.glob("ingest/*"):
        odd += [] if len(path.name) == 64 and path.is_dir() else [str(path)]
    known = {"ref", "data", "startedat", "updatedat", "total", "expected", "error", "lock"}
    odd += [str(path) for path in root.glob("ingest/*/*") if path.name not in known]
    return odd
