"""A line on the terminal that says how far something is; nothing where there is no terminal."""

from __future__ import annotations

import os
import sys
import threading
import time

from store.dist.output import one_line
from store.dist.units import human_size

__all__ = ["Progress"]

_INTERVAL = 0.1  # seconds between two looks of the line
_COLUMNS = 80  # of a terminal that does not say


class Progress:
    """How many of how many bytes are done, and how fast, on standard error.

    The line is overwritten in place and cleared by `close`, so what stays is what was printed.
    Safe from many threads.

    Args:
        label: what is being done; the first word of the line.
        total: the bytes that there will be, where known.
        start: the bytes that were done before, which tell nothing of the speed.
    """

    def __init__(self, label: str, total: int | None, start: int = 0) -> None:
        self._label = one_line(label)
        self._total = total
        self._start = start
        self._begun = self._next = time.monotonic()
        self._next += _INTERVAL
        self._on = self.visible()
        self._lock = threading.Lock()
        self._shown = 0  # guarded by: `_lock`; the length of the line that stands there

    @staticmethod
    def visible() -> bool:
        """Whether there is a terminal to show it on."""
        return sys.stderr is not None and sys.stderr.isatty()

    def update(self, done: int) -> None:
        """Say that ``done`` bytes are done now."""
        if self._on and time.monotonic() >= self._next:
            self._next = time.monotonic() + _INTERVAL
            self._draw(self._line(done))

    def close(self) -> None:
        """Take the line away; the next `update` brings it back."""
        self._draw("")

    def _line(self, done: int) -> str:
        rate = (done - self._start) / (time.monotonic() - self._begun)
        of_all = ""
        if self._total:
            of_all = f" of {human_size(self._total)} ({100 * done // self._total} %)"
        return f"{human_size(done)}{of_all}, {human_size(rate)}/s  {self._label}"

    def _draw(self, line: str) -> None:
        with self._lock:
            if not line and not self._shown:
                return
            try:
                columns = os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
                line = line[: columns - 1]
                sys.stderr.write("\r" + line.ljust(self._shown) + "\r" * (not line))
                sys.stderr.flush()
            except (OSError, ValueError):
                self._on = False
            self._shown = len(line)
