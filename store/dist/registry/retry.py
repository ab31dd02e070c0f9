"""When to ask again, and after how long."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

from store.dist.registry.errors import Cancelled, Refused, RegistryError, Unreachable

__all__ = ["Notify", "Patience", "retry_after"]

# Tells the user, in one line, what is being waited for.
Notify = Callable[[str], None]

_FIRST: Final = 0.5
_LONGEST: Final = 30.0
# A registry may ask for more than anybody waits for: then its answer is final.
_LONGEST_ASKED: Final = 300.0


class Patience:
    """What is left of the patience with one piece of work, which may take several requests.

    The pauses double from half a second to half a minute, each cut by chance to between half and
    the whole of it, so that the threads and machines which one fault hit do not return as one.
    What a registry asks for in Retry-After is waited in full.

    One thread at a time may use it.
    """

    def __init__(self, retries: int, cancel: threading.Event, notify: Notify) -> None:
        """Begin with all of it.

        Args:
            retries: pauses in a row before it ends.
            cancel: when set, a pause ends at once.
            notify: told of each pause.
        """
        self._retries = retries
        self._cancel = cancel
        self._notify = notify
        self._used = 0

    def renew(self) -> None:
        """Something was achieved: count anew."""
        self._used = 0

    def pause(self, error: RegistryError) -> None:
        """Wait until it is time to ask again.

        Raises:
            RegistryError: ``error`` itself, when asking again is of no use.
            Cancelled: this process wants to end.
        """
        if self._used >= self._retries or not self._worthwhile(error):
            raise error
        asked = error.retry_after if isinstance(error, Refused) else None
        longest = min(_LONGEST, _FIRST * 2**self._used)
        seconds = longest * random.uniform(0.5, 1) if asked is None else asked  # noqa: S311 - no secret
        if seconds > _LONGEST_ASKED:
            raise error
        self._used += 1
        self._notify(f"{error}; trying again in {seconds:.1f} s")
        if self._cancel.wait(seconds):
            raise Cancelled

    def _worthwhile(self, error: RegistryError) -> bool:
        if isinstance(error, Unreachable):
            # A host that never answered is more likely misspelled than overloaded.
            return error.transient and error.connected
        return isinstance(error, Refused) and error.transient


def retry_after(text: str | None) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110, section 10.2.3).

    Args:
        text: its value: seconds, or a date; None or what is neither: nothing is asked for.
    """
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
