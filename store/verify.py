"""Are the blobs still what their names say?  Hashes them again, and takes away those that are not.

Only looks, but for `quarantine`; so it serves a store of containerd's, or one on a read-only disk.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from store import disk
from store.digest import Digest, new_hash
from store.errors import NotFound, NotRegular, ReadOnly

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from concurrent.futures import Future

    from store.store import Store

__all__ = ["Checked", "Verifier", "quarantine"]

_CHUNK: Final = 1024 * 1024
_PAGE: Final = 4096
_AHEAD: Final = 256  # blobs that may be under way or done before the first of them is handed out


class Checked(NamedTuple):
    """What hashing a blob again has shown.

    Attributes:
        digest: its name.
        found: the digest of its bytes; None where they could not all be read.
        error: why not, else None; `NotFound` for a blob that is not there (any more).
        file: device and inode of the file that was hashed, for `quarantine`.
    """

    digest: Digest
    found: Digest | None
    error: OSError | NotFound | NotRegular | None
    file: tuple[int, int] | None

    @property
    def corrupt(self) -> bool:
        """Whether its bytes are there, and are others than its name says."""
        return self.found is not None and self.found != self.digest


class Verifier:
    """Hashes blobs again, several at a time.

    Args:
        store: where they are.
        threads: how many are hashed at a time; hashing leaves the interpreter to the others.
        rate: how many bytes a second to read at most, of all together; None for no limit.
        watch: called with the number of bytes hashed so far, by one thread at a time.
    """

    def __init__(
        self,
        store: Store,
        *,
        threads: int = 1,
        rate: float | None = None,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        self._store = store
        self._threads = threads
        self._rate = rate
        self._watch = watch
        self._stop = threading.Event()
        self._lock = threading.Lock()
        # Guarded by: `_lock`.
        self._done = 0
        self._free_at = 0.0  # monotonic seconds: when the next byte may be read

    def check(self, digests: Iterable[Digest]) -> Generator[Checked, None, None]:
        """Hash the blobs again, and say of each in turn what was found.

        Closing the iterator ends the work within a chunk of each thread.
        """
        with ThreadPoolExecutor(self._threads, "verify") as pool:
            pending: deque[Future[Checked]] = deque()
            try:
                for digest in digests:
                    pending.append(pool.submit(self._check, digest))
                    if len(pending) >= _AHEAD:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                self._stop.set()
                for future in pending:
                    future.cancel()

    def _check(self, digest: Digest) -> Checked:
        try:
            fd = self._store.blobs.open(digest)
        except (OSError, NotFound, NotRegular) as error:
            return Checked(digest, None, error, None)
        try:
            found = os.fstat(fd)
            file = (found.st_dev, found.st_ino)
            return Checked(digest, self._hash(fd, digest, found.st_size), None, file)
        except OSError as error:
            return Checked(digest, None, error, file)
        finally:
            os.close(fd)

    def _hash(self, fd: int, digest: Digest, size: int) -> Digest | None:
        running = new_hash(digest.algorithm)
        # At a low rate small enough for ten pieces a second.
        chunk = _CHUNK if self._rate is None else max(_PAGE, min(_CHUNK, int(self._rate / 10)))
        buffer = memoryview(bytearray(max(_PAGE, min(chunk, size))))
        while not self._stop.is_set():
            count = os.readv(fd, [buffer])
            if not count:
                return Digest(digest.algorithm, running.hexdigest())
            running.update(buffer[:count])
            self._account(count)
        return None

    def _account(self, count: int) -> None:
        with self._lock:
            self._done += count
            if self._watch is not None:
                self._watch(self._done)
            if self._rate is None:
                return
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            wait = self._free_at - now
        self._stop.wait(wait)


def quarantine(store: Store, checked: Checked) -> bool:
    """Move a corrupt blob to ``ROOT/quarantine/<algorithm>/``, so that reading it fails at once.

    The next ingest of its digest then brings it anew.  Of several bad copies of one digest the
    last is kept.  When this returns the move is durable.

    Returns:
        False where another file has taken the blob's place since it was checked: it stays.

    Raises:
        ReadOnly: the store was opened to look only.
        OSError: it is where it was.
    """
    if store.read_only:
        raise ReadOnly(store.root)
    layout, digest = store.layout, checked.digest
    source = disk.open_dir(layout.algorithm(digest.algorithm))
    try:
        disk.make_dir(layout.quarantine)
        disk.make_dir(f"{layout.quarantine}/{digest.algorithm}")
        target = disk.open_dir(f"{layout.quarantine}/{digest.algorithm}")
        try:
            return _move(store, checked, source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _move(store: Store, checked: Checked, source: int, target: int) -> bool:
    name = checked.digest.hex
    try:
        disk.move(name, source, target)
    except FileNotFoundError:
        return False
    found = os.stat(name, dir_fd=target, follow_symlinks=False)
    ours = (found.st_dev, found.st_ino) == checked.file
    if not ours:
        disk.link(name, target, store.layout.blob(checked.digest))
        disk.unlink(name, dir_fd=target)
    for folder in (target, source):
        disk.fsync_folder(folder)
    return ours
