"""The one module that knows the HTTP client: requests by libcurl, through pycurl.

libcurl is given as little to decide as possible.  It follows no redirect, knows no credential but
those in the headers that it is handed (no netrc, no cookies), and unpacks nothing.  It does
HTTP/2 where TLS negotiates it, proxies by ``$https_proxy``, ``$http_proxy``, ``$all_proxy`` and
``$no_proxy``, and keeps connections open: each thread has a handle, and so its connections, of
its own.
"""

from __future__ import annotations

import threading
import time
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import pycurl

from store.dist.registry.errors import Cancelled, Unreachable, Unsound
from store.dist.registry.messages import Headers, Receiver, Request, Response, Sink, shown
from store.dist.registry.options import Options
from store.dist.registry.reference import is_loopback
from store.dist.registry.trust import trusted_folder, trusted_pem

__all__ = ["Curl"]

_CONNECT_SECONDS: Final = 30
# libcurl hands over 16 KiB at most, but reads from the socket in pieces of this: measured with
# 200 MiB over loopback, 2 MiB is three times as fast as 128 KiB, and nothing beyond it gains.
_BUFFER: Final = 2 * 1024 * 1024
_KEPT: Final = 4 * 1024 * 1024
# Bytes of an upload are looked through before the answer begins, at 100 MB/s or less.
_PATIENCE: Final = 10

_FINAL: Final = frozenset({  # those that time does not heal
    pycurl.E_URL_MALFORMAT,
    pycurl.E_UNSUPPORTED_PROTOCOL,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CACERT_BADFILE,
})  # fmt: skip
_NOT_CONNECTED: Final = frozenset({
    pycurl.E_COULDNT_RESOLVE_HOST,
    pycurl.E_COULDNT_RESOLVE_PROXY,
    pycurl.E_COULDNT_CONNECT,
    pycurl.E_SSL_CONNECT_ERROR,
})  # fmt: skip


class Curl:
    """A `Transport` by libcurl, for many threads at once.

    Call it from other threads than the main one, if ^C shall end a transfer: libcurl does not
    give a signal's exception a way out of its callbacks.
    """

    def __init__(self, options: Options, cancel: threading.Event) -> None:
        """Begin without a connection.

        Args:
            options: of which ``ca_file``, ``insecure`` and ``timeout`` count here.
            cancel: when set, every transfer ends within a second.
        """
        self._options = options
        self._cancel = cancel
        self._local = threading.local()
        self._trust_lock = threading.Lock()
        # Guarded by: `_trust_lock`.
        self._trust: tuple[bytes, str | None] | None = None
        # Appended to by each thread, which is atomic.
        self._handles: list[pycurl.Curl] = []

    def close(self) -> None:
        """End all connections; no thread may be sending."""
        while self._handles:
            self._handles.pop().close()

    def send(self, request: Request, receiver: Receiver | None = None) -> Response:
        """See `Transport.send`.

        Raises:
            Unreachable: no answer came, or not all of it.
            Cancelled: this process wants to end.
            Unsound: an answer that nobody takes is far too long.
        """
        handle = self._handle()
        silence = self._options.timeout * (_PATIENCE if request.patient else 1)
        exchange = _Exchange(request, receiver, self._cancel, silence)
        handle.reset()
        self._set_up(handle, request)
        exchange.attach(handle)
        try:
            handle.perform()
        except pycurl.error as error:
            exchange.reraise()
            if not exchange.refused:
                raise _unreachable(request.url, error) from None
        finally:
            # What the callbacks hold must not live on until this thread's next request.
            handle.reset()
        return exchange.response()

    def _handle(self) -> pycurl.Curl:
        handle: pycurl.Curl | None = getattr(self._local, "handle", None)
        if handle is None:
            handle = self._local.handle = pycurl.Curl()
            self._handles.append(handle)
        return handle

    def _set_up(self, handle: pycurl.Curl, request: Request) -> None:
        handle.setopt(pycurl.URL, request.url)
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        handle.setopt(pycurl.BUFFERSIZE, _BUFFER)
        handle.setopt(pycurl.CONNECTTIMEOUT, _CONNECT_SECONDS)
        if is_loopback(urlsplit(request.url).netloc):
            handle.setopt(pycurl.PROXY, "")
        fields = {
            "User-Agent": "contentfs",
            # A body that is packed on the way hashes to something else.
            "Accept-Encoding": "identity",
            "Accept": "*/*",
            # Nobody between here and a registry needs to be asked before a body is sent.
            "Expect": "",
            **request.headers,
        }
        handle.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in fields.items()])
        if request.method == "HEAD":
            handle.setopt(pycurl.NOBODY, 1)
        elif request.method != "GET":
            handle.setopt(pycurl.UPLOAD, 1)
            handle.setopt(pycurl.CUSTOMREQUEST, request.method)
            handle.setopt(pycurl.INFILESIZE_LARGE, request.body_size)
        if request.url.startswith("https:"):
            self._set_trust(handle)

    def _set_trust(self, handle: pycurl.Curl) -> None:
        if self._options.insecure:
            handle.setopt(pycurl.SSL_VERIFYPEER, 0)
            handle.setopt(pycurl.SSL_VERIFYHOST, 0)
            return
        with self._trust_lock:
            if self._trust is None:
                self._trust = trusted_pem(self._options.ca_file), trusted_folder()
            pem, folder = self._trust
        if pem:
            handle.setopt(pycurl.CAINFO_BLOB, pem)
        if folder is not None:
            handle.setopt(pycurl.CAPATH, folder)


