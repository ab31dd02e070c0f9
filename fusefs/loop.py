"""A shorter and a safer way through trio for pyfuse3.

pyfuse3 hands each request to the next of several tasks: a lock says which of them waits for the
kernel, and both the lock and the waiting go through trio's scheduler even when the next request
is there already. That is more than half of what a small request costs. And between the moment
when a request is announced and the read that takes it, the request may vanish, since its client
was killed: then the read blocks, and the whole process with it, until somebody asks for something
else.

pyfuse3 takes what it needs of trio from a module global `pyfuse3.trio`, which its asyncio mode
replaces. We put trio in its place again, with these things changed:

- waiting for /dev/fuse looks first, and returns at once if there is something to read;
- taking a lock that is free is no checkpoint, and who lets go of it may have it again;
- whatever the wait has taken, it looks again right before the read;
- the read does not block, and a task that finds nothing to read goes on waiting.

After half a millisecond a wait goes through the scheduler in any case, so that other tasks,
timeouts, signals and results of worker threads get their turn under load.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pyfuse3
import trio

_SWITCH = "CONTENTFS_FAST_LOOP"
_TESTED = "3.5."  # what is replaced is internal to pyfuse3, so it may differ in another version
_FAIRNESS = 0.0005  # seconds that may go by before other tasks have a turn


def install(connection: int) -> None:
    """Take the shorter way from now on, unless CONTENTFS_FAST_LOOP=0 or for another pyfuse3.

    Args:
        connection: The descriptor of /dev/fuse that pyfuse3 reads from.
    """
    if os.environ.get(_SWITCH) != "0" and pyfuse3.__version__.startswith(_TESTED):
        os.set_blocking(connection, False)
        pyfuse3.trio = _Trio(connection)  # type: ignore[attr-defined]


class _PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class _LowLevel:
    """`trio.lowlevel`, but for `wait_readable`."""

    def __init__(self, connection: int) -> None:
        # PyDLL, not the poll() of `select`: that lets go of the GIL, and gets it back only when
        # a busy thread has had its 5 ms. Until then much can vanish.
        self._poll = ctypes.PyDLL(None).poll
        self._poll_arguments = (ctypes.byref(_PollFd(connection, select.POLLIN)), 1, 0)
        self._turn = 0.0  # the time at which other tasks last had one

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the module's own
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, descriptor: int) -> None:
        """Return when there is something to read.

        Raises:
            trio.ClosedResourceError: `pyfuse3.terminate()` was called while this waited.
        """
        if time.monotonic() < self._turn + _FAIRNESS and self._poll(*self._poll_arguments) > 0:
            return
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            if self._poll(*self._poll_arguments) > 0:
                self._turn = time.monotonic()
                return


class _Lock:
    """A lock for `async with`, without a checkpoint where it is free.

    `trio.Lock` is handed on to who has waited longest, which would take each request to another
    task by way of the scheduler. Here a task that waits is only told to look again when it gets
    its turn; by then whoever has let go has mostly dealt with its request, and holds it anew.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._told = False  # someone has been told to look, and has not had a turn since

    async def __aenter__(self) -> None:
        while self._held:
            await self._waiting.park()
            self._told = False
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        # Nothing is awaited: pyfuse3 reads at once what it has been woken for.
        self._held = False
        if not self._told and self._waiting:
            self._waiting.unpark()
            self._told = True


class _Nursery:
    """What pyfuse3 starts its tasks in: one that finds nothing to read begins again."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(
        self, function: Callable[..., Awaitable[None]], *args: object, name: str
    ) -> None:
        """Start a task, as trio does."""
        self._nursery.start_soon(_persist, function, args, name=name)


@asynccontextmanager
async def _open_nursery() -> AsyncIterator[_Nursery]:
    async with trio.open_nursery() as nursery:
        yield _Nursery(nursery)


async def _persist(function: Callable[..., Awaitable[None]], args: tuple[object, ...]) -> None:
    while True:
        try:
            return await function(*args)
        except BlockingIOError as error:
            # pyfuse3 loses the buffer of the task then, 1 MiB of which it has used as much as
            # its largest request. So the second look is worth having though this is there.
            if "fuse_session_receive_buf" not in str(error):
                raise


class _Trio(types.SimpleNamespace):
    """`trio`, but for what is above."""

    open_nursery: Callable[[], AbstractAsyncContextManager[_Nursery]]

    def __init__(self, connection: int) -> None:
        super().__init__(lowlevel=_LowLevel(connection), Lock=_Lock, open_nursery=_open_nursery)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the module's own
        return getattr(trio, name)
