"""What a close means: of one descriptor of several, of a mapped file, of a killed process."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from store import Store
from tests.fusefs.actors import elsewhere
from tests.fusefs.mounted import (
    DIGEST,
    ERROR,
    EXPECTED_SIZE,
    Mount,
    append,
    attribute,
    digest_of,
    expect,
    refused,
    until,
)

MIB = 1024 * 1024


def content_of(mount: Mount, size: int = 0) -> bytes:
    """Content that no other test has."""
    return f"content {mount.ref().name} ".encode() + b"." * size


def start(*words: str | Path, **options: int) -> subprocess.Popen[bytes]:
    """Start a program with pipes to it."""
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


# ------------------------------------------------------------------------- several descriptors


def test_a_shell_group_commits_at_its_end(mount: Mount) -> None:
    """Every child of a group closes a copy; with the expected size only the last close counts."""
    ref = mount.ref()
    content = b"a\nhello\nc\n"
    source = mount.root / "part"
    source.write_bytes(b"hello\n")
    append(ref, b"")
    os.setxattr(ref, EXPECTED_SIZE, b"%d" % len(content))
    expect(ref, content)
    done = subprocess.run(
        ["bash", "-euc", '{ echo a; cat "$1"; (echo c); } >"$0"', ref, source],
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    mount.assert_committed(ref, content)
    source.unlink()


def test_a_shell_group_whose_size_nobody_knows(mount: Mount) -> None:
    """Without the size the first program's close is judged as any other; the last one commits."""
    content = b"one\ntwo\n"
    ref = mount.ref(f"@{digest_of(content)}")
    script = '{ printf "one\\n" | cat; printf "two\\n" | cat; } >"$0"'
    done = subprocess.run(["bash", "-c", script, ref], capture_output=True, check=False)
    assert b"Bad message" in done.stderr
    mount.assert_committed(ref, content)


def test_the_first_close_in_a_shell_says_nothing(mount: Mount) -> None:
    """`>` and `>>` close a copy before they write; neither is a verdict on what was there."""
    ref = mount.ref(f"@{digest_of(b'good')}")
    with refused(errno.EBADMSG):
        append(ref, b"evil")
    note = attribute(ref, ERROR)
    subprocess.run(["bash", "-euc", ': >>"$0"', ref], check=True)
    assert attribute(ref, ERROR) == note
    subprocess.run(["bash", "-euc", 'printf good >"$0"', ref], check=True)
    mount.assert_committed(ref, b"good")


def test_a_close_in_mid_stream_is_judged_where_bytes_came(mount: Mount) -> None:
    """A copy's close says EBADMSG after a write, and nothing where none came since the last."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(content)}")
    fd = os.open(ref, os.O_WRONLY | os.O_CREAT)
    os.close(os.dup(fd))
    os.write(fd, content[:4])
    with refused(errno.EBADMSG):
        os.close(os.dup(fd))
    os.close(os.dup(fd))
    assert attribute(ref, ERROR) is not None
    os.write(fd, content[4:8])
    assert attribute(ref, ERROR) is None
    with refused(errno.EBADMSG):
        os.close(os.dup(fd))
    os.write(fd, content[8:])
    mount.assert_kept(ref, content, error=False)
    os.close(fd)
    mount.assert_committed(ref, content)


def test_a_close_in_mid_stream_of_what_is_short_says_nothing(mount: Mount) -> None:
    """Where the expected size tells that more must come, no close in between is a verdict."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(content)}")
    fd = os.open(ref, os.O_WRONLY | os.O_CREAT)
    os.setxattr(ref, EXPECTED_SIZE, b"%d" % len(content))
    for at in range(len(content)):
        os.close(os.dup(fd))
        os.write(fd, content[at : at + 1])
        if at < len(content) - 1:
            os.close(os.dup(fd))
    mount.assert_kept(ref, content, error=False)
    os.close(fd)
    mount.assert_committed(ref, content)


def test_after_the_commit_reads_go_on_and_writes_are_eperm(mount: Mount) -> None:
    """A descriptor that is still open when a copy's close commits can read, and write no more."""
    content = content_of(mount, 10_000)
    ref = mount.ref(f"@{digest_of(content)}")
    fd = os.open(ref, os.O_RDWR | os.O_CREAT)
    os.write(fd, content)
    os.close(os.dup(fd))
    mount.assert_committed(ref, content)
    assert os.pread(fd, 100_000, 0) == content
    assert os.pread(fd, 10, 5) == content[5:15]
    assert os.fstat(fd).st_size == len(content)
    for deed in (
        lambda: os.write(fd, b"x"),
        lambda: os.pwrite(fd, b"x", 0),
        lambda: os.ftruncate(fd, 0),
        lambda: os.ftruncate(fd, len(content) + 1),
    ):
        with refused(errno.EPERM):
            deed()
    os.fsync(fd)
    os.ftruncate(fd, len(content))
    os.fchmod(fd, 0o600)
    mount.stored(content).unlink()
    assert os.pread(fd, 100_000, 0) == content
    os.close(fd)


