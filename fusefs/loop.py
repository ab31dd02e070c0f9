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
- where no request is being served it waits in poll(2) for a while (see `fusefs.patience`);
- taking a lock that is free is no checkpoint, and who lets go of it may have it again: others are
  told that it is free only when that task has to wait for something else;
- whatever the wait has taken, it looks again right before the read;
- the read does not block, and a task that finds nothing to read goes on waiting.

After half a millisecond, and where no other request is being served after five, a wait goes
through the scheduler in any case, so that other tasks, timeouts, signals and results of worker
threads get their turn under load.
"""

from __future__ import annotations

import os
import time
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any

import pyfuse3
import trio

from fusefs.patience import MILLISECONDS, patience

_SWITCH = "CONTENTFS_FAST_LOOP"
_TESTED = "3.5."  # what is replaced is internal to pyfuse3, so it may differ in another version
_FAIRNESS = 0.0005  # seconds that may go by before other tasks have a turn
_FAIRNESS_ALONE = MILLISECONDS / 1000  # and where none of them has anything to do


def install(connection: int) -> None:
    """Take the shorter way from now on, unless CONTENTFS_FAST_LOOP=0 or for another pyfuse3.

    Args:
        connection: The descriptor of /dev/fuse that pyfuse3 reads from.
    """
    if os.environ.get(_SWITCH) != "0" and pyfuse3.__version__.startswith(_TESTED):
        os.set_blocking(connection, False)
        patience.watch(connection, os.eventfd(0))
        pyfuse3.trio = _Trio()  # type: ignore[attr-defined]


class _LowLevel:
    """`trio.lowlevel`, but for `wait_readable`."""

    def __init__(self) -> None:
        self._turn = 0.0  # the time at which other tasks last had one

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the module's own
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, descriptor: int) -> None:
        """Return when there is something to read.

        Raises:
            trio.ClosedResourceError: `pyfuse3.terminate()` was called while this waited.
        """
        if patience.busy == 0:
            if time.monotonic() >= self._turn + _FAIRNESS_ALONE:
                await trio.lowlevel.checkpoint()
                self._turn = time.monotonic()
            if patience.wait_for_request():
                return
        elif time.monotonic() < self._turn + _FAIRNESS and patience.is_request_there():
            return
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            if patience.is_request_there():
                self._turn = time.monotonic()
                return


class _Lock:
    """A lock for `async with`, without a checkpoint where it is free.

    `trio.Lock` is handed on to who has waited longest, which would take each request to another
    task by way of the scheduler. Here who lets go keeps silent about it, and mostly takes it again
    when it has dealt with its request. Only if it suspends meanwhile, which `driven` sees, is a
    task that waits told to look.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._told = False  # someone has been told to look, and has not had a turn since

    async def __aenter__(self) -> None:
        patience.busy -= 1
        while self._held:
            await self._waiting.park()
            self._told = False
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        # Nothing is awaited: pyfuse3 reads at once what it has been woken for.
        self._held = False
        patience.busy += 1

    def _hand_on(self) -> None:
        if not self._held and not self._told and self._waiting:
            self._waiting.unpark()
            self._told = True

    @types.coroutine
    def driven(self, task: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Run one of pyfuse3's tasks, and hand the lock on whenever it suspends."""
        patience.busy += 1
        try:
            trap = task.send(None)
            while True:
                self._hand_on()
                try:
                    answer = yield trap
                except BaseException as error:  # noqa: BLE001 - it is the task's affair
                    trap = task.throw(error)
                else:
                    trap = task.send(answer)
                    # It may be a writer, which must not live on here once everybody has let go.
                    del answer
        except StopIteration:
            pass
        finally:
            patience.busy -= 1
            self._hand_on()


class _Nursery:
    """What pyfuse3 starts its tasks in: one that finds nothing to read begins again."""

    def __init__(self, nursery: trio.Nursery, lock: _Lock) -> None:
        self._nursery = nursery
        self._lock = lock

    def start_soon(
        self, function: Callable[..., Coroutine[Any, Any, None]], *args: object, name: str
    ) -> None:
        """Start a task, as trio does."""
        self._nursery.start_soon(self._persist, function, args, name=name)

    async def _persist(
        self, function: Callable[..., Coroutine[Any, Any, None]], args: tuple[object, ...]
    ) -> None:
        while True:
            try:
                return await self._lock.driven(function(*args))
            except BlockingIOError as error:
                # pyfuse3 loses the buffer of the task then, 1 MiB of which it has used as much as
                # its largest request. So the second look is worth having though this is there.
                if "fuse_session_receive_buf" not in str(error):
                    raise
            except ConnectionAbortedError as error:
                # The kernel took the connection away while the request was being read. Any other
                # read says ENODEV then, which libfuse knows for the end.
                if "fuse_session_receive_buf" not in str(error):
                    raise
                return pyfuse3.terminate()


class _Trio(types.SimpleNamespace):
    """`trio`, but for what is above."""

    def __init__(self) -> None:
        self._lock = _Lock()
        super().__init__(lowlevel=_LowLevel())

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the module's own
        return getattr(trio, name)

    def Lock(self) -> _Lock:  # noqa: N802 - as trio has it
        """The only one that pyfuse3 makes: of who reads requests."""
        return self._lock

    @asynccontextmanager
    async def open_nursery(self) -> AsyncIterator[_Nursery]:
        """As trio's, for pyfuse3's tasks."""
        async with trio.open_nursery() as nursery:
            yield _Nursery(nursery, self._lock)