class _Exchange:
    """The callbacks of one request.

    What one of them raises is kept, libcurl is told to end, and the exception goes on from there.
    """

    def __init__(
        self,
        request: Request,
        receiver: Receiver | None,
        cancel: threading.Event,
        silence: float,
    ) -> None:
        self._request = request
        self._receiver = receiver
        self._cancel = cancel
        self._silence = silence
        self._moved = 0
        self._since = time.monotonic()
        self._status = 0
        self._fields: list[tuple[str, str]] = []
        self._response: Response | None = None
        self._sink: Sink | None = None
        self._failure: BaseException | None = None

    def attach(self, handle: pycurl.Curl) -> None:
        handle.setopt(pycurl.HEADERFUNCTION, self._header)
        handle.setopt(pycurl.WRITEFUNCTION, self._write)
        handle.setopt(pycurl.NOPROGRESS, 0)
        handle.setopt(pycurl.XFERINFOFUNCTION, self._beat)
        handle.setopt(pycurl.READFUNCTION, self._read)
        handle.setopt(pycurl.SEEKFUNCTION, self._seek)

    @property
    def refused(self) -> bool:
        """Whether the headers alone say enough.

        docker-registry announces the length of the blob with a 416 and sends 33 bytes, which
        libcurl takes for a body that was cut.
        """
        return self._status >= HTTPStatus.BAD_REQUEST

    def reraise(self) -> None:
        """Raise what ended the exchange from inside."""
        if self._failure is not None:
            raise self._failure
        if self._cancel.is_set():
            raise Cancelled

    def response(self) -> Response:
        if self._response is None:
            self._response = Response(self._request.url, self._status, Headers(self._fields))
        return self._response

    def _header(self, line: bytes) -> None:
        text = line.decode("latin-1").strip()
        if text.startswith("HTTP/"):
            # Also a proxy's answer to CONNECT and 100 Continue begin so: the last one counts.
            self._status = int(text.split()[1])
            self._fields.clear()
        elif ":" in text:
            name, _, value = text.partition(":")
            self._fields.append((name.strip(), value.strip()))

    def _write(self, data: bytes) -> int | None:
        try:
            self._take(data)
        except BaseException as error:  # noqa: BLE001 - raised again by `reraise`
            self._failure = error
            return -1
        return None

    def _take(self, data: bytes) -> None:
        if self._response is None:
            response = self.response()
            self._sink = self._receiver(response) if self._receiver is not None else None
        if self._sink is not None:
            self._sink(memoryview(data))
            return
        body = self.response().body
        body += data
        if len(body) > _KEPT:
            raise Unsound(shown(self._request.url), f"its answer is longer than {_KEPT} bytes")

    def _beat(self, _will_come: int, come: int, _will_go: int, gone: int) -> int:
        """Called once a second and more often; what is not 0 ends the exchange.

        libcurl's own watch over slow transfers takes the mean of five seconds.
        """
        now = time.monotonic()
        if come + gone != self._moved:
            self._moved, self._since = come + gone, now
        elif now - self._since > self._silence and self._failure is None:
            host = urlsplit(self._request.url).netloc.rpartition("@")[2]
            self._failure = Unreachable(host, f"silent for {now - self._since:.0f} s")
        return int(self._failure is not None or self._cancel.is_set())

    def _read(self, size: int) -> bytes | int:
        if self._request.body is None:
            return b""
        try:
            return self._request.body.read(size)
        except BaseException as error:  # noqa: BLE001 - raised again by `reraise`
            self._failure = error
            return pycurl.READFUNC_ABORT

    def _seek(self, offset: int, whence: int) -> int:
        if self._request.body is not None:
            self._request.body.seek(offset, whence)
        return pycurl.SEEKFUNC_OK


def _unreachable(url: str, error: pycurl.error) -> Unreachable:
    code, text = error.args[0], error.args[-1]
    return Unreachable(
        urlsplit(url).netloc.rpartition("@")[2],
        str(text) or f"libcurl error {code}",
        transient=code not in _FINAL,
        connected=code not in _NOT_CONNECTED,
    )
