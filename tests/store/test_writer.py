"""The writer: its states, its refusals, and what it does with a disk that lies."""

from __future__ import annotations

import array
import errno
import os
import sys
from pathlib import Path

import pytest

from store import Closed, Digest, DigestMismatch, NotFound, Ref, SizeMismatch, Store
from tests.faults import Failing, Os, using
from tests.strategies import sha256

CONTENT = b"content" * 1000


def data_of(store: Store, ref: str = "r") -> Path:
    """The data of an ingest."""
    return Path(store.layout.ingest(Ref(ref)), "data")


def test_a_closed_writer(store: Store) -> None:
    """After close nothing can be done but to close or abort it again, which does nothing."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
    assert writer.closed
    for call in (
        lambda: writer.write(b"x"),
        lambda: writer.truncate(0),
        writer.sync,
        writer.digest,
        writer.fileno,
        writer.commit,
        writer.catch_up,
        lambda: writer.move(Ref("s")),
    ):
        with pytest.raises(Closed, match="open another"):
            call()
    writer.close()
    writer.abort()

    assert store.status("r").offset == len(CONTENT)


def test_a_published_writer(store: Store) -> None:
    """Between publish and finish it reads and hashes, and takes no more bytes."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        digest = writer.verify()
        writer.publish(digest)
        assert store.exists(digest)
        with pytest.raises(Closed):
            writer.write(b"x")
        assert os.pread(writer.fileno(), 100, 0) == CONTENT[:100]
        assert writer.digest() == digest
        writer.publish(digest)
        writer.finish()
    assert writer.closed
    with pytest.raises(Closed):
        writer.finish()


