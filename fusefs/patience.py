"""Waiting outside the event loop, where nobody else is kept from anything by it.

To suspend, and to be woken by way of trio's scheduler and epoll(7), takes as long as a few small
requests. Where one task alone has something to do it may as well wait in poll(2) itself, which
takes no CPU either: a few milliseconds, and no longer than until the next request comes.
"""

from __future__ import annotations

import ctypes
import os
import select
from typing import Final

__all__ = ["MILLISECONDS", "patience"]

# How long timeouts, signals and inotify may have to wait.
MILLISECONDS: Final = 5


class _PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class Patience:
    """Who has something to do, and the waits of one who is alone.

    Attributes:
        busy: how many tasks deal with a request, or with what one has left to be done. Of requests
            it counts none before `watch`, so nobody is taken to be alone.
    """

    def __init__(self) -> None:
        self.busy = 0
        self._bell = -1
        # PyDLL, not the poll() of `select`: that lets go of the GIL, and gets it back only when
        # a busy thread has had its 5 ms. Until then much can vanish.
        self._look = ctypes.PyDLL(None).poll
        self._looked_at = _PollFd(-1, select.POLLIN)
        self._look_arguments = (ctypes.byref(self._looked_at), 1, 0)
        # And those of `select` where we wait: others need the GIL meanwhile.
        self._request = select.poll()
        self._request_or_bell = select.poll()

    def watch(self, connection: int, bell: int) -> None:
        """From now on requests are counted.

        Args:
            connection: The descriptor of /dev/fuse that they come from.
            bell: That of an eventfd(2).
        """
        self._bell = bell
        self._looked_at.fd = connection
        self._request.register(connection, select.POLLIN)
        self._request_or_bell.register(connection, select.POLLIN)
        self._request_or_bell.register(bell, select.POLLIN)

    def is_alone(self) -> bool:
        """Whether the task that is running is the only one that has something to do.

        One that is not counted, such as those of the mount's beginning and end, may be taken for
        the one that is, and keeps it waiting for as long as may be.
        """
        return self.busy == 1 and self._bell >= 0

    def is_request_there(self) -> bool:
        """Whether there is something to read."""
        return bool(self._look(*self._look_arguments) > 0)

    def wait_for_request(self) -> bool:
        """Wait until there is something to read, or for as long as may be; whether there is."""
        return bool(self._request.poll(MILLISECONDS)) and self.is_request_there()

    def wait_for_bell(self) -> None:
        """Wait until the bell has rung, there is something to read, or for as long as may be."""
        self._request_or_bell.poll(MILLISECONDS)

    def ring(self) -> None:
        """Wake who waits for the bell; from a thread, and once for each `quieten`."""
        os.eventfd_write(self._bell, 1)

    def quieten(self) -> None:
        """Have the bell ready for the next one, after it has rung or while it is about to."""
        os.eventfd_read(self._bell)


patience: Final = Patience()
