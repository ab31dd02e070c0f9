"""How a transfer of many blobs goes, for people and programs to follow.

`Watch` counts; its subclasses here show.  That for terminals is `store.dist.bars.Bars`.
"""

from __future__ import annotations

import json as json_module
import sys
import threading
import time
from typing import TYPE_CHECKING

from store.dist import output
from store.dist.units import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from store.dist.registry.media import Descriptor

__all__ = ["Events", "Lines", "Watch", "report", "watch_for"]

_LINE_SECONDS = 5.0
_EVENT_SECONDS = 1.0


class Watch:
    """Counts what is transferred, and shows nothing.  A context manager; safe for many threads.

    Attributes:
        size: of all blobs that are spoken of, in bytes.
        there: how many of these bytes are at the target.
        moved: how many bytes this transfer has moved.
        blobs: how many blobs are spoken of.
        ended: how many of them are at the target.
        brought: how many of them this transfer has completed.
    """

    def __init__(self) -> None:
        # Guarded by: `_lock`, as are the attributes.  The bytes at the target, of each blob.
        self._lock = threading.RLock()
        self._offsets: dict[Descriptor, int] = {}
        self._begun = time.monotonic()
        self.size = self.there = self.moved = 0
        self.blobs = self.ended = self.brought = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show no more."""

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._begun

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        """These blobs are spoken of; each counts once."""
        with self._lock:
            for what in blobs:
                if what not in self._offsets:
                    self._offsets[what] = 0
                    self.size += what.size
                    self.blobs += 1

    def begin(self, what: Descriptor, offset: int) -> None:
        """A transfer begins, or begins again, with ``offset`` bytes at the target."""
        with self._lock:
            self.there += offset - self._offsets[what]
            self._offsets[what] = offset
            self.show(what, offset)

    def advance(self, what: Descriptor, count: int) -> None:
        """There are ``count`` bytes more at the target."""
        with self._lock:
            self.there += count
            self.moved += count
            self._offsets[what] += count
            self.show(what, self._offsets[what])

    def end(self, what: Descriptor, *, brought: bool) -> None:
        """A blob is at the target.

        Args:
            what: the blob.
            brought: whether this transfer did it; else it was there already.
        """
        with self._lock:
            self.there += what.size - self._offsets[what]
            self._offsets[what] = what.size
            self.ended += 1
            self.brought += brought
            self.show_end(what, brought=brought)

    def say(self, message: str) -> None:
        """Something that the user should know."""
        with self._lock:
            output.note(message)

    def show(self, what: Descriptor, offset: int) -> None:
        """Show that ``offset`` bytes of a blob are at the target."""

    def show_end(self, what: Descriptor, *, brought: bool) -> None:
        """Show that a blob is at the target."""


class Lines(Watch):
    """A plain line every few seconds, on standard error."""

    def __init__(self, name: str, interval: float = _LINE_SECONDS) -> None:
        """Begin.

        Args:
            name: what is transferred; the first words of each line.
            interval: from line to line, in seconds.
        """
        super().__init__()
        self._interval = interval
        self._name = name
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._last = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread that writes the lines."""
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._over.wait(self._interval):
            with self._lock:
                rate = (self.moved - self._last) / self._interval
                self._last = self.moved
                output.note(
                    f"{self._name}: {self.ended} of {self.blobs} blobs, {human_size(self.there)} "
                    f"of {human_size(self.size)}, {human_size(rate)}/s"
                )


class Events(Watch):
    """JSON Lines: each blob that is at the target on standard output, the way there on the other.

    What is on its way has the keys of ``dist active --json``: ref, offset, total.
    """

    def __init__(self) -> None:
        super().__init__()
        # Guarded by: `_lock`.  When a blob was shown last.
        self._shown: dict[Descriptor, float] = {}

    def show(self, what: Descriptor, offset: int) -> None:
        """Write a line about the blob, once a second."""
        now = time.monotonic()
        if now - self._shown.get(what, 0) < _EVENT_SECONDS:
            return
        self._shown[what] = now
        self._write({"ref": str(what.digest), "offset": offset, "total": what.size})

    def show_end(self, what: Descriptor, *, brought: bool) -> None:
        """Write the blob as a result."""
        result = {
            "digest": str(what.digest),
            "size": what.size,
            "mediaType": what.media_type,
            "transferred": brought,
        }
        output.write_json([result])
        output.flush()

    def say(self, message: str) -> None:
        """Write the message as a line of its own."""
        with self._lock:
            self._write({"message": message})

    def _write(self, event: dict[str, object]) -> None:
        if sys.stderr is not None:
            sys.stderr.write(json_module.dumps(event) + "\n")
            sys.stderr.flush()


def watch_for(name: str, *, json: bool) -> Watch:
    """The watch that suits whoever looks.

    Args:
        name: what is transferred.
        json: whether JSON is asked for.
    """
    if json:
        return Events()
    if sys.stderr is not None and sys.stderr.isatty():
        from store.dist.bars import Bars  # noqa: PLC0415 - rich is for terminals

        return Bars()
    return Lines(name)


def report(name: str, top: Descriptor, watch: Watch, *, failed: bool, json: bool) -> None:
    """Write the result of a transfer, unless it failed, and a summary for people.

    Args:
        name: of the image.
        top: what the image's name stands for.
        watch: that has seen the transfer.
        failed: whether something is missing.
        json: whether JSON is asked for.
    """
    if json and not failed:
        result = {
            "image": name,
            "digest": str(top.digest),
            "size": watch.size,
            "mediaType": top.media_type,
            "transferred": watch.brought > 0,
        }
        output.write_json([result])
    elif not failed:
        output.write(f"{top.digest}\n".encode())
    if not json:
        output.note(f"{name}: {_summary(watch)}")


def _summary(watch: Watch) -> str:
    whole = f"{watch.blobs} blobs, {human_size(watch.size)}; "
    moved = f"{watch.brought} and {human_size(watch.moved)} transferred in {watch.seconds:.1f}s"
    if not watch.moved and not watch.brought:
        moved = "nothing was to be transferred"
    missing = watch.blobs - watch.ended
    return whole + moved + (f", {missing} missing" if missing else "")
