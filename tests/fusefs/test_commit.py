"""When an ingest is committed, and which call carries the verdict."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import time
from collections.abc import Callable
from typing import Final

import pytest

from store import Store, algorithms
from tests.fusefs.mounted import (
    CHECKSUM,
    DIGEST,
    ERROR,
    EXPECTED_DIGEST,
    EXPECTED_SIZE,
    Mount,
    append,
    attribute,
    digest_of,
    expect,
    refused,
    sha256,
)

WRONG: Final = b"not what comes"


def content_of(mount: Mount, size: int = 0) -> bytes:
    """Content that no other test has."""
    return f"content {mount.ref().name} ".encode() + b"." * size


# ------------------------------------------------------------------------------------ the close


@pytest.mark.parametrize("algorithm", algorithms())
def test_a_close_commits(algorithm: str, mount: Mount) -> None:
    """A close after the last byte commits in every algorithm, by the name that is a digest."""
    content = content_of(mount)
    digest = digest_of(content, algorithm)
    append(mount.ingest / digest, content)
    name = digest.partition(":")[2]
    assert (mount.blobs / algorithm / name).read_bytes() == content
    assert (mount.root / "blobs" / algorithm / name).read_bytes() == content
    assert digest not in mount.names()


def test_a_blob_is_read_only_and_as_old_as_its_commit(mount: Mount) -> None:
    """A blob has the mode 0444, nobody's write bit, and the time of its commit as its mtime."""
    content = content_of(mount)
    ref = mount.ref()
    append(ref, content)
    before = time.time_ns()
    expect(ref, content)
    after = time.time_ns()
    for path in (mount.blob(content), mount.stored(content)):
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o444
        assert before <= found.st_mtime_ns <= after
        assert found.st_size == len(content)


def test_a_commit_has_no_race(mount: Mount) -> None:
    """A program that comes after the one that wrote finds the blob, fifty times of fifty."""
    script = """
    for i in $(seq 50); do
        echo "$REF $i" >"$WORK"
        hex=$(sha256sum <"$WORK" | cut -c-64)
        cp "$WORK" "$MNT/ingest/$REF@sha256:$hex" && cmp "$MNT/blobs/sha256/$hex" "$WORK"
        test ! -e "$MNT/ingest/$REF@sha256:$hex"
    done
    """
    ref = mount.ref().name
    env = {**os.environ, "REF": ref, "MNT": str(mount.point), "WORK": str(mount.root / "w")}
    subprocess.run(["bash", "-euc", script], env=env, check=True)
    os.unlink(mount.root / "w")


def test_a_close_with_the_wrong_bytes_is_ebadmsg(mount: Mount) -> None:
    """The close says EBADMSG; the ingest keeps its bytes and tells what was expected and found."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(WRONG)}")
    with refused(errno.EBADMSG):
        append(ref, content)
    mount.assert_kept(ref, content, error=True)
    assert attribute(ref, ERROR) == (
        f"digest mismatch: expected {digest_of(WRONG)}, found {digest_of(content)}"
    )
    ref.unlink()
    assert not mount.folder(ref.name).exists()


def test_a_refused_ingest_is_written_again(mount: Mount) -> None:
    """After EBADMSG one truncates and writes again, and is committed."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(content)}")
    with refused(errno.EBADMSG):
        append(ref, WRONG)
    ref.write_bytes(content)
    mount.assert_committed(ref, content)


def test_a_refused_ingest_is_appended_to(mount: Mount) -> None:
    """After EBADMSG one appends what was missing, and is committed."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(content)}")
    with refused(errno.EBADMSG):
        append(ref, content[:5])
    append(ref, content[5:])
    mount.assert_committed(ref, content)


def test_nothing_is_committed_without_an_expected_digest(mount: Mount) -> None:
    """Whatever is closed without an expected digest waits, whatever its size."""
    content = content_of(mount)
    ref = mount.ref()
    append(ref, content)
    mount.assert_kept(ref, content, error=False)
    os.setxattr(ref, EXPECTED_SIZE, b"%d" % len(content))
    append(ref, b"")
    mount.assert_kept(ref, content, error=False)


def test_what_is_short_of_its_expected_size_is_not_judged(mount: Mount) -> None:
    """Below the expected size a close says nothing; the one that reaches it commits."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(content)}")
    append(ref, b"")
    os.setxattr(ref, EXPECTED_SIZE, b"%d" % len(content))
    for at in range(0, len(content) - 2, 2):
        append(ref, content[at : at + 2])
        mount.assert_kept(ref, content[: at + 2], error=False)
    append(ref, content[at + 2 :])
    mount.assert_committed(ref, content)


