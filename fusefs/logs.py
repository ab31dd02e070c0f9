"""Where the log of a mount goes, and what a line of it looks like."""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys

from fusefs.mounterror import MountError

LEVELS = ("debug", "info", "warning", "error")

_SYSLOG = "/dev/log"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

# sd-daemon(3): what the journal reads a priority from at the beginning of a line.
_PRIORITIES = {
    logging.DEBUG: "<7>",
    logging.INFO: "<6>",
    logging.WARNING: "<4>",
    logging.ERROR: "<3>",
    logging.CRITICAL: "<2>",
}


def set_up_logging(level: str, file: str | None, *, foreground: bool) -> None:
    """Send the log of this process where it belongs.

    That is `file` if one is given; else standard error in the foreground (with priorities if the
    journal reads it); else the system log, where there is one.

    Args:
        level: The least that is logged, one of `LEVELS`.
        file: The path of a file that is appended to, reopened when it is rotated; or None.
        foreground: Whether standard error is there to be written to.

    Raises:
        MountError: The file cannot be opened.
    """
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.addHandler(_handler(file, foreground=foreground))
    logging.getLogger("pyfuse3").addFilter(_is_news)
    logging.raiseExceptions = False  # a log that cannot be written is no reason to stop serving


def one_line(text: str) -> str:
    """Escape what would end a line or steer a terminal: names of files may hold anything."""
    return _CONTROL.sub(_escape, text)


def _handler(file: str | None, *, foreground: bool) -> logging.Handler:
    handler: logging.Handler
    if file is not None:
        try:
            handler = logging.handlers.WatchedFileHandler(file, errors="backslashreplace")
        except OSError as error:
            raise MountError(f"cannot write the log {file}: {error.strerror}") from error
        handler.setFormatter(_OneLine(timed=True))
    elif foreground:
        handler = logging.StreamHandler()
        journal = _journal_reads_stderr()
        handler.setFormatter(_OneLine(timed=not journal, priority=journal))
    else:
        handler = _SystemLog(_SYSLOG, facility="daemon")
        handler.ident = f"contentfs[{os.getpid()}]: "
        handler.setFormatter(_OneLine())
    return handler


class _SystemLog(logging.handlers.SysLogHandler):
    """The system log, which may come and go."""

    def emit(self, record: logging.LogRecord) -> None:
        # Else each line would be composed, and sent in two ways to where nobody listens.
        if os.path.exists(_SYSLOG):
            super().emit(record)


class _OneLine(logging.Formatter):
    """One line an event, whatever is in it."""

    def __init__(self, *, timed: bool = False, priority: bool = False) -> None:
        time = "%(asctime)s " if timed else ""
        super().__init__(f"{time}%(levelname)s %(name)s: %(message)s")
        self._priority = priority

    def format(self, record: logging.LogRecord) -> str:
        line = one_line(super().format(record))
        return _PRIORITIES.get(record.levelno, "<5>") + line if self._priority else line

    def formatException(self, ei: object) -> str:  # noqa: N802 - the name is logging's
        text = super().formatException(ei)  # type: ignore[arg-type]
        # The bars and dashes are those of exception groups, which trio makes of everything.
        lines = (line.strip(" |+-") for line in text.splitlines())
        return " | ".join(line for line in lines if line)


def _escape(found: re.Match[str]) -> str:
    # What is left of newlines stands before a traceback, or in a name.
    return " | " if found[0] == "\n" else found[0].encode("unicode_escape").decode()


def _journal_reads_stderr() -> bool:
    """Tell whether standard error is the stream that systemd has connected to the journal."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _is_news(record: logging.LogRecord) -> bool:
    """Drop what pyfuse3 says when the kernel no longer listens.

    It does not for an answer to a client that was killed, nor for anything after an unmount.
    """
    text = record.getMessage()
    if text.startswith("Failed to submit invalidate_entry"):
        return not (record.exc_info and isinstance(record.exc_info[1], OSError))
    return not ("fuse_reply_* failed with" in text and text.endswith(os.strerror(2)))
