"""`in_thread`: what becomes of results, exceptions and cancellation."""

from __future__ import annotations

import threading

import pytest
import trio

from fusefs.offload import REQUESTS, in_thread


def test_results_and_exceptions_are_handed_back() -> None:
    """From another thread, and unchanged."""
    error = OSError(28, "full")

    def fail() -> None:
        raise error

    async def main() -> None:
        assert await in_thread(divmod, 7, 2) == (3, 1)
        assert await in_thread(threading.get_ident) != threading.get_ident()
        with pytest.raises(OSError, match="full") as caught:
            await in_thread(fail)
        assert caught.value is error

    trio.run(main)


def test_what_is_cancelled_before_it_begins_is_not_done() -> None:
    """Nothing has happened, and Cancelled says so."""
    done: list[int] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await in_thread(done.append, 1)
        assert scope.cancelled_caught

    trio.run(main)
    assert done == []


def test_what_has_begun_is_finished_and_its_result_kept() -> None:
    """Nothing is left to work on behind our back."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert go_on.wait(10)
        return "done"

    async def cancel(scope: trio.CancelScope) -> None:
        await trio.to_thread.run_sync(begun.wait)
        scope.cancel()
        go_on.set()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(cancel, scope)
            with scope:
                assert await in_thread(work) == "done"
            assert not scope.cancelled_caught

    trio.run(main)


def test_every_request_may_wait_in_a_thread_at_once() -> None:
    """And what they all wait for still gets one."""
    barrier = threading.Barrier(REQUESTS + 1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(REQUESTS + 1):
                nursery.start_soon(in_thread, barrier.wait, 20)

    trio.run(main)
