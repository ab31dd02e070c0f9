"""One at a time, in the order of coming, for what concerns one handle or one ref."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Turn"]


class Turn:
    """A lock for ``async with`` that costs no pass through the scheduler while it is free.

    `trio.Lock` is a checkpoint even when it is free, which costs as much as a small write.
    """

    __slots__ = ("__weakref__", "_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        """Wait for one's turn."""
        if self._taken:
            # Who lets go leaves it taken for whom it wakes.
            await self._waiting.park()
        self._taken = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the next one go."""
        if self._waiting:
            self._waiting.unpark()
        else:
            self._taken = False
