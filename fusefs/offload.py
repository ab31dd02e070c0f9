"""What the event loop does not wait for: blocking calls, in threads, and tasks of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import trio

REQUESTS = 99
"""How many requests of the kernel are served at once; each keeps a buffer of 1 MiB."""

# As many threads as there can be requests, and one for what the mount does itself. A smaller
# number could stop everything: a call that waits in its thread (for a lock, for the bytes of a
# reader on a slow disk) would hold what the call it waits for needs. Threads that wait are cheap,
# and no more are started than wait at the same time.
_LIMITER = trio.CapacityLimiter(REQUESTS + 1)

# Tasks of `in_background` that have not ended.
_background: set[trio.lowlevel.Task] = set()

_Args = TypeVarTuple("_Args")
_Result = TypeVar("_Result")


async def in_thread(function: Callable[[*_Args], _Result], *args: *_Args) -> _Result:
    """Run a blocking call in a worker thread and return what it returns.

    Cancellation: before the call has begun, `trio.Cancelled` is raised and nothing was done.
    Once it has begun it is waited for to its end, and its result or exception is delivered as if
    nothing had happened: what was done is never lost, and no thread works on behind our back.

    Args:
        function: The call; it must not touch trio or pyfuse3.
        args: Its positional arguments.

    Raises:
        BaseException: Whatever the call raises, unchanged.
    """
    return await trio.to_thread.run_sync(function, *args, limiter=_LIMITER)


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
            _background.remove(trio.lowlevel.current_task())

    _background.add(trio.lowlevel.spawn_system_task(run))


def is_background_busy() -> bool:
    """Whether a task of `in_background` has not ended."""
    return bool(_background)
