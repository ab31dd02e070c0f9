"""Serving a mount that stands, from its first answer to its last."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import types
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import pyfuse3
import trio

from fusefs.firstanswer import FirstAnswer
from fusefs.mounterror import MountError
from fusefs.mounts import CUT_OFF, Mount, is_cut_off, unmount
from fusefs.notify import notify
from fusefs.offload import REQUESTS, in_thread
from store.hashing import give_up

_log = logging.getLogger(__name__)

ENDING_SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
"""What ends a mount; the same three as for the file systems of libfuse itself."""

# Tasks that may idle before one ends. Starting one for a request that waits for a thread, and
# ending it afterwards, costs a tenth of what eight clients get done.
_SPARE = 8

_BUSY_PATIENCE = 1.0  # seconds for clients to close their files before they are cut off
_BUSY_INTERVAL = 0.1  # seconds between two attempts
_END_PATIENCE = 1.0  # seconds for what is left to end by itself once the mount is gone
_STUCK_PATIENCE = 60.0  # seconds for requests that have begun to be answered after that
_PROBE_PATIENCE = 1.0  # seconds for whatever is mounted in our place to answer
_READ_AHEAD_KIB = 1024  # with the kernel's own 128 KiB a large read becomes many requests


class Served(Protocol):
    """What is asked of the operations beside what pyfuse3 asks of them."""

    async def watch(self) -> None:
        """Follow what happens behind the mount, until cancelled."""

    async def drain(self) -> None:
        """Finish every handle whose release never came."""


async def serve(
    mount: Mount,
    connection: int,
    answer: FirstAnswer,
    operations: Served,
    ready: Callable[[], None],
) -> None:
    """Serve a mount until it is unmounted, or a signal asks for its end.

    `pyfuse3.init()` has been called, and `ENDING_SIGNALS` are blocked. However this ends, the
    mount is then out of the tree, the operations are drained, and these signals do nothing.

    Args:
        mount: The mount.
        connection: The descriptor of /dev/fuse that belongs to it.
        answer: What waits for its first answer.
        operations: What serves it.
        ready: Called once, when the mount answers.

    Raises:
        MountError: The mount never answered, or `ready` raised it.
        Exception: What happened in the loop, most likely an ExceptionGroup.
    """
    session = _Session(mount, connection, answer, ready)
    heeded = _heeded_signals()
    for number in heeded:
        # What the receiver puts back in the end. To ignore them would lose what has come already.
        signal.signal(number, _pass_over)
    with trio.open_signal_receiver(*heeded) as signals:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heeded)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.end_on_signal, signals)
            nursery.start_soon(session.announce)
            nursery.start_soon(operations.watch)
            try:
                with session.requests:
                    await pyfuse3.main(min_tasks=_SPARE, max_tasks=REQUESTS)
            finally:
                with trio.CancelScope(shield=True):
                    await session.leave_the_tree()
                    await operations.drain()
                nursery.cancel_scope.cancel()
    if session.failure is not None:
        raise session.failure


def _pass_over(number: int, frame: types.FrameType | None) -> None:
    """Handle a signal that comes when everything is ending anyway."""


def _heeded_signals() -> frozenset[signal.Signals]:
    # nohup(1) means what it says. SIGINT is not looked at in the same way: a shell ignores it
    # for whatever it starts with `&`, where the kill(1) that follows is meant.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return ENDING_SIGNALS - {signal.SIGHUP}
    return ENDING_SIGNALS


class _Session:
    """The tasks beside the loop, and what they know of each other."""

    def __init__(
        self, mount: Mount, connection: int, answer: FirstAnswer, ready: Callable[[], None]
    ) -> None:
        self.failure: MountError | None = MountError(
            f"the mount on {mount.point} ended before it answered"
        )
        self.requests = trio.CancelScope()
        self._mount = mount
        self._connection = connection
        self._answer = answer
        self._ready = ready
        self._ending = False

    async def announce(self) -> None:
        """Wait for the first answer, and say that the mount is ready."""
        try:
            await self._answer.wait()
            await in_thread(_read_further_ahead, self._mount.device)
            if self._ending:
                return
            self._ready()
        except MountError as error:
            self.failure = error
            pyfuse3.terminate()
        else:
            self.failure = None
            _log.info("%s is mounted on %s", self._mount.source, self._mount.point)

    async def end_on_signal(self, signals: AsyncIterator[int]) -> None:
        """Unmount when a signal comes: the later the less patient, and serving all the while."""
        async for number in signals:
            # One is enough. Python runs a handler in the middle of another, so a flood of them
            # would end in a RecursionError.
            for heeded in _heeded_signals():
                signal.signal(heeded, signal.SIG_IGN)
            self._ending = True
            self.failure = None
            _log.info("%s: unmounting %s", signal.Signals(number).name, self._mount.point)
            break
        notify("STOPPING=1")
        try:
            with trio.move_on_after(_BUSY_PATIENCE) as patience:
                # The kernel tells nobody when the last file is closed.
                while not await in_thread(unmount, self._mount):  # noqa: ASYNC110
                    await trio.sleep(_BUSY_INTERVAL)
            if patience.cancelled_caught:
                _log.warning("%s is busy: cutting off who uses it", self._mount.point)
                await in_thread(_detach, self._mount)
        except MountError as error:
            _log.warning("%s", error)
        # The loop ends by itself when the last open file is closed. If one stays open, or the
        # mount is seen in another name space too, it ends now. Requests that have begun are
        # finished in any case, but for the digest of what may be a terabyte.
        await trio.sleep(_END_PATIENCE)
        give_up()
        pyfuse3.terminate()
        # A request that is never answered is a fault of ours. It must not keep the mount's
        # process, and the clients that wait for it, for ever. What goes on in a thread, such as
        # the fsync of a commit, is waited for even then.
        await trio.sleep(_STUCK_PATIENCE)
        self.failure = MountError(f"requests to {self._mount.point} were not answered: given up")
        _log.error("%s", self.failure)
        self.requests.cancel()

    async def leave_the_tree(self) -> None:
        """Take the mount away after the loop has ended, unless it is gone already."""
        try:
            if not is_cut_off(self._connection) or await self._left_a_dead_mount():
                await in_thread(_detach, self._mount)
        except (MountError, OSError) as error:
            _log.warning("%s", error)

    async def _left_a_dead_mount(self) -> bool:
        """Tell whether what is mounted in our place, if anything, is what we have left there."""
        try:
            with trio.move_on_after(_PROBE_PATIENCE):
                await trio.to_thread.run_sync(os.statvfs, self._mount.point, abandon_on_cancel=True)
        except OSError as error:
            return error.errno in CUT_OFF
        return False


def _detach(mount: Mount) -> None:
    unmount(mount, lazy=True)


def _read_further_ahead(device: str) -> None:
    """Have the kernel ask for more at once where a file is read in sequence."""
    # Only root may, and not in every container. It is a matter of speed alone.
    path = f"/sys/class/bdi/{device}/read_ahead_kb"
    with contextlib.suppress(OSError), open(path, "w") as file:
        file.write(str(_READ_AHEAD_KIB))
