"""A proxy before a registry that breaks what it is told to break, and remembers what was asked."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.registry.server import Heard, QuietHandler, Registry, hear, serving

_PIECE = 64 * 1024
# What belongs to one connection, and what the proxy states itself.
_OWN = frozenset({"connection", "transfer-encoding", "content-length", "host"})


class Answer(NamedTuple):
    """What the registry says, before it is passed on."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Break = Callable[["Connection", Answer], None]


class Connection(QuietHandler):
    """One client's connection, on which an answer can go wrong."""

    def head(self, answer: Answer, length: int) -> None:
        """Send status and headers, and announce ``length`` bytes."""
        self.send_response(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def whole(self, answer: Answer) -> None:
        """Send all of it."""
        length = len(answer.body)
        if self.command == "HEAD":
            length = int(dict(answer.headers).get("Content-Length", 0))
        self.head(answer, length)
        self.wfile.write(answer.body)

    def reset(self) -> None:
        """End the connection as a crash would, with a TCP reset."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True


def cut(after: int, *, reset: bool = False) -> Break:
    """Announce everything, send ``after`` bytes, end the connection."""

    def do(connection: Connection, answer: Answer) -> None:
        connection.head(answer, len(answer.body))
        connection.wfile.write(answer.body[:after])
        connection.close_connection = True
        if reset:
            connection.reset()

    return do


def stall(after: int, until: threading.Event) -> Break:
    """Announce everything, send ``after`` bytes, then nothing until the event."""

    def do(connection: Connection, answer: Answer) -> None:
        connection.head(answer, len(answer.body))
        connection.wfile.write(answer.body[:after])
        connection.wfile.flush()
        until.wait(30)
        connection.close_connection = True

    return do


def corrupt(at: int) -> Break:
    """Change one byte."""

    def do(connection: Connection, answer: Answer) -> None:
        body = bytearray(answer.body)
        body[at] ^= 1
        connection.whole(answer._replace(body=bytes(body)))

    return do


def short(length: int) -> Break:
    """Send a body that is whole, says so, and is too short."""
    return lambda connection, answer: connection.whole(answer._replace(body=answer.body[:length]))


def refuse(status: int, body: bytes = b"", **headers: str) -> Break:
    """Answer something else."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda connection, _: connection.whole(Answer(status, fields, body))


def relabel(**headers: str) -> Break:
    """Answer with other headers."""
    fields = {name.replace("_", "-").lower(): value for name, value in headers.items()}

    def do(connection: Connection, answer: Answer) -> None:
        kept = [pair for pair in answer.headers if pair[0].lower() not in fields]
        connection.whole(answer._replace(headers=[*kept, *fields.items()]))

    return do


class Proxy:
    """A registry behind faults.

    Attributes:
        host: ``HOST:PORT``.
        heard: every request, in order.
        range_known: False: no Range is passed on, so that the registry sends all of it.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.heard: list[Heard] = []
        self.range_known = True
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        # Guarded by: `_lock`.  What the path must hold, and what then happens, once.
        self._faults: list[tuple[str, Break]] = []

    def fail(self, path: str, *faults: Break) -> None:
        """Break the next GETs, and other requests, whose path holds ``path``, each in one way."""
        with self._lock:
            self._faults += [(path, fault) for fault in faults]

    def take(self, path: str) -> Break | None:
        """The fault that is due for a request."""
        with self._lock:
            for index, (part, fault) in enumerate(self._faults):
                if part in path:
                    del self._faults[index]
                    return fault
        return None

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have come."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.heard) >= count, timeout=20)

    def hear(self, request: Heard) -> None:
        """Remember a request."""
        with self._came:
            self.heard.append(request)
            self._came.notify_all()

    def gets(self, part: str) -> list[Heard]:
        """The GETs whose path holds ``part``."""
        return [each for each in self.heard if each.method == "GET" and part in each.path]


@contextmanager
def before(registry: Registry) -> Iterator[Proxy]:
    """A proxy before a registry, for the time of the block."""
    upstream = urlsplit(registry.url).netloc
    proxy = Proxy("")

    class Handler(Connection):
        def pass_on(self) -> None:
            request = hear(self)
            proxy.hear(request)
            headers = {k: v for k, v in request.headers.items() if k not in _OWN - {"host"}}
            # The registry builds its Locations from the host that it was asked by.
            headers["host"] = proxy.host
            if not proxy.range_known:
                headers.pop("range", None)
            link = http.client.HTTPConnection(upstream, timeout=20)
            link.request(request.method, request.path, request.body or None, headers)
            found = link.getresponse()
            try:
                body = found.read()
            except http.client.IncompleteRead as error:  # docker-registry's 416
                body = error.partial
            link.close()
            fault = proxy.take(request.path) if request.method != "HEAD" else None
            answer = Answer(found.status, found.getheaders(), body)
            try:
                (fault or Connection.whole)(self, answer)
            except OSError:
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = pass_on  # noqa: N815 - http.server looks for these

    with serving(Handler) as url:
        proxy.host = urlsplit(url).netloc
        yield proxy
