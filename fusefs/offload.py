"""Blocking calls of the event loop, run in worker threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

REQUESTS = 99
"""How many requests of the kernel are served at once; each keeps a buffer of 1 MiB."""

# As many threads as there can be requests, and one for what the mount does itself. A smaller
# number could stop everything: a call that waits in its thread (for a lock, for the bytes of a
# reader on a slow disk) would hold what the call it waits for needs. Threads that wait are cheap,
# and no more are started than wait at the same time.
_LIMITER = trio.CapacityLimiter(REQUESTS + 1)

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