def test_what_has_its_expected_size_is_judged_by_its_digest(mount: Mount) -> None:
    """At the expected size a close is refused if the digest is another."""
    ref = mount.ref()
    append(ref, b"")
    os.setxattr(ref, EXPECTED_SIZE, b"4")
    expect(ref, b"good")
    with refused(errno.EBADMSG):
        append(ref, b"evil")
    mount.assert_kept(ref, b"evil", error=True)


def test_nothing_is_not_judged(mount: Mount) -> None:
    """An empty ingest is not complete, whatever digest is expected of it but that of nothing."""
    ref = mount.ref(f"@{digest_of(WRONG)}")
    append(ref, b"")
    os.setxattr(ref, EXPECTED_SIZE, b"0")
    expect(ref, b"other")
    assert ref.read_bytes() == b""
    assert attribute(ref, ERROR) is None


def test_the_digest_of_nothing_is_committed_by_create_and_close(mount: Mount) -> None:
    """`touch` of the digest of nothing makes the blob of nothing, and so does mknod."""
    name = digest_of(b"")
    subprocess.run(["touch", mount.ingest / name], check=True)
    mount.assert_committed(mount.ingest / name, b"")
    mount.stored(b"").unlink()
    os.mknod(mount.ingest / name)
    mount.assert_committed(mount.ingest / name, b"")
    mount.stored(b"").unlink()
    ref = mount.ref()
    append(ref, b"")
    expect(ref, b"")
    mount.assert_committed(ref, b"")
    mount.stored(b"").unlink()


