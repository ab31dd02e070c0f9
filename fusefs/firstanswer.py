"""Waiting for the first answer of a mount, in a process apart from the one that serves it."""

from __future__ import annotations

import os
import select
import signal

import trio

from fusefs.mounterror import MountError

_ANSWERED = b"\0"  # no error text begins with it


class FirstAnswer:
    """A process that asks a mount for something, and tells when it has got it.

    A thread of the server would not do. If the server is killed while the thread waits, neither
    ends: the kernel keeps the thread until its request is answered, and the connection open
    until the thread has ended. The process is forked before there are threads or an event loop.
    """

    def __init__(self, point: str) -> None:
        self._point = point
        self._pipe, writer = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            _ask(point, writer)
        os.close(writer)

    async def wait(self) -> None:
        """Return once the mount has answered.

        Raises:
            MountError: It will not answer.
        """
        await trio.lowlevel.wait_readable(self._pipe)
        said = os.read(self._pipe, select.PIPE_BUF)
        if said != _ANSWERED:
            reason = os.fsdecode(said) or "nobody is left to ask it"
            raise MountError(f"the mount on {self._point} does not answer: {reason}")

    def close(self) -> None:
        """End the process; not before the mount has answered, or its connection is closed."""
        os.close(self._pipe)
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


def _ask(point: str, writer: int) -> None:
    try:
        # Of our copy of /dev/fuse above all, which would keep the connection open.
        os.closerange(3, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        try:
            os.stat(point)
        except OSError as error:
            os.write(writer, os.fsencode(error.strerror or str(error)))
        else:
            os.write(writer, _ANSWERED)
    finally:
        os._exit(0)
