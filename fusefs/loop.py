"""A shorter way through trio for pyfuse3, which halves what a small request costs.

pyfuse3 hands each request to the next of several tasks: a lock says which of them waits for the
kernel, and both the lock and the waiting go through trio's scheduler even when the next request
is there already. As for its asyncio mode, it takes what it needs from a module global
`pyfuse3.trio`. We put trio in its place again, with two things changed:

- waiting for /dev/fuse looks first, and returns at once if there is something to read;
- taking a lock that is free is no checkpoint.

Every 16th time it waits as trio does, so that other tasks, timeouts, signals and results of
worker threads get their turn under load.
"""

from __future__ import annotations

import os
import select
import types
from typing import Any

import pyfuse3
import trio

_SWITCH = "CONTENTFS_FAST_LOOP"
_TESTED = "3.5."  # what is replaced is internal to pyfuse3, so it may differ in another version
_FAIRNESS = 16  # requests that may go by before other tasks have a turn


def install() -> None:
    """Take the shorter way from now on, unless CONTENTFS_FAST_LOOP=0 or for another pyfuse3."""
    if os.environ.get(_SWITCH) != "0" and pyfuse3.__version__.startswith(_TESTED):
        pyfuse3.trio = _Trio()  # type: ignore[attr-defined]


class _Lock:
    """`trio.Lock`, for `async with` alone, without a checkpoint where it is free."""

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def __aenter__(self) -> None:
        if self._lock.locked():
            await self._lock.acquire()
        else:
            self._lock.acquire_nowait()

    async def __aexit__(self, *_: object) -> None:
        # No await: pyfuse3 reads at once what it has been woken for.
        self._lock.release()


class _LowLevel:
    """`trio.lowlevel`, but for `wait_readable`."""

    def __init__(self) -> None:
        self._polls: dict[int, select.poll] = {}
        self._turn = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the module's own
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, descriptor: int) -> None:
        """Return once there is something to read.

        Raises:
            trio.ClosedResourceError: `pyfuse3.terminate()` was called while this waited.
        """
        self._turn = (self._turn + 1) % _FAIRNESS
        if self._turn and self._poll_of(descriptor).poll(0):
            return
        await trio.lowlevel.wait_readable(descriptor)

    def _poll_of(self, descriptor: int) -> select.poll:
        if (poll := self._polls.get(descriptor)) is None:
            poll = self._polls[descriptor] = select.poll()
            poll.register(descriptor, select.POLLIN)
        return poll


class _Trio(types.SimpleNamespace):
    """`trio`, but for what is above."""

    def __init__(self) -> None:
        super().__init__(lowlevel=_LowLevel(), Lock=_Lock)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the module's own
        return getattr(trio, name)
