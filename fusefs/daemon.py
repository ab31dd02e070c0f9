"""Going into the background, with the outcome told to whoever started us."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
from collections.abc import Callable
from typing import NoReturn

from fusefs.mounterror import MountError

_log = logging.getLogger(__name__)

_READY = b"\0"  # no error text begins with it
_STANDARD = (0, 1, 2)


def run_detached(serve: Callable[[Callable[[], None]], int]) -> None:
    """Run `serve` in a background process and return once it says that it is ready.

    Nothing that serves must have been set up before: no thread, no lock, no event loop survives
    a fork whole. The child gets its own session, `/` as its folder, and none of our descriptors
    but the standard three, which lead to /dev/null once it is ready.

    Args:
        serve: Gets a function to call when it is ready; returns the exit status of the process.
            Before it is ready it may raise MountError.

    Raises:
        MountError: With the text of the one that `serve` raised, or if the child died early.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_daemon(serve, reader, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        report = pipe.read()
    if report.startswith(_READY):
        return
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if report:
        raise MountError(os.fsdecode(report))
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    raise MountError(
        f"the background process ended before it had mounted anything ({how}); the log may tell why"
    )


def fill_standard_descriptors() -> None:
    """Open /dev/null in place of a standard descriptor that is closed.

    Else the next file to be opened, such as /dev/fuse, would get its number and all that is
    meant for a terminal.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD[-1]:
        pass
    os.close(descriptor)


def _be_the_daemon(
    serve: Callable[[Callable[[], None]], int], reader: int, writer: int
) -> NoReturn:
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        os.environ.pop("NOTIFY_SOCKET", None)  # a service manager waits for our parent's exit
        os.close(reader)
        _keep_only(writer)
        with open(writer, "wb", buffering=0) as pipe:
            try:
                status = serve(lambda: _report_ready(pipe))
            except MountError as error:
                _report_failure(pipe, str(error))
            except Exception as error:  # noqa: BLE001 - the end of the process
                _log.exception("an unforeseen error ends the background process")
                _report_failure(pipe, f"{type(error).__name__}: {error}")
    finally:
        # Not sys.exit: what is left on the stack belongs to the parent.
        os._exit(status)


def _keep_only(pipe: int) -> None:
    """Close what the parent had open: a lock of its shell, a pipe that somebody reads."""
    os.closerange(_STANDARD[-1] + 1, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))
    _silence(0)


def _silence(*descriptors: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)


def _report_ready(pipe: io.FileIO) -> None:
    """Let go of the terminal, then of the parent.

    Raises:
        MountError: The parent is gone, so nobody knows of this mount, and it must not stay.
    """
    _silence(1, 2)
    try:
        pipe.write(_READY)
    except BrokenPipeError:
        raise MountError("whoever asked for the mount is gone: taking it back") from None
    pipe.close()


def _report_failure(pipe: io.FileIO, text: str) -> None:
    # Where nobody listens any more (ValueError: we hung up ourselves) the log has to do.
    with contextlib.suppress(OSError, ValueError):
        pipe.write(os.fsencode(text))