def test_content_that_is_there_already_counts_as_success(mount: Mount) -> None:
    """To bring what is stored succeeds, the present file stays as it is, the ingest is gone."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(content)}")
    append(ref, content)
    before = mount.stored(content).stat()
    append(ref, content)
    mount.assert_committed(ref, content)
    after = mount.stored(content).stat()
    assert (before.st_ino, before.st_mtime_ns, before.st_nlink) == (
        after.st_ino, after.st_mtime_ns, 1,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "fifo", "symlink"])
def test_what_is_no_file_under_the_blobs_name_is_in_the_way(kind: str, mount: Mount) -> None:
    """Where something that is no file stands under the blob's name the close is EIO, bytes kept."""
    content = content_of(mount)
    path = mount.stored(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc/passwd")
    ref = mount.ref(f"@{digest_of(content)}")
    mount.foresee("is not a regular file")
    with refused(errno.EIO):
        append(ref, content)
    assert ref.read_bytes() == content
    path.rmdir() if kind == "folder" else path.unlink()
    append(ref, b"")
    mount.assert_committed(ref, content)


def test_expectations_survive_a_remount(new_mount: Callable[..., Mount]) -> None:
    """What was set, what was removed and the error note are there on the next mount."""
    first = new_mount()
    refs = [first.ingest / "a", first.ingest / f"b@{digest_of(WRONG)}", first.ingest / "c"]
    for ref in refs:
        append(ref, b"")
    expect(refs[0], b"something")
    os.setxattr(refs[0], EXPECTED_SIZE, b"9")
    os.removexattr(refs[1], EXPECTED_DIGEST)
    append(refs[1], b"some bytes")
    append(refs[2], b"evil")
    with refused(errno.EBADMSG):
        expect(refs[2], b"good")
    first.unmount()
    second = new_mount(root=first.root)
    a, b, c = (second.ingest / ref.name for ref in refs)
    assert attribute(a, EXPECTED_DIGEST) == digest_of(b"something")
    assert attribute(a, EXPECTED_SIZE) == "9"
    assert attribute(b, EXPECTED_DIGEST) is None
    append(b, b"more")
    second.assert_kept(b, b"some bytesmore", error=False)
    second.assert_kept(c, b"evil", error=True)
    append(a, b"something")
    second.assert_committed(a, b"something")


# ---------------------------------------------------------------------------- setxattr, removexattr


def test_setxattr_of_the_digest_commits(mount: Mount) -> None:
    """To say what a closed ingest is commits it at once."""
    content = content_of(mount)
    ref = mount.ref()
    append(ref, content)
    expect(ref, content)
    mount.assert_committed(ref, content)


def test_the_tag_is_the_same_statement(mount: Mount) -> None:
    """user.checksum.<algorithm> is user.content.expected-digest, to set, to read, to remove."""
    content = content_of(mount)
    ref = mount.ref()
    append(ref, b"")
    os.setxattr(ref, CHECKSUM, sha256(WRONG).encode())
    assert attribute(ref, EXPECTED_DIGEST) == digest_of(WRONG)
    assert attribute(ref, CHECKSUM) == sha256(WRONG)
    assert attribute(ref, "user.checksum.sha512") is None
    assert os.listxattr(ref) == [EXPECTED_DIGEST]
    os.removexattr(ref, CHECKSUM)
    assert attribute(ref, EXPECTED_DIGEST) is None
    append(ref, content)
    os.setxattr(ref, CHECKSUM, sha256(content).encode())
    mount.assert_committed(ref, content)


def test_setxattr_of_a_wrong_digest_is_ebadmsg_and_stored(mount: Mount) -> None:
    """The verdict comes from setxattr; the value is stored either way."""
    content = content_of(mount)
    ref = mount.ref()
    append(ref, content)
    with refused(errno.EBADMSG):
        expect(ref, WRONG)
    assert attribute(ref, EXPECTED_DIGEST) == digest_of(WRONG)
    mount.assert_kept(ref, content, error=True)
    expect(ref, content)
    mount.assert_committed(ref, content)


def test_setxattr_of_the_size_commits(mount: Mount) -> None:
    """An ingest that was short of its expected size is complete when that is corrected."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(content)}")
    append(ref, b"")
    os.setxattr(ref, EXPECTED_SIZE, b"1000")
    append(ref, content)
    mount.assert_kept(ref, content, error=False)
    os.setxattr(ref, EXPECTED_SIZE, b"%d" % len(content))
    mount.assert_committed(ref, content)


def test_setxattr_of_a_size_that_is_too_small_is_ebadmsg(mount: Mount) -> None:
    """What is longer than expected is complete, and not what is expected."""
    content = content_of(mount)
    ref = mount.ref()
    append(ref, content)
    os.setxattr(ref, EXPECTED_SIZE, b"3")
    with refused(errno.EBADMSG):
        expect(ref, content)
    assert attribute(ref, ERROR) == f"size mismatch: expected 3, found {len(content)}"
    mount.assert_kept(ref, content, error=True)
    os.removexattr(ref, EXPECTED_SIZE)
    mount.assert_committed(ref, content)


def test_removexattr_of_the_size_carries_the_verdict(mount: Mount) -> None:
    """Without its expected size a short ingest is complete: committed, or EBADMSG."""
    content = content_of(mount)
    good, bad = mount.ref(), mount.ref()
    for ref in (good, bad):
        append(ref, content)
        os.setxattr(ref, EXPECTED_SIZE, b"1000")
    expect(bad, WRONG)
    with refused(errno.EBADMSG):
        os.removexattr(bad, EXPECTED_SIZE)
    assert attribute(bad, EXPECTED_SIZE) is None
    mount.assert_kept(bad, content, error=True)
    expect(good, content)
    os.removexattr(good, EXPECTED_SIZE)
    mount.assert_committed(good, content)


def test_what_is_set_wins_over_the_name(mount: Mount) -> None:
    """A digest that was set counts, whatever the name says."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(WRONG)}")
    append(ref, b"")
    assert attribute(ref, EXPECTED_DIGEST) == digest_of(WRONG)
    assert os.listxattr(ref) == []
    expect(ref, content)
    assert os.listxattr(ref) == [EXPECTED_DIGEST]
    append(ref, content)
    mount.assert_committed(ref, content)