def test_a_writer_reads_on_though_its_blob_is_deleted(mount: Mount) -> None:
    """Who has an ingest open to read and write reads on, also what it had not read before."""
    content = content_of(mount, 300_000)
    fd = os.open(mount.ref(f"@{digest_of(content)}"), os.O_RDWR | os.O_CREAT)
    os.write(fd, content)
    os.close(os.dup(fd))
    mount.stored(content).unlink()
    assert os.pread(fd, 1_000_000, 0) == content
    assert os.fstat(fd).st_size == len(content)
    os.close(fd)


def test_a_reader_goes_on_after_the_commit(mount: Mount) -> None:
    """Who has the ingest open for reading reads on when it has become a blob, and been deleted."""
    content = content_of(mount, 300_000)
    ref = mount.ref()
    append(ref, content)
    with open(ref, "rb", buffering=0) as file:
        assert file.read(10) == content[:10]
        expect(ref, content)
        mount.stored(content).unlink()
        assert file.read(len(content)) == content[10:]
        assert os.fstat(file.fileno()).st_size == len(content)


def test_a_readers_close_and_fsync_carry_no_verdict(mount: Mount) -> None:
    """To read a refused ingest, sync and close it says nothing and changes nothing."""
    ref = mount.ref(f"@{digest_of(b'good')}")
    with refused(errno.EBADMSG):
        append(ref, b"evil")
    fd = os.open(ref, os.O_RDONLY)
    os.fsync(fd)
    os.close(os.dup(fd))
    os.close(fd)
    mount.assert_kept(ref, b"evil", error=True)


def test_fsync_carries_no_verdict(mount: Mount) -> None:
    """Fsync and fdatasync of wrong bytes succeed; the close is what judges."""
    ref = mount.ref(f"@{digest_of(b'good')}")
    fd = os.open(ref, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"evil")
    os.fsync(fd)
    os.fdatasync(fd)
    assert attribute(ref, ERROR) is None
    with refused(errno.EBADMSG):
        os.close(fd)


@pytest.mark.parametrize("flag", ["O_SYNC", "O_DSYNC"])
def test_synchronous_writes(flag: str, mount: Mount) -> None:
    """A file that is open with O_SYNC or O_DSYNC is written and committed as any other."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(content)}")
    fd = os.open(ref, os.O_WRONLY | os.O_CREAT | getattr(os, flag))
    for at in range(0, len(content), 5):
        os.write(fd, content[at : at + 5])
    os.close(fd)
    mount.assert_committed(ref, content)


# ------------------------------------------------------------------------------- mapped, killed


def test_a_mapping_that_outlives_the_close(mount: Mount) -> None:
    """The close commits though a private mapping stays, which goes on to show the bytes."""
    content = content_of(mount, 3 * mmap.PAGESIZE)
    ref = mount.ref(f"@{digest_of(content)}")
    fd = os.open(ref, os.O_RDWR | os.O_CREAT)
    os.write(fd, content)
    with mmap.mmap(fd, len(content), flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped:
        # What Python keeps is a copy of the descriptor, so this is not the last close.
        os.close(fd)
        mount.assert_committed(ref, content)
        assert mapped[:] == content


def test_a_mapping_keeps_an_ingest_open(mount: Mount) -> None:
    """A writer that is mapped holds its ref until the mapping goes, also after the last close."""
    script = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(fd, b"bytes")
at = libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
assert at not in (None, ctypes.c_void_p(-1).value), ctypes.get_errno()
os.close(fd)
print(ctypes.string_at(at, 5).decode(), flush=True)
sys.stdin.read()
"""
    ref = mount.ref()
    with start(sys.executable, "-c", script, ref) as mapper:
        assert mapper.stdin is not None
        assert mapper.stdout is not None
        assert mapper.stdout.readline() == b"bytes\n"
        with refused(errno.EBUSY):
            os.open(ref, os.O_WRONLY)
        assert ref.read_bytes() == b"bytes"
        mapper.stdin.close()
    assert mapper.returncode == 0
    append(ref, b" more")
    assert ref.read_bytes() == b"bytes more"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "partial"])
