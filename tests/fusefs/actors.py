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
            outcome = _outcome(call, user, folder)
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


def _outcome(call: Callable[[], Any], user: int | None, folder: Path | None) -> tuple[bool, Any]:
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
