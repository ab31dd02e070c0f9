"""Waiting for the first answer of a mount, in a process apart from the one that serves it."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

import trio

from fusefs.mounterror import MountError

_ANSWERED = b"\0"  # no error text begins with it


class FirstAnswer:
    """A process that asks a mount for something, and tells when it has got it.

    It may also do something with the mount before that counts as ready.

    A thread of the server would not do. If the server is killed while the thread waits, neither
    ends: the kernel keeps the thread until its request is answered, and the connection open
    until the thread has ended. The process is forked before there are threads or an event loop.
    """

    def __init__(self, point: str, then: Callable[[], None] | None = None) -> None:
        """Begin to ask.

        Args:
            point: Where the mount is.
            then: What is done in that process when the mount has answered. It may raise
                MountError, and must not need any open file of ours.
        """
        self._pipe, writer = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            _ask(point, then, writer)
        os.close(writer)

    async def wait(self) -> None:
        """Return once the mount has answered.

        Raises:
            MountError: It will not answer, or what was to be done then has failed.
        """
        await trio.lowlevel.wait_readable(self._pipe)
        said = os.read(self._pipe, select.PIPE_BUF)
        if said != _ANSWERED:
            raise MountError(os.fsdecode(said) or "nobody is left to ask whether the mount answers")

    def close(self) -> None:
        """End the process; not before the mount has answered, or its connection is closed."""
        os.close(self._pipe)
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


def _ask(point: str, then: Callable[[], None] | None, writer: int) -> None:
    try:
        # Of our copy of /dev/fuse above all, which would keep the connection open.
        os.closerange(3, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        try:
            os.stat(point)
            if then is not None:
                then()
        except OSError as error:
            reason = f"the mount on {point} does not answer: {error.strerror}"
            os.write(writer, os.fsencode(reason))
        except MountError as error:
            os.write(writer, os.fsencode(str(error)))
        else:
            os.write(writer, _ANSWERED)
    finally:
        os._exit(0)