def test_a_killed_writer_is_closed_like_any_other(whole: bool, mount: Mount) -> None:  # noqa: FBT001
    """What a killed process has written is committed if it is whole, else kept and resumed."""
    content = content_of(mount, 2 * MIB)
    ref = mount.ref(f"@{digest_of(content)}")
    sent = content if whole else content[: MIB + 5]
    with start("dd", f"of={ref}", "bs=4k", "iflag=fullblock", "status=none") as writer:
        assert writer.stdin is not None
        writer.stdin.write(sent)
        writer.stdin.flush()
        until(lambda: ref.stat().st_size >= len(sent) // 4096 * 4096, "dd has written")
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    written = len(sent) // 4096 * 4096
    mount.assert_kept(ref, content[:written], error=True)
    append(ref, content[written:])
    mount.assert_committed(ref, content)


def test_a_killed_writer_of_all_the_bytes_has_committed(mount: Mount) -> None:
    """A process that is killed when it has written the last byte leaves a blob."""
    content = content_of(mount, 2 * MIB)
    ref = mount.ref(f"@{digest_of(content)}")
    script = """
import os, signal, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
data = sys.stdin.buffer.read()
while data:
    data = data[os.write(fd, data):]
print("done", flush=True)
signal.pause()
"""
    with start(sys.executable, "-c", script, ref) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.write(content)
        writer.stdin.close()
        assert writer.stdout.readline() == b"done\n"
        assert ref.stat().st_size == len(content)
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    mount.assert_committed(ref, content)


def test_a_process_that_ends_without_a_close_has_closed(mount: Mount) -> None:
    """exit(2) closes as close(2) does, though nobody hears of a verdict."""
    good, evil = mount.ref(f"@{digest_of(b'good 1')}"), mount.ref(f"@{digest_of(b'good 2')}")

    def write(ref: Path, content: bytes) -> None:
        os.write(os.open(ref, os.O_WRONLY | os.O_CREAT), content)

    elsewhere(lambda: write(good, b"good 1"))
    elsewhere(lambda: write(evil, b"evil"))
    mount.assert_committed(good, b"good 1")
    mount.assert_kept(evil, b"evil", error=True)


# ----------------------------------------------------------------- what comes after a close waits


def test_appends_one_after_the_other_are_never_busy(mount: Mount) -> None:
    """Three hundred times open, write, close of the same ref, with no pause in between."""
    ref = mount.ref()
    piece = b"0123456789abcdef" * 256
    for _ in range(300):
        append(ref, piece)
    assert ref.read_bytes() == piece * 300


def test_appends_of_many_processes_are_never_busy(mount: Mount) -> None:
    """A shell that runs `cat >>` again and again finds the ref free each time."""
    ref = mount.ref()
    script = 'for i in $(seq 100); do printf "%3d\\n" "$i" | cat >>"$0"; done'
    subprocess.run(["bash", "-euc", script, ref], check=True)
    assert ref.read_bytes() == b"".join(b"%3d\n" % i for i in range(1, 101))


DEEDS: dict[str, Callable[[Path, Path], object]] = {
    "open": lambda ref, _: append(ref, b"!"),
    "O_TRUNC": lambda ref, _: ref.write_bytes(b"x"),
    "unlink": lambda ref, _: ref.unlink(),
    "rename": lambda ref, new: ref.rename(new),
    "rename over it": lambda ref, new: (new.write_bytes(b"y"), new.rename(ref)),
    "truncate": lambda ref, _: os.truncate(ref, 20 * MIB),
    "expect": lambda ref, _: expect(ref, b"z" * 16 * MIB),
    "stat": lambda ref, _: ref.stat(),
    "read": lambda ref, _: ref.read_bytes(),
}


@pytest.mark.parametrize("name", DEEDS)
def test_what_follows_the_close_of_a_large_ingest_waits_for_it(name: str, mount: Mount) -> None:
    """Whatever is done right after the close, by another process too, is never EBUSY for it."""
    ref, new = mount.ref(), mount.ref()
    with open(ref, "wb", buffering=0) as file:
        file.writelines(b"z" * MIB for _ in range(16))
    elsewhere(lambda: DEEDS[name](ref, new) and None)
    for left in (ref, new):
        left.unlink(missing_ok=True)
    mount.stored(b"z" * 16 * MIB).unlink(missing_ok=True)


def test_a_verdict_after_the_close_comes_from_the_call_that_asks(mount: Mount) -> None:
    """Setxattr right after the last close waits for it, and carries the verdict itself."""
    for i in range(50):
        content = b"%d" % i + content_of(mount)
        ref = mount.ref()
        append(ref, content)
        expect(ref, content)
        mount.assert_committed(ref, content)


def test_the_digest_right_after_a_close(mount: Mount) -> None:
    """The digest so far can be asked for at any moment, also while the close does its work."""
    ref = mount.ref()
    content = b""
    for i in range(100):
        append(ref, b"%d" % i)
        content += b"%d" % i
        assert attribute(ref, DIGEST) == digest_of(content)


def test_many_writers_of_one_ref_exclude_each_other(mount: Mount) -> None:
    """Of all who open one ref for writing at the same time one has it, the others are refused."""
    ref = mount.ref()
    inside, most, busy = 0, 0, 0
    guard = threading.Lock()
    barrier = threading.Barrier(8)

    def work() -> None:
        nonlocal inside, most, busy
        for _ in range(20):
            barrier.wait()
            try:
                fd = os.open(ref, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                with guard:
                    busy += 1
                continue
            with guard:
                inside += 1
                most = max(most, inside)
            os.write(fd, b"x")
            with guard:
                inside -= 1
            os.close(fd)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert len(ref.read_bytes()) == 160 - busy
    ref.unlink()


# ------------------------------------------------------------------------------ the mount's end


def test_the_end_of_the_mount_decides_what_no_release_has(new_mount: Callable[..., Mount]) -> None:
    """A close whose verdict was left to the RELEASE counts, though umount drops RELEASEs."""
    first = new_mount()
    contents = {f"r{i}": b"%d" % i + bytes(2 * MIB) for i in range(30)}
    for ref, content in contents.items():
        append(first.ingest / ref, content)
    first.unmount()
    store = Store(first.root)
    for ref, content in contents.items():
        store.expect_digest(ref, digest_of(content))
    second = new_mount(root=first.root)
    for ref in contents:
        # Nothing is hashed yet, and nothing is written: only the RELEASE would decide.
        os.close(os.open(second.ingest / ref, os.O_WRONLY))
    second.unmount()
    assert list(store.active()) == []
    assert {str(digest) for digest in store.digests()} == {
        digest_of(content) for content in contents.values()
    }


def test_the_end_of_the_mount_loses_nothing_of_what_was_closed(
    new_mount: Callable[..., Mount],
) -> None:
    """Fifty files that are closed and unmounted at once are whole, and nobody holds their locks."""
    mount = new_mount()
    for i in range(50):
        append(mount.ingest / f"r{i}", b"%d" % i * 1000)
    mount.unmount()
    active = list(Store(mount.root).active())
    assert len(active) == 50
    for status in active:
        assert not status.locked
        with Store(mount.root).writer(status.ref) as writer:
            assert writer.offset == len(status.ref.text[1:]) * 1000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_mount_while_files_are_open(
    number: signal.Signals, new_mount: Callable[..., Mount]
) -> None:
    """What is whole is committed and the rest is kept, though its writer has not closed."""
    mount = new_mount()
    mount.foresee("is busy: cutting off who uses it")
    whole, part = mount.ingest / digest_of(b"whole"), mount.ingest / "part"
    fds = [os.open(ref, os.O_WRONLY | os.O_CREAT) for ref in (whole, part)]
    try:
        os.write(fds[0], b"whole")
        os.write(fds[1], b"part")
        begun = time.monotonic()
        mount.end(number)
        assert time.monotonic() - begun < 10
        assert mount.stored(b"whole").read_bytes() == b"whole"
        (left,) = Store(mount.root).active()
        assert (left.ref.text, left.offset, left.locked) == ("part", 4, False)
        with refused(errno.ENOTCONN, errno.ECONNABORTED):
            os.write(fds[1], b"more")
    finally:
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)


def test_a_busy_mount_is_not_unmounted(new_mount: Callable[..., Mount]) -> None:
    """Umount of a mount with an open writer is EBUSY, and the writer goes on undisturbed."""
    mount = new_mount()
    ref = mount.ingest / digest_of(b"some bytes")
    with open(ref, "wb", buffering=0) as file:
        file.write(b"some ")
        assert subprocess.run(["umount", mount.point], capture_output=True, check=False).returncode
        file.write(b"bytes")
    mount.assert_committed(ref, b"some bytes")
