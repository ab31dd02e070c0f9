"""`in_thread`: what becomes of results, exceptions and cancellation."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
import trio

from fusefs import offload
from fusefs.offload import REQUESTS, in_thread
from fusefs.patience import Patience


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


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """One who deals with a request, alone; where the next request is to be written to."""
    patience = Patience()
    connection, kernel = os.pipe()
    bell = os.eventfd(0)
    patience.watch(connection, bell)
    patience.busy = 1
    monkeypatch.setattr(offload, "patience", patience)
    yield kernel
    for descriptor in (connection, kernel, bell):
        os.close(descriptor)


async def turns(taken: list[str]) -> None:
    """Take a turn whenever there is one."""
    while True:
        taken.append("another")
        await trio.lowlevel.checkpoint()


@pytest.mark.usefixtures("alone")
def test_who_is_alone_does_not_suspend() -> None:
    """Neither for a result nor for an exception, one after the other."""
    taken: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns, taken)
            for i in range(100):
                assert await in_thread(divmod, i, 7) == divmod(i, 7)
                with pytest.raises(ZeroDivisionError):
                    await in_thread(divmod, i, 0)
            nursery.cancel_scope.cancel()
            # A machine that stands still for longer than the wait suspends even then.
            assert len(taken) < 50

    trio.run(main)


def test_who_is_alone_makes_way_for_the_next_request(alone: int) -> None:
    """Though its own call goes on, and keeps its result."""
    taken: list[str] = []
    go_on = threading.Event()

    def work() -> str:
        os.write(alone, b"a request")
        assert go_on.wait(10)
        return "done"

    async def serve() -> None:
        taken.append("the next")
        go_on.set()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            assert await in_thread(work) == "done"
        assert taken == ["the next"]

    trio.run(main)


@pytest.mark.usefixtures("alone")
def test_what_takes_long_lets_others_have_their_turn() -> None:
    """Whether or not a request comes."""
    go_on = threading.Event()

    async def serve() -> None:
        go_on.set()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            assert await in_thread(go_on.wait, 10)

    trio.run(main)