def test_a_removed_expectation_stays_removed(mount: Mount) -> None:
    """What the name says can be removed, and then no close judges."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(WRONG)}")
    append(ref, b"")
    os.removexattr(ref, EXPECTED_DIGEST)
    assert attribute(ref, EXPECTED_DIGEST) is None
    append(ref, content)
    mount.assert_kept(ref, content, error=False)
    ref.write_bytes(content)
    mount.assert_kept(ref, content, error=False)


def test_what_is_set_while_a_writer_holds_the_ref_counts_at_its_close(mount: Mount) -> None:
    """Anyone may set expectations while one writes; the verdict reads them afresh."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(WRONG)}")
    with open(ref, "wb", buffering=0) as file:
        file.write(content)
        subprocess.run(
            ["setfattr", "-n", EXPECTED_DIGEST, "-v", digest_of(content), ref], check=True
        )
        mount.assert_kept(ref, content, error=False)
    mount.assert_committed(ref, content)


def test_what_another_process_sets_in_the_store_counts_too(mount: Mount) -> None:
    """An expectation that came by way of the store is read by the next close."""
    content = content_of(mount)
    ref = mount.ref()
    with open(ref, "wb", buffering=0) as file:
        file.write(content)
        Store(mount.root).expect_digest(ref.name, digest_of(content))
    mount.assert_committed(ref, content)


# --------------------------------------------------------------------------------------- rename


def test_a_rename_to_a_name_with_the_digest_commits(mount: Mount) -> None:
    """A rename is judged by the new name, and commits."""
    content = content_of(mount)
    ref, new = mount.ref(), mount.ref(f"@{digest_of(content)}")
    append(ref, content)
    ref.rename(new)
    mount.assert_committed(new, content)
    assert ref.name not in mount.names()


def test_a_rename_to_a_wrong_digest_is_ebadmsg(mount: Mount) -> None:
    """A rename that is refused leaves the old name, with the error."""
    content = content_of(mount)
    ref, new = mount.ref(), mount.ref(f"@{digest_of(WRONG)}")
    append(ref, content)
    with refused(errno.EBADMSG):
        ref.rename(new)
    mount.assert_kept(ref, content, error=True)
    assert new.name not in mount.names()
    assert not mount.folder(new.name).exists()


def test_a_rename_changes_nothing_that_was_set(mount: Mount) -> None:
    """A digest that was set goes along, and wins over the new name; nothing is judged anew."""
    content = content_of(mount)
    ref, new = mount.ref(), mount.ref(f"@{digest_of(content)}")
    append(ref, content)
    with refused(errno.EBADMSG):
        expect(ref, WRONG)
    ref.rename(new)
    assert attribute(new, EXPECTED_DIGEST) == digest_of(WRONG)
    assert new.read_bytes() == content
    assert not mount.stored(content).exists()


def test_a_rename_between_names_without_a_digest_judges_nothing(mount: Mount) -> None:
    """A rename judges only where it changes what is expected."""
    content = content_of(mount)
    ref, new = mount.ref(f"@{digest_of(WRONG)}"), mount.ref()
    with refused(errno.EBADMSG):
        append(ref, content)
    ref.rename(new)
    assert attribute(new, EXPECTED_DIGEST) is None
    assert new.read_bytes() == content
    newer = mount.ref()
    new.rename(newer)
    assert newer.read_bytes() == content


def test_a_rename_of_what_is_short_keeps_for_later(mount: Mount) -> None:
    """A rename of an ingest below its expected size judges nothing; the last close does."""
    content = content_of(mount)
    ref, new = mount.ref(), mount.ref(f"@{digest_of(content)}")
    append(ref, content[:4])
    os.setxattr(ref, EXPECTED_SIZE, b"%d" % len(content))
    ref.rename(new)
    assert attribute(new, EXPECTED_SIZE) == str(len(content))
    append(new, content[4:])
    mount.assert_committed(new, content)


def test_a_rename_replaces(mount: Mount) -> None:
    """What stands under the new ref is replaced in one step, with all that was said of it."""
    content = content_of(mount)
    ref, new = mount.ref(), mount.ref()
    append(ref, content)
    append(new, b"another")
    os.setxattr(new, EXPECTED_SIZE, b"1234567")
    with open(new, "rb") as file:
        ref.rename(new)
        assert file.read() == b"another"
    assert new.read_bytes() == content
    assert os.listxattr(new) == []
    assert ref.name not in mount.names()
    assert os.getxattr(new, "user.content.ref").decode() == new.name


