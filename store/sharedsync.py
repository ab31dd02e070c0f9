"""The fsync of a folder, shared by all who ask for it at the same time (group commit)."""

from __future__ import annotations

import threading

from store import disk

__all__ = ["SharedSync"]


class _Round:
    """One fsync of a folder, and those whom it serves."""

    __slots__ = ("done", "failure")

    def __init__(self) -> None:
        self.done = False
        self.failure: OSError | None = None


class SharedSync:
    """`store.disk.fsync_dir` of one folder.

    A caller that finds a sync under way waits for the next one, which covers its own names and
    those of everybody else who waits.  When a sync fails, all whom it served get its error.
    """

    __slots__ = ("_next", "_path", "_running", "_turn")

    def __init__(self, path: str) -> None:
        self._path = path
        self._turn = threading.Condition()
        # Guarded by: `_turn`.  Invariant: `_next` has not begun.
        self._next = _Round()
        self._running = False

    def __call__(self) -> None:
        """Return when every name that was in the folder at the call is durable.

        Raises:
            OSError: the fsync failed.
        """
        with self._turn:
            # A sync that runs may have begun before our names were made, so it does not count.
            mine = self._next
            while self._running and not mine.done:
                self._turn.wait()
            if mine.done:
                if mine.failure is not None:
                    raise OSError(*mine.failure.args) from mine.failure
                return
            self._running = True
            self._next = _Round()
        try:
            disk.fsync_dir(self._path)
            mine.done = True
        except OSError as error:
            mine.failure = error
            mine.done = True
            raise
        finally:
            # Not done where this thread was interrupted: the next of those who wait syncs for all.
            with self._turn:
                self._running = False
                self._turn.notify_all()
