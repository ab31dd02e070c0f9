"""One fsync left out: to see that a sweep would notice.

A place is named by who asks for the fsync and how, such as ``blobs.prepare fsync_dir``; of the
syncs that are shared, by the folder.  The environment says which is left out (``LEAVE_OUT``), and
to which file the places that were passed are added (``PLACES``).
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import store.disk


class _Os(types.SimpleNamespace):
    """`os`, but for one fsync."""

    def __init__(self, leave_out: str, places: str | None) -> None:
        super().__init__()
        self._leave_out = leave_out
        self._places = places
        self._seen: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, fd: int) -> None:
        """Sync, or say that it was done."""
        place = _place(fd)
        if self._places is not None and place not in self._seen:
            self._seen.add(place)
            with open(self._places, "a", encoding="utf-8") as file:
                file.write(f"{place}\n")
        if place != self._leave_out:
            os.fsync(fd)


def _place(fd: int) -> str:
    """Who asks for this fsync."""
    frame = sys._getframe(2)
    how = ""
    while frame.f_back is not None and frame.f_globals["__name__"] == "store.disk":
        how = frame.f_code.co_name
        frame = frame.f_back
    module = frame.f_globals["__name__"].rpartition(".")[2]
    if module == "sharedsync":
        return f"shared {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}"
    return f"{module}.{frame.f_code.co_name} {how}"


def install() -> None:
    """Do what the environment says."""
    vars(store.disk)["os"] = _Os(os.environ.get("LEAVE_OUT", ""), os.environ.get("PLACES"))
