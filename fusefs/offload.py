"""What the event loop does not wait for: blocking calls, in threads, and tasks of their own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar, TypeVarTuple

import trio

from fusefs.patience import patience

if TYPE_CHECKING:
    from outcome import Outcome

REQUESTS = 99
"""How many requests of the kernel are served at once; each keeps a buffer of 1 MiB."""

# As many threads as there can be requests, and one for what the mount does itself. A smaller
# number could stop everything: a call that waits in its thread (for a lock, for the bytes of a
# reader on a slow disk) would hold what the call it waits for needs. Threads that wait are cheap,
# and no more are started than wait at the same time.
_threads = trio.Semaphore(REQUESTS + 1)

_Args = TypeVarTuple("_Args")
_Result = TypeVar("_Result")


async def in_thread(function: Callable[[*_Args], _Result], *args: *_Args) -> _Result:
    """Run a blocking call in a worker thread and return what it returns.

    There and back takes half as long as by `trio.to_thread.run_sync`, and a sixth where nobody else
    has anything to do: then it suspends only if the call takes long, or the next request comes.

    Cancellation: before the call has begun, `trio.Cancelled` is raised and nothing was done.
    Once it has begun it is waited for to its end, and its result or exception is delivered as if
    nothing had happened: what was done is never lost, and no thread works on behind our back.

    Args:
        function: The call; it must not touch trio or pyfuse3.
        args: Its positional arguments.

    Raises:
        BaseException: Whatever the call raises, unchanged.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        _threads.acquire_nowait()
    except trio.WouldBlock:
        await _threads.acquire()
    try:
        call: _Call[_Result] = _Call()
        trio.lowlevel.start_thread_soon(functools.partial(function, *args), call.deliver)
        return (await call.outcome()).unwrap()
    finally:
        _threads.release()


class _Call(Generic[_Result]):
    """A blocking call, and the task that waits for it."""

    __slots__ = ("_first", "_outcome", "_patient", "_task", "_token")

    _outcome: Outcome[_Result]

    def __init__(self) -> None:
        # Belongs to whichever comes first: the outcome, or that the task suspends.
        self._first = threading.Lock()
        self._patient = patience.is_alone()
        self._task = trio.lowlevel.current_task()
        self._token = trio.lowlevel.current_trio_token()

    def deliver(self, outcome: Outcome[_Result]) -> None:
        """Hand the outcome over; in the thread."""
        self._outcome = outcome
        if not self._first.acquire(blocking=False):
            self._token.run_sync_soon(trio.lowlevel.reschedule, self._task)
        elif self._patient:
            patience.ring()

    async def outcome(self) -> Outcome[_Result]:
        """Wait for the outcome; in the task."""
        if self._patient:
            patience.wait_for_bell()
        if self._first.acquire(blocking=False):
            await trio.lowlevel.wait_task_rescheduled(_go_on)
        elif self._patient:
            patience.quieten()
        return self._outcome


def _go_on(_: object) -> trio.lowlevel.Abort:
    """What a thread does cannot be called off."""
    return trio.lowlevel.Abort.FAILED


def in_background(function: Callable[[*_Args], Awaitable[None]], *args: *_Args) -> None:
    """Run something that outlives the request that brings it up.

    Args:
        function: It raises nothing.
        args: Its positional arguments.
    """

    async def run() -> None:
        try:
            await function(*args)
        finally:
            patience.busy -= 1

    patience.busy += 1
    trio.lowlevel.spawn_system_task(run)