def test_a_rename_to_itself_does_nothing(mount: Mount) -> None:
    """A rename to the same name succeeds, and the ingest is as it was."""
    content = content_of(mount)
    ref = mount.ref()
    append(ref, content)
    ref.rename(ref)
    mount.assert_kept(ref, content, error=False)


def test_a_reader_goes_on_through_a_rename(mount: Mount) -> None:
    """Who reads an ingest goes on when it gets another ref, and sees what is appended there."""
    content = content_of(mount)
    ref, new = mount.ref(), mount.ref()
    append(ref, content)
    with open(ref, "rb", buffering=0) as file:
        ref.rename(new)
        append(new, b"more")
        assert file.read(100) + file.read(100) == content + b"more"
        assert os.fstat(file.fileno()).st_size == len(content) + 4


# -------------------------------------------------------------------------------------- truncate


def test_truncate_by_path_carries_the_verdict(mount: Mount) -> None:
    """truncate(2) fills with zeros and commits, or says EBADMSG."""
    content = content_of(mount) + bytes(100)
    good, bad = mount.ref(f"@{digest_of(content)}"), mount.ref(f"@{digest_of(WRONG)}")
    for ref in (good, bad):
        append(ref, b"")
        os.setxattr(ref, EXPECTED_SIZE, b"%d" % len(content))
        append(ref, content[:-100])
    os.truncate(good, len(content))
    mount.assert_committed(good, content)
    with refused(errno.EBADMSG):
        os.truncate(bad, len(content))
    assert bad.read_bytes() == content
    assert attribute(bad, ERROR) is not None


def test_truncate_by_path_to_nothing_starts_over(mount: Mount) -> None:
    """To truncate to 0 drops the bytes and keeps what is expected."""
    content = content_of(mount)
    ref = mount.ref(f"@{digest_of(content)}")
    with refused(errno.EBADMSG):
        append(ref, WRONG)
    os.setxattr(ref, EXPECTED_SIZE, b"1000")
    os.truncate(ref, 0)
    mount.assert_kept(ref, b"", error=False)
    assert attribute(ref, EXPECTED_SIZE) == "1000"
    assert attribute(ref, EXPECTED_DIGEST) == digest_of(content)
    os.setxattr(ref, EXPECTED_SIZE, b"%d" % len(content))
    append(ref, content)
    mount.assert_committed(ref, content)


def test_truncate_by_path_to_nothing_commits_nothing(mount: Mount) -> None:
    """Where the digest of nothing is expected, truncate to 0 completes the ingest."""
    ref = mount.ref(f"@{digest_of(b'')}")
    with refused(errno.EBADMSG):
        append(ref, WRONG)
    os.truncate(ref, 0)
    mount.assert_committed(ref, b"")
    mount.stored(b"").unlink()


def test_truncate_to_its_own_size_changes_nothing(mount: Mount) -> None:
    """To truncate to the present size succeeds."""
    ref = mount.ref()
    append(ref, b"1234")
    os.truncate(ref, 4)
    with open(ref, "r+b") as file:
        os.ftruncate(file.fileno(), 4)
    mount.assert_kept(ref, b"1234", error=False)


def test_o_trunc_starts_over_and_keeps_expectations(mount: Mount) -> None:
    """O_TRUNC drops the bytes, not what is expected."""
    content = content_of(mount)
    ref = mount.ref()
    append(ref, b"junk")
    os.setxattr(ref, EXPECTED_SIZE, b"%d" % len(content))
    os.close(os.open(ref, os.O_WRONLY | os.O_TRUNC))
    assert ref.stat().st_size == 0
    expect(ref, content)
    ref.write_bytes(content)
    mount.assert_committed(ref, content)


