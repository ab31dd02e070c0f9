"""Bars on a terminal, by rich: one a blob on its way, and one for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from store.dist.output import one_line
from store.dist.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from store.dist.registry.media import Descriptor

__all__ = ["Bars"]

_HEX_SHOWN = 12
_MANIFEST_AND_THE_LIKE = 64 * 1024  # bytes; what is smaller comes and goes too fast to be read


class Bars(Watch):
    """Shows bars on standard error while its block lasts."""

    def __init__(self) -> None:
        super().__init__()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            expand=True,
        )
        self._all = self._progress.add_task("total", total=None)
        # Guarded by: `_lock`.
        self._tasks: dict[Descriptor, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        """Let the total grow."""
        super().expect(blobs)
        with self._lock:
            self._progress.update(self._all, total=self.size)

    def show(self, what: Descriptor, offset: int) -> None:
        """Move the blob's bar, and that for all."""
        if what.size >= _MANIFEST_AND_THE_LIKE:
            if what not in self._tasks:
                name = what.digest.hex[:_HEX_SHOWN]
                self._tasks[what] = self._progress.add_task(name, total=what.size, completed=offset)
            self._progress.update(self._tasks[what], completed=offset)
        self._progress.update(self._all, completed=self.there)

    def show_end(self, what: Descriptor, *, brought: bool) -> None:
        """Fill the blob's bar."""
        del brought
        self.show(what, what.size)

    def say(self, message: str) -> None:
        """Write the message above the bars."""
        text = f"dist: {one_line(message)}"
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
