"""Late names: what the process that wrote an ingest still finds after its commit.

Some tools touch the path after their last close (install: chmod, wget: utimens, shutil.copy2:
setxattr), and must not fail for a commit that went well.  So for ten seconds the process that
opened the ingest for writing, or made the call that committed it, still finds the name, as the
finished file.  Nobody else does, and no listing shows it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from store import Ref

__all__ = ["LateNames", "thread_group"]

_SECONDS: Final = 10.0


def thread_group(pid: int) -> int:
    """The process that a thread belongs to (proc_pid_status(5), Tgid); 0 where it cannot be told.

    A FUSE request names the thread that made it, and 0 for one in another pid namespace.
    """
    if pid == 0:
        return 0
    # pidfd_open(2) takes no other than a process's first thread, and a third of the time.
    with contextlib.suppress(OSError):
        os.close(os.pidfd_open(pid))
        return pid
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"Tgid:"):
                    return int(line[5:])
    except (OSError, ValueError):
        pass
    return pid


class _Finished(Protocol):
    """What was an ingest.

    Attributes:
        processes: who may still see it.
    """

    processes: set[int]


_Node = TypeVar("_Node", bound=_Finished)


class LateNames(Generic[_Node]):
    """The refs that were committed in the last ten seconds, and who may still see them."""

    __slots__ = ("_clock", "_names", "_over")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none.

        Args:
            clock: the time in seconds.
        """
        self._clock = clock
        # With the time at which each is over; oldest first.
        self._names: dict[Ref, tuple[_Node, float]] = {}
        self._over: list[Ref] = []

    def add(self, ref: Ref, node: _Node) -> None:
        """A ref was committed."""
        now = self._clock()
        while self._names:
            oldest = next(iter(self._names))
            if self._names[oldest][1] > now:
                break
            del self._names[oldest]
            self._over.append(oldest)
        self._names.pop(ref, None)
        self._names[ref] = (node, now + _SECONDS)

    def find(self, ref: Ref, pid: int) -> _Node | None:
        """The finished file, for a thread of a process that may still see it."""
        late = self._names.get(ref)
        if late is None:
            return None
        node, until = late
        if until <= self._clock() or thread_group(pid) not in node.processes - {0}:
            return None
        return node

    def over(self) -> list[Ref]:
        """The refs whose time is over, each of them once; something else may stand there by now."""
        over, self._over = self._over, []
        return over

    def drop(self, ref: Ref) -> None:
        """Something else stands under the ref now."""
        self._names.pop(ref, None)
