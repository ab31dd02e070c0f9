"""What can go wrong between here and a registry, as one tree below `store.errors.StoreError`.

::

    RegistryError
    ├── InvalidReference     the words name no image or repository (also an `Invalid`)
    ├── BadCredentials       an auth file or a credential helper cannot be used
    ├── Unreachable          no whole answer came: name, connection, TLS, silence, a cut body
    ├── Refused              a whole answer came, and it was no
    │   ├── Absent           404: no such manifest, blob or repository
    │   └── Denied           401 and 403
    ├── Unsound              what came is not what it should be
    │   └── Corrupt          its bytes do not hash to its digest, or are too few or too many
    └── Cancelled            this process wants to end

Texts hold no credential, and of a URL neither user nor query, where signatures stand.
"""

from __future__ import annotations

from http import HTTPStatus

from store.errors import Invalid, StoreError

__all__ = [
    "Absent",
    "BadCredentials",
    "Cancelled",
    "Corrupt",
    "Denied",
    "InvalidReference",
    "Refused",
    "RegistryError",
    "Unreachable",
    "Unsound",
]

_PASSING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)


class RegistryError(StoreError):
    """The root of what the registry client raises."""


class InvalidReference(RegistryError, Invalid):
    """Not of the form ``HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]``."""

    noun = "reference"


class BadCredentials(RegistryError):
    """An auth file or a credential helper that cannot be used.

    Attributes:
        source: the file or the program.
        reason: what is wrong; nothing of its contents.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


class Unreachable(RegistryError):
    """No whole answer came.

    Attributes:
        host: who was asked.
        reason: what the transport said.
        transient: whether the same request may fare better later.
        connected: whether the host could be spoken to, now or before.
    """

    def __init__(
        self, host: str, reason: str, *, transient: bool = True, connected: bool = True
    ) -> None:
        super().__init__(host, reason)
        self.host = host
        self.reason = reason
        self.transient = transient
        self.connected = connected

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.args, self.__dict__

    def __str__(self) -> str:
        return f"{self.host}: {self.reason}"


class Refused(RegistryError):
    """An answer with a status that is no success.

    Attributes:
        where: host and path.
        status: the HTTP status.
        detail: what the registry says about it, on one line; may be empty.
        retry_after: seconds that it asks to wait; None when it does not.
    """

    def __init__(
        self, where: str, status: int, detail: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(where, status, detail, retry_after)
        self.where = where
        self.status = status
        self.detail = detail
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """Whether the same request may fare better later."""
        return self.status in _PASSING or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    def __str__(self) -> str:
        return f"{self.where}: {self._verdict()}" + (f" ({self.detail})" if self.detail else "")

    def _verdict(self) -> str:
        return f"the registry answers {self.status}"


class Absent(Refused):
    """The registry does not have it, or does not show it to this user."""

    def _verdict(self) -> str:
        return "not found in the registry"


class Denied(Refused):
    """The registry wants other credentials than it got."""

    def _verdict(self) -> str:
        return "access denied; see `docs/registries.md` on credentials"


class Unsound(RegistryError):
    """An answer that cannot be used, whatever its status.

    Attributes:
        what: the object or address that it is about.
        reason: what is wrong with it.
    """

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


class Corrupt(Unsound):
    """The bytes that came are not those that were named."""


class Cancelled(RegistryError):
    """The transfer was told to end."""

    def __str__(self) -> str:
        return "interrupted"
