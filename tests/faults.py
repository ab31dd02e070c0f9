"""Make the n-th change to the disk fail, or be the last; and know what a power loss would take.

`store.disk` is the one place that changes a store, so its ``os`` is the one thing to replace.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from store import disk

__all__ = ["Counting", "Failing", "Killing", "Ledger", "Os", "using"]

_Proxy = TypeVar("_Proxy", bound="Os")

_CHANGES = (
    "fchmod",
    "fsync",
    "ftruncate",
    "link",
    "mkdir",
    "pwrite",
    "rename",
    "rmdir",
    "unlink",
    "utime",
)


class Os:
    """The module ``os``, with a look at each call that changes something, before and after it."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name in _CHANGES:
            return lambda *args, **options: self._change(name, real, args, options)
        return real

    def open(self, path: str, flags: int, *args: Any, **options: Any) -> int:
        """As os.open, which changes something where it may create."""
        if flags & os.O_CREAT:
            return int(self._change("open", os.open, (path, flags, *args), options))
        return os.open(path, flags, *args, **options)

    def _change(
        self, name: str, real: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        self.steps.append(f"{name} {_shown(args[0])}")
        self.before(name, args)
        try:
            result = real(*args, **options)
            self.after(name, args, options, result)
        finally:
            self.over()
        return result

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        """Look at a call before it is made; raise what is to fail it."""

    def after(self, name: str, args: tuple[Any, ...], options: dict[str, Any], result: Any) -> None:
        """Look at a call that has succeeded."""

    def over(self) -> None:
        """A call has been made."""


class Counting(Os):
    """Changes nothing, counts."""


class Failing(Os):
    """The ``n``-th change fails, once, with ``error``; a write has written half by then.

    Attributes:
        failed: the call that did, or "".
    """

    def __init__(self, n: int, error: int) -> None:
        super().__init__()
        self.n = n
        self.error = error
        self.failed = ""

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        """Fail the call if it is the one."""
        if len(self.steps) - 1 == self.n:
            self.failed = self.steps[-1]
            if name == "pwrite":
                fd, data, at = args
                os.pwrite(fd, memoryview(data).cast("B")[: len(data) // 2], at)
            raise OSError(self.error, os.strerror(self.error))


class Killing(Os):
    """The process is killed right after its ``n``-th change."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def over(self) -> None:
        """End the process if it was the one."""
        if len(self.steps) - 1 == self.n:
            os.kill(os.getpid(), signal.SIGKILL)


class Ledger(Os):
    """Keeps account of what has reached the disk, as the strictest file system would have it.

    A write is on disk once an fsync of its file has succeeded, a name once one of its folder has.
    What was unwritten when an fsync failed never gets there: the pages count as clean.

    Attributes:
        fail_fsync: which fsync is to fail, counting from 0; None for none.
        skip_fsync: which is to do nothing, likewise.
        fsyncs: what was synced, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fail_fsync: int | None = None
        self.skip_fsync: int | None = None
        self.fsyncs: list[str] = []
        self._unwritten: set[tuple[int, int]] = set()
        self._lost: set[tuple[int, int]] = set()
        self._unnamed: dict[tuple[int, int], set[str]] = {}

    def before(self, name: str, args: tuple[Any, ...]) -> None:
        """Fail the fsync that is to fail."""
        if name != "fsync":
            return
        self.fsyncs.append(_shown(args[0]))
        if self.fail_fsync == len(self.fsyncs) - 1:
            file = _identity(os.fstat(args[0]))
            if file in self._unwritten:
                self._unwritten.discard(file)
                self._lost.add(file)
            raise OSError(5, "Input/output error")

    def after(self, name: str, args: tuple[Any, ...], options: dict[str, Any], result: Any) -> None:
        """Enter the call."""
        if name == "pwrite" and result:
            self._unwritten.add(_identity(os.fstat(args[0])))
        elif name == "ftruncate":
            file = _identity(os.fstat(args[0]))
            self._unwritten.add(file)
            if args[1] == 0:
                self._lost.discard(file)
        elif name == "fsync":
            if self.skip_fsync == len(self.fsyncs) - 1:
                return
            synced = _identity(os.fstat(args[0]))
            self._unwritten.discard(synced)
            self._unnamed.pop(synced, None)
        elif name == "open" and os.fstat(result).st_size == 0:
            # An inode's number is used again.
            self._lost.discard(_identity(os.fstat(result)))
            self._enter(args[0], options.get("dir_fd"))
        elif name in ("link", "rename"):
            self._enter(args[1], options.get("dst_dir_fd"))
        elif name == "mkdir":
            self._enter(args[0], None)

    def _enter(self, path: str, dir_fd: int | None) -> None:
        folder = os.path.dirname(path) or "."
        found = _identity(os.stat(folder, dir_fd=dir_fd))
        self._unnamed.setdefault(found, set()).add(os.path.basename(path))

    def at_risk(self, path: str, above: str) -> list[str]:
        """What of a file a power loss might take: its bytes, its name, or one of its folders'.

        Args:
            path: the file.
            above: the folder whose own name is taken to be durable.
        """
        risks = []
        if _identity(os.stat(path)) in self._unwritten | self._lost:
            risks.append(f"bytes of {path}")
        while path != above:
            folder, name = os.path.split(path)
            if name in self._unnamed.get(_identity(os.stat(folder)), ()):
                risks.append(f"name of {path}")
            path = folder
        return risks


def _shown(file: int | str) -> str:
    path = os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else file
    return os.path.basename(path)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def using(proxy: _Proxy) -> Iterator[_Proxy]:
    """Have the store change its disk through ``proxy``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "os", proxy)
        yield proxy
