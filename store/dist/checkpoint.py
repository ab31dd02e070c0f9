"""Where a verification stands, written down beside the user: the store itself may be read-only."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import NamedTuple

from store import Digest, Invalid
from store.dist import output

__all__ = ["Checkpoint", "Place"]

_INTERVAL = 1.0  # seconds between two writings, at least
_SHARE = 20  # and so many times as long as the last one took, which grows with what is bad


class Place(NamedTuple):
    """How far a verification has come.

    Attributes:
        after: the last digest, in order, of those that are all checked.
        bad: those of them that were not as they should be.
    """

    after: Digest
    bad: list[Digest]


class Checkpoint:
    """The note of how far the verification of one store has come.

    It is in ``$XDG_STATE_HOME/contentfs``, else ``~/.local/state/contentfs``.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        name = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:16]
        self._path = f"{state}/contentfs/verify-{name}.json"
        self._next = time.monotonic() + _INTERVAL
        self._place: Place | None = None

    def load(self) -> Place | None:
        """What the last verification that did not come to its end has left, if it can be read."""
        try:
            with open(self._path, encoding="utf-8") as file:
                noted = json.load(file)
            if noted["root"] != self._root:
                return None
            return Place(Digest.parse(noted["after"]), [Digest.parse(bad) for bad in noted["bad"]])
        except (OSError, Invalid, ValueError, TypeError, KeyError, AttributeError):
            return None

    def reached(self, place: Place) -> None:
        """Note ``place``, once in a while; `save` notes the last one."""
        self._place = place
        if time.monotonic() >= self._next:
            self.save()

    def save(self) -> None:
        """Write down the last place that was reached, or say once why that is not possible."""
        if self._place is None:
            return
        noted = {
            "root": self._root,
            "after": str(self._place.after),
            "bad": [str(digest) for digest in self._place.bad],
        }
        begun = time.monotonic()
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            temporary = f"{self._path}.{os.getpid()}"
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(noted, file)
            os.replace(temporary, self._path)
            now = time.monotonic()
            self._next = now + max(_INTERVAL, _SHARE * (now - begun))
        except OSError as error:
            output.note(f"{error.filename}: {error.strerror}; --resume will not find the place")
            self._next = float("inf")

    def clear(self) -> None:
        """The verification came to its end."""
        self._place = None
        if os.path.lexists(self._path):
            os.unlink(self._path)
