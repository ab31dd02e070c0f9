"""One blob from a registry into the store: begun, or gone on with where it stopped."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from store import Busy, NotFound, Rejected, Store
from store.dist.registry.errors import Cancelled, Corrupt, RegistryError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from store import Writer
    from store.dist.registry.media import Descriptor
    from store.dist.registry.session import Session
    from store.dist.registry.source import Source
    from store.dist.watch import Watch

__all__ = ["Bringer"]

# libcurl hands over 16 KiB at a time, for which a write, a hash and a look at the expectations
# cost more than copying them together.
_PIECE: Final = 1024 * 1024
# How long bytes may lie in memory only, in seconds, on a slow line: who looks sees them come.
_FLUSH: Final = 0.25
_PATIENCE: Final = 0.25  # seconds between two looks whether another process has brought a blob


class Bringer:
    """Brings blobs into a store.  Safe for many threads."""

    def __init__(self, store: Store, watch: Watch, cancel: threading.Event) -> None:
        """Begin.

        Args:
            store: where to.
            watch: is told how it goes.
            cancel: ends the waiting for other processes.
        """
        self._store = store
        self._watch = watch
        self._cancel = cancel

    def blob(self, source: Source, what: Descriptor) -> None:
        """Have the blob in the store, verified; transfer what is missing of it, and no more.

        Raises:
            RegistryError: it cannot be had; the bytes that came are kept.
            Corrupt: the registry has something else under its name.
            OSError: the store cannot take it.
            StoreError: likewise.
        """
        with self._held(what) as writer:
            if writer is None:
                self._watch.end(what, brought=False)
                return
            filling = _Filling(writer, what, self._watch)
            self._watch.begin(what, writer.offset)
            self._fill(source, what, filling)
            self._watch.end(what, brought=True)

    def bytes(self, what: Descriptor, data: bytes) -> None:
        """Have a blob in the store whose verified bytes are at hand.

        Raises:
            OSError: the store cannot take it.
            StoreError: likewise.
        """
        with self._held(what) as writer:
            if writer is None:
                self._watch.end(what, brought=False)
                return
            self._watch.begin(what, 0)
            writer.truncate(0)
            writer.write(data)
            writer.commit(what.size, what.digest)
            self._watch.advance(what, len(data))
            self._watch.end(what, brought=True)

    @contextmanager
    def _held(self, what: Descriptor) -> Iterator[Writer | None]:
        """The ingest of a blob, whose ref is its digest; None: it is in the store, or came by now.

        Another process that holds the ingest is waited for.
        """
        ref = str(what.digest)
        self._adopt(ref.replace(":", "-"), ref)
        told = False
        while not self._store.exists(what.digest):
            try:
                writer = self._store.writer(
                    ref, size=what.size, expected=what.digest, timeout=_PATIENCE
                )
            except Busy as busy:
                if not told:
                    self._watch.say(f"{ref}: waiting for the other writer that brings it ({busy})")
                    told = True
                if self._cancel.is_set():
                    raise Cancelled from None
                continue
            with writer:
                if self._store.exists(what.digest):  # brought by whoever held it until now
                    writer.abort()
                    break
                yield writer
            return
        yield None

    def _adopt(self, other: str, ref: str) -> None:
        """Go on with what ``dist ingest --expected-digest`` began, which calls its ingest so."""
        try:
            held = self._store.status(other).offset
            if held > self._offset(ref):
                self._store.rename(other, ref)
        except (NotFound, Busy, Rejected):
            return

    def _offset(self, ref: str) -> int:
        try:
            return self._store.status(ref).offset
        except NotFound:
            return 0

    def _fill(self, source: Source, what: Descriptor, filling: _Filling) -> None:
        """Fill and commit, from the first of the source's sessions that has the right bytes."""
        sessions = list(source.sessions)
        while True:
            began = filling.offset
            try:
                self._fill_from(source, sessions[0], what, filling)
                return
            except Cancelled:
                raise
            except (RegistryError, Rejected) as error:
                if isinstance(error, Rejected) and began:
                    # What was held may be to blame: all of it once more, from the same place.
                    self._watch.say(f"{error}; starting over, since some bytes were held before")
                    filling.restart()
                elif len(sessions) == 1:
                    raise _told(error, what) from None
                else:
                    source.pass_over(sessions.pop(0), _told(error, what))
                    if isinstance(error, Rejected):
                        filling.restart()

    def _fill_from(
        self, source: Source, session: Session, what: Descriptor, filling: _Filling
    ) -> None:
        if filling.offset > what.size:
            filling.restart()
        try:
            source.download(session, what.digest, what.size, filling)
        finally:
            filling.flush()
        filling.writer.commit(what.size, what.digest)


def _told(error: RegistryError | Rejected, what: Descriptor) -> RegistryError:
    if isinstance(error, RegistryError):
        return error
    return Corrupt(f"blob {what.digest}", f"the registry sends something else: {error.verdict}")


class _Filling:
    """A writer as the `Target` of a download.

    Attributes:
        writer: which one.
    """

    def __init__(self, writer: Writer, what: Descriptor, watch: Watch) -> None:
        self.writer = writer
        self._what = what
        self._watch = watch
        self._buffer = bytearray()
        self._flushed = time.monotonic()

    @property
    def offset(self) -> int:
        return self.writer.offset + len(self._buffer)

    def write(self, data: memoryview) -> None:
        self._buffer += data
        if len(self._buffer) >= _PIECE or time.monotonic() - self._flushed > _FLUSH:
            self.flush()

    def flush(self) -> None:
        count = len(self._buffer)
        if count:
            self.writer.write(self._buffer)
            self._buffer.clear()
            self._watch.advance(self._what, count)
        self._flushed = time.monotonic()

    def restart(self) -> None:
        self._buffer.clear()
        self.writer.truncate(0)
        self._watch.begin(self._what, 0)