def test_leaving_a_block_commits_nothing(store: Store) -> None:
    """Neither the end of a with block nor an exception in it commits."""
    with store.writer("r", expected=sha256(CONTENT)) as writer:
        writer.write(CONTENT)
    with pytest.raises(ZeroDivisionError), store.writer("r") as writer:
        writer.truncate(1 // (writer.offset - len(CONTENT)))

    assert list(store.walk()) == []
    assert store.status("r").offset == len(CONTENT)


def test_a_writer_that_is_forgotten(store: Store) -> None:
    """It is closed with a warning, and its ref is free."""
    forgotten = [store.writer("r")]
    forgotten[0].write(CONTENT)
    with pytest.warns(ResourceWarning, match="unclosed writer of r"):
        forgotten.clear()

    with store.writer("r") as writer:
        assert writer.offset == len(CONTENT)


def test_an_aborted_writer(store: Store) -> None:
    """Its ingest is gone, whatever it held."""
    with store.writer("r", size=3) as writer:
        writer.write(b"abc")
        writer.abort()
    with pytest.raises(NotFound):
        store.status("r")


def test_only_what_is_there_is_resumed(store: Store) -> None:
    """With create=False a ref that has no ingest is NotFound."""
    with pytest.raises(NotFound) as caught:
        store.writer("r", create=False)

    assert (caught.value.kind, caught.value.name) == ("ingest", "r")


@pytest.mark.parametrize(
    "data", [b"\1\0\2\0", bytearray(b"\1\0\2\0"), memoryview(b"\1\0\2\0"), array.array("H", [1, 2])]
)
def test_any_buffer_is_written(store: Store, data: bytes) -> None:
    """Bytes, views and arrays are written whole, and counted in bytes."""
    wide = data if sys.byteorder == "little" else b"\1\0\2\0"
    with store.writer("r") as writer:
        assert writer.write(wide) == 4
        assert writer.commit() == sha256(b"\1\0\2\0")


@pytest.mark.parametrize("where", [2**63 - 1, 2**63, 2**70])
def test_beyond_the_largest_file(store: Store, where: int) -> None:
    """A write or truncate past what a file can be is EFBIG, and changes nothing."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        with pytest.raises(OSError, match="too large") as caught:
            writer.write(b"x", where)
        assert caught.value.errno == errno.EFBIG
        with pytest.raises(OSError, match="too large"):
            writer.truncate(where + 1)
        assert writer.commit() == sha256(CONTENT)


def test_both_the_asked_and_the_written_down_are_checked(store: Store) -> None:
    """What commit is given is checked besides what was set, size first; either can refuse."""
    with store.writer("r", size=len(CONTENT), expected=sha256(CONTENT)) as writer:
        writer.write(CONTENT)
        with pytest.raises(SizeMismatch) as size:
            writer.commit(size=1, expected=sha256(b"x"))
        assert (size.value.expected, size.value.found) == (1, len(CONTENT))
        with pytest.raises(DigestMismatch) as digest:
            writer.commit(expected=str(sha256(b"x")))
        assert (digest.value.expected, digest.value.found) == (sha256(b"x"), sha256(CONTENT))
        store.expect_digest("r", Digest.of(b"y", "sha512"))
        with pytest.raises(DigestMismatch):
            writer.commit(expected=sha256(CONTENT))
        store.expect_digest("r", Digest.of(CONTENT, "sha512"))
        assert writer.commit(expected=str(sha256(CONTENT))) == sha256(CONTENT)


def test_a_verdict_that_cannot_be_noted_is_still_the_verdict(store: Store) -> None:
    """On a full disk a mismatch is a mismatch, and says that the note is missing."""
    with store.writer("r", expected=sha256(b"x")) as writer:
        writer.write(CONTENT)
        with using(Failing(0, errno.ENOSPC)), pytest.raises(DigestMismatch) as caught:
            writer.commit()
        assert "No space left" in caught.value.__notes__[0]
        assert store.status("r").error is None


def test_the_digest_follows_the_expectation(store: Store) -> None:
    """It is in the algorithm that is expected, as last read."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        assert writer.digest() == sha256(CONTENT)
        store.expect_digest("r", Digest.of(b"", "sha512"))
        assert not writer.is_complete() or writer.digest() == Digest.of(CONTENT, "sha512")
        assert writer.lag == 0


def test_the_background_can_be_asked_to_catch_up(store: Store) -> None:
    """After a resume the bytes are hashed while the writer goes on."""
    content = bytes(3 << 20)
    with store.writer("r") as writer:
        writer.write(content)
    with Store(store.root).writer("r") as writer:
        assert writer.lag == len(content)
        writer.catch_up()
        writer.write(b"more")
        assert writer.digest() == sha256(content + b"more")


def test_a_description_that_goes_during_a_sync(store: Store) -> None:
    """Somebody who removes an expectation at that moment makes no sync fail."""

    class Removing(Os):
        """Removes the expected size between the look at it and its sync."""

        def fsync(self, fd: int) -> None:
            """Remove it."""
            path.unlink(missing_ok=True)
            os.fsync(fd)

    with store.writer("r", size=10_000) as writer:
        writer.write(CONTENT)
        path = data_of(store).with_name("total")
        with using(Removing()):
            writer.sync()
        assert store.status("r").total is None


# ------------------------------------------------------------------------------ disks that lie


class Broken(Os):
    """All calls of some kinds fail.

    Attributes:
        kinds: the calls that fail.
    """

    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self.kinds = kinds

    def before(self, name: str, args: tuple[object, ...]) -> None:
        """Fail."""
        if name in self.kinds:
            raise OSError(errno.EIO, "Input/output error")


def test_a_torn_write_that_cannot_be_cut_off_is_in_no_blob(store: Store) -> None:
    """What a failed write has left behind the end does not get into the blob."""
    with store.writer("r") as writer:
        writer.write(b"good")
        with using(Failing(0, errno.ENOSPC)) as disk:
            disk.ftruncate = _refuse  # type: ignore[attr-defined]
            with pytest.raises(OSError, match="No space"):
                writer.write(CONTENT)
        assert data_of(store).stat().st_size > 4
        assert writer.offset == 4
        assert writer.commit() == sha256(b"good")

    with store.open(sha256(b"good")) as blob:
        assert blob.read() == b"good"


def _refuse(*_args: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_torn_write_is_cut_off_when_the_writer_closes(store: Store) -> None:
    """The next writer finds what was written whole, and no more."""
    with store.writer("r") as writer:
        writer.write(b"good")
        with using(Failing(0, errno.ENOSPC)) as disk:
            disk.ftruncate = _refuse  # type: ignore[attr-defined]
            with pytest.raises(OSError, match="No space"):
                writer.write(CONTENT)

    assert data_of(store).read_bytes() == b"good"


def test_a_truncate_that_fails(store: Store) -> None:
    """The ingest, and its digest, are as they were."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        with using(Broken("ftruncate")):
            for size in (0, len(CONTENT) + 1):
                with pytest.raises(OSError, match="Input/output"):
                    writer.truncate(size)
        assert writer.digest() == sha256(CONTENT)
        assert writer.commit() == sha256(CONTENT)


def test_bytes_lost_by_a_failed_fsync_are_never_committed(store: Store) -> None:
    """If the file does not hold what was written to it, that is EIO until it is rewritten."""

    class Losing(Os):
        """An fsync that fails, and takes the bytes with it, as some file systems do."""

        def fsync(self, fd: int) -> None:
            """Lose them."""
            if os.readlink(f"/proc/self/fd/{fd}").endswith("/data"):
                os.pwrite(fd, bytes(len(CONTENT)), 0)
                raise OSError(errno.EIO, "Input/output error")

    with store.writer("r") as writer:
        writer.write(CONTENT)
        with using(Losing()), pytest.raises(OSError, match="Input/output"):
            writer.commit()
        for _ in range(2):
            with pytest.raises(OSError, match="not what was written"):
                writer.commit()
        writer.truncate(0)
        writer.write(CONTENT)
        assert writer.commit() == sha256(CONTENT)


def test_after_a_failed_fsync_another_file_is_synced(store: Store) -> None:
    """The bytes are in a new file at once, so that the next process can sync them honestly."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        before = data_of(store).stat()
        with using(Broken("fsync")), pytest.raises(OSError, match="Input/output"):
            writer.sync()
        assert not os.path.samestat(before, data_of(store).stat())
        assert os.path.samestat(os.fstat(writer.fileno()), data_of(store).stat())
        writer.write(b"more")
        assert writer.commit() == sha256(CONTENT + b"more")


def test_a_failed_fsync_on_a_full_disk(store: Store) -> None:
    """Where there is no space to write it anew, another writer tries that before it syncs."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        before = data_of(store).stat()
        with using(Broken("fsync", "rename")), pytest.raises(OSError, match="Input/output"):
            writer.sync()
        assert os.path.samestat(before, data_of(store).stat())
    with store.writer("r") as writer:
        with using(Broken("rename")), pytest.raises(OSError, match="Input/output"):
            writer.sync()
        writer.sync()
        assert not os.path.samestat(before, data_of(store).stat())
        assert writer.commit() == sha256(CONTENT)


def test_the_descriptor_keeps_its_number(store: Store) -> None:
    """Who reads beside the writer, by its descriptor, reads on when the file is written anew."""
    with store.writer("r") as writer:
        writer.write(CONTENT)
        fd = writer.fileno()
        with using(Broken("fsync")), pytest.raises(OSError, match="Input/output"):
            writer.sync()
        assert writer.fileno() == fd
        assert os.pread(fd, len(CONTENT), 0) == CONTENT
        assert not os.get_inheritable(fd)


def test_not_as_root(scratch: Path) -> None:
    """An ordinary user's ingest that a crash left read-only is resumed; a blob stays read-only."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    os.chown(scratch, 65534, 65534)
    store = Store(scratch / "root")
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            os.setresuid(65534, 65534, 65534)
            with store.writer("r") as writer:
                writer.write(CONTENT)
            data_of(store).chmod(0o444)
            with store.writer("r") as writer:
                writer.write(b"more")
                writer.publish(writer.verify())
            blob = Path(store.path(sha256(CONTENT + b"more")))
            with store.writer("r") as writer:
                writer.write(b"yet more")
            assert blob.stat().st_mode & 0o222 == 0
            assert data_of(store).read_bytes() == CONTENT + b"moreyet more"
            outcome = 0
        finally:
            os._exit(outcome)
    assert os.waitpid(child, 0)[1] == 0
