"""Calls made by another process, or by another user."""

from __future__ import annotations

import contextlib
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOBODY = 65534


def elsewhere(
    call: Callable[[], Any], *, user: int | None = None, folder: Path | None = None
) -> Any:
    """Run a call in a forked process, and return what it returns or raise what it raises.

    Args:
        call: what to run; what it returns must be picklable.
        user: who runs it; default is the present user.
        folder: the folder that it runs in, which the user need not be able to reach.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        outcome: tuple[bool, Any] = (False, RuntimeError("the other process died"))
        with contextlib.suppress(BaseException):
            outcome = _run(call, user, folder)
        os.write(writer, pickle.dumps(outcome))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        report = pipe.read()
    os.waitpid(child, 0)
    returned, result = pickle.loads(report)
    if returned:
        return result
    raise result


def _run(call: Callable[[], Any], user: int | None, folder: Path | None) -> tuple[bool, Any]:
    try:
        if folder is not None:
            os.chdir(folder)
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        return True, call()
    except OSError as error:
        return False, error
    except Exception:  # noqa: BLE001 - it is to be seen in the parent
        return False, RuntimeError(traceback.format_exc())


class Other:
    """Another process, there from the beginning: it has no copy of what is opened later.

    A process that is forked while a file is open closes a copy of it at its end, which the mount
    takes for the close that it is.
    """

    def __init__(self) -> None:
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._requests)
            os.close(self._replies)
            with open(requests, "rb") as inbox, open(replies, "wb", buffering=0) as outbox:
                while head := inbox.read(4):
                    name, arguments = pickle.loads(inbox.read(int.from_bytes(head)))
                    outbox.write(_number_of(lambda: getattr(os, name)(*arguments)))  # noqa: B023
            os._exit(0)
        os.close(requests)
        os.close(replies)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of `os` there, and raise what it raises."""
        request = pickle.dumps((name, arguments))
        os.write(self._requests, len(request).to_bytes(4) + request)
        number = int.from_bytes(os.read(self._replies, 4))
        if number:
            raise OSError(number, os.strerror(number), *arguments[:1])

    def end(self) -> None:
        """Have it end."""
        os.close(self._requests)
        os.close(self._replies)
        os.waitpid(self._child, 0)


def _number_of(call: Callable[[], object]) -> bytes:
    try:
        call()
    except OSError as error:
        return (error.errno or 0).to_bytes(4)
    return (0).to_bytes(4)
