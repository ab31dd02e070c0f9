"""HTTP as the rest of the client sees it: requests, headers, responses, addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

__all__ = [
    "Body",
    "Headers",
    "Receiver",
    "Request",
    "Response",
    "Sink",
    "Transport",
    "origin",
    "shown",
]

_SUCCESS = range(200, 300)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Body(Protocol):
    """The body of a request."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes of what follows; nothing at the end."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go elsewhere, as in a file: to the beginning, when it is to be sent again."""


class Headers:
    """The headers of a response; names are found in any case."""

    __slots__ = ("_fields",)

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = [(name.lower(), value) for name, value in fields]

    def all(self, name: str) -> list[str]:
        """Every value of ``name``, in the order in which they came."""
        return [value for key, value in self._fields if key == name.lower()]

    def get(self, name: str) -> str | None:
        """The last value of ``name``; None when it did not come."""
        return next(reversed(self.all(name)), None)


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask.

    Attributes:
        method: ``GET`` and so on.
        url: absolute, http or https.
        headers: besides those that the transport sets itself.
        body: bytes to send; None: no body.
        body_size: how many bytes of it, from its beginning on.
        patient: whether the server may be silent for long before it answers, since it has all
            of an upload to look through.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    body_size: int = 0
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """The answer.

    Attributes:
        url: what answered.
        status: the HTTP status.
        headers: of the answer.
        body: what a `Receiver` did not take, as far as the transport keeps such a thing.
    """

    url: str
    status: int
    headers: Headers
    body: bytearray = field(default_factory=bytearray)

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return self.status in _SUCCESS


class Sink(Protocol):
    """Where the body of a response goes, piece by piece."""

    def __call__(self, data: memoryview, /) -> object:
        """Take the next piece, which is valid during the call only."""


# Called once the headers of a response with a body are there: whoever shall get the body, or
# None to have it kept in the response.
Receiver = Callable[[Response], Sink | None]


class Transport(Protocol):
    """Sends one request and receives its answer, whatever the status."""

    def send(self, request: Request, receiver: Receiver | None = None) -> Response:
        """Send and wait for the whole answer.

        Raises:
            Unreachable: none came, or not all of it.
            Cancelled: this process wants to end.
        """


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: whom a credential for ``url`` may be shown to.

    Raises:
        ValueError: it is no http or https URL.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", _port(parts)


def _port(parts: SplitResult) -> int:
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"not an http or https URL: {parts.scheme}")
    return parts.port or _DEFAULT_PORTS[parts.scheme]


def shown(url: str) -> str:
    """``url`` for a message: host and path, no user, no query."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