def test_a_gap_is_filled_with_zeros(mount: Mount) -> None:
    """A write past the end, and an extension, read as zeros in between and are hashed so."""
    content = b"a" + bytes(200_000) + b"b" + bytes(5000)
    ref = mount.ref(f"@{digest_of(content)}")
    with open(ref, "wb", buffering=0) as file:
        file.write(b"a")
        os.pwrite(file.fileno(), b"b", 200_001)
        os.ftruncate(file.fileno(), len(content))
    mount.assert_committed(ref, content)


# ------------------------------------------------------------------------------------ error note


@pytest.mark.parametrize("deed", ["write", "truncate", "set digest", "set size", "remove digest"])
def test_the_error_note_goes_with_the_next_change(deed: str, mount: Mount) -> None:
    """Write, truncate or change what is expected, and the note of the last verdict is gone."""
    ref = mount.ref(f"@{digest_of(WRONG)}")
    with refused(errno.EBADMSG):
        append(ref, content_of(mount))
    assert attribute(ref, ERROR) is not None
    if deed == "truncate":
        os.truncate(ref, 0)
    elif deed == "remove digest":
        os.removexattr(ref, EXPECTED_DIGEST)
    elif deed == "set size":
        os.setxattr(ref, EXPECTED_SIZE, b"1000")
    else:
        with open(ref, "ab", buffering=0) as file:
            if deed == "write":
                file.write(b"more")
            else:
                expect(ref, b"another")
            assert attribute(ref, ERROR) is None
            os.removexattr(ref, EXPECTED_DIGEST)
    assert attribute(ref, ERROR) is None


def test_looking_leaves_the_error_note(mount: Mount) -> None:
    """Reading, opening for writing and a chmod leave the note as it is."""
    ref = mount.ref(f"@{digest_of(WRONG)}")
    content = content_of(mount)
    with refused(errno.EBADMSG):
        append(ref, content)
    note = attribute(ref, ERROR)
    ref.chmod(0o600)
    os.close(os.open(ref, os.O_WRONLY))
    mount.assert_kept(ref, content, error=True)
    assert attribute(ref, ERROR) == note


# ------------------------------------------------------------------------------ what can be read


def test_the_attributes_of_an_ingest_tell_the_truth_at_once(mount: Mount) -> None:
    """The digest so far, the ref, and the times are those of this moment, also while one writes."""
    ref = mount.ref("%2Fa@x")
    with open(ref, "wb", buffering=0) as file:
        for part in (b"a", b"bc", b"def" * 10_000):
            file.write(part)
            assert attribute(ref, DIGEST) == digest_of(ref.read_bytes())
            assert os.getxattr(file.fileno(), DIGEST).decode() == attribute(ref, DIGEST)
        started = attribute(ref, "user.content.started-at")
        updated = attribute(ref, "user.content.updated-at")
    assert started is not None
    assert updated is not None
    assert started <= updated
    assert attribute(ref, "user.content.ref") == ref.name.replace("%2F", "/")
    os.setxattr(ref, EXPECTED_SIZE, b"1000000")
    os.setxattr(ref, EXPECTED_DIGEST, digest_of(b"x", "sha512").encode())
    assert attribute(ref, DIGEST) == digest_of(ref.read_bytes(), "sha512")
    assert sorted(os.listxattr(ref)) == [EXPECTED_DIGEST, EXPECTED_SIZE]


def test_getfattr_lists_only_what_was_set(mount: Mount) -> None:
    """`getfattr -d` shows no computed attribute, neither of an ingest nor of a blob."""
    content = content_of(mount)
    ref = mount.ref()
    append(ref, content)
    done = subprocess.run(["getfattr", "-d", "-m-", ref], capture_output=True, check=True)
    assert done.stdout == b""
    os.setxattr(ref, EXPECTED_SIZE, b"1000000")
    done = subprocess.run(["getfattr", "-d", ref], capture_output=True, check=True)
    assert b'user.content.expected-size="1000000"' in done.stdout.splitlines()
    os.removexattr(ref, EXPECTED_SIZE)
    expect(ref, content)
    done = subprocess.run(
        ["getfattr", "-d", "-m-", mount.blob(content)], capture_output=True, check=True
    )
    assert done.stdout == b""
    assert attribute(mount.blob(content), DIGEST) == digest_of(content)
    assert attribute(mount.blob(content), CHECKSUM) == sha256(content)
