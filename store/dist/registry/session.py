"""Requests to one registry, with everything around a request: credentials, redirects, refusals."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin

from store.dist.registry.auth import Authorizer
from store.dist.registry.credentials import Credential
from store.dist.registry.errors import Absent, Denied, Refused, RegistryError, Unreachable, Unsound
from store.dist.registry.messages import Receiver, Request, Response, Sink, Transport, origin, shown
from store.dist.registry.options import Options
from store.dist.registry.reference import is_loopback
from store.dist.registry.retry import Notify, Patience, retry_after

__all__ = ["Session"]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 10
_DETAIL_LENGTH: Final = 300


class Session:
    """Speaks to one registry about one repository.  Safe for many threads.

    Attributes:
        url: where its API begins, as ``https://HOST``.
    """

    def __init__(  # noqa: PLR0913 - it is where everything around a request meets
        self,
        domain: str,
        options: Options,
        transport: Transport,
        credential: Callable[[], Credential | None],
        *,
        cancel: threading.Event,
        notify: Notify,
    ) -> None:
        """Begin; nothing is sent yet.

        Args:
            domain: ``HOST[:PORT]`` of the registry.
            options: how to speak to it.
            transport: carries the requests.
            credential: looks up what the user has for it.
            cancel: when set, pauses end at once.
            notify: told of each pause.
        """
        self.url = f"{_scheme(domain, options)}://{domain}"
        self._options = options
        self._transport = transport
        self._cancel = cancel
        self._notify = notify
        # Set by any thread, and never taken back.
        self._answered = False
        self._authorizer = Authorizer(
            self.url, credential, self._ask_token_server, insecure=options.insecure
        )

    def patience(self) -> Patience:
        """Patience for one piece of work."""
        return Patience(self._options.retries, self._cancel, self._notify)

    def send(self, request: Request, scopes: Sequence[str]) -> Response:
        """Send until it succeeds; for a request that may be made twice.

        Raises:
            RegistryError: it did not, and will not.
        """
        patience = self.patience()
        while True:
            try:
                return self.attempt(request, scopes)
            except RegistryError as error:
                patience.pause(error)

    def attempt(
        self,
        request: Request,
        scopes: Sequence[str],
        receiver: Receiver | None = None,
        *,
        good: frozenset[int] = frozenset(),
    ) -> Response:
        """Send once, that is: with credentials when they are asked for, and along redirects.

        Args:
            request: what to ask; its body is sent from its beginning each time.
            scopes: what is to be done, as ``repository:NAME:pull``.
            receiver: given the response if its status is a success.
            good: statuses besides those of success that are no error.

        Raises:
            RegistryError: it did not succeed.
        """

        def only_success(response: Response) -> Sink | None:
            return receiver(response) if receiver is not None and response.ok else None

        answer = self._with_credentials(request, scopes, only_success)
        for _ in range(_MOST_REDIRECTS):
            location = answer.headers.get("Location")
            redirected = answer.status in _REDIRECTS and location is not None
            if not redirected or request.method not in {"GET", "HEAD"}:
                break
            request = replace(request, url=self._target(answer, str(location)))
            answer = self._with_credentials(request, scopes, only_success)
        if answer.ok or answer.status in good:
            return answer
        raise _refusal(answer)

    def _with_credentials(
        self, request: Request, scopes: Sequence[str], receiver: Receiver
    ) -> Response:
        header = self._authorizer.header(request.url, scopes)
        answer = self._carry(_authorized(request, header), receiver)
        if answer.status != HTTPStatus.UNAUTHORIZED or origin(request.url) != origin(self.url):
            return answer
        header = self._authorizer.answer(answer, scopes, header)
        return self._carry(_authorized(request, header), receiver)

    def _carry(self, request: Request, receiver: Receiver) -> Response:
        try:
            answer = self._transport.send(request, receiver)
        except Unreachable as error:
            if self._answered and not error.connected:
                # It is being restarted, perhaps, and worth a pause.
                raise Unreachable(error.host, error.reason, transient=error.transient) from None
            raise
        self._answered = True
        return answer

    def _target(self, answer: Response, location: str) -> str:
        """Where a redirect leads, which may be relative.

        Raises:
            Unsound: nowhere that may be gone to.
        """
        target = urljoin(answer.url, location)
        try:
            scheme, host, _ = origin(target)
        except ValueError:
            raise Unsound(shown(answer.url), "it redirects to what is no http URL") from None
        if scheme == "http" and answer.url.startswith("https:") and not self._options.insecure:
            raise Unsound(shown(answer.url), f"it redirects away from TLS, to {host}")
        return target

    def _ask_token_server(self, request: Request) -> Response:
        patience = self.patience()
        while True:
            try:
                answer = self._transport.send(request)
                if answer.ok:
                    return answer
                raise _refusal(answer)
            except RegistryError as error:
                patience.pause(error)


def _scheme(domain: str, options: Options) -> str:
    with_tls = options.ca_file is not None or options.insecure
    plain = options.plain_http or (is_loopback(domain) and not with_tls)
    return "http" if plain else "https"


def _authorized(request: Request, header: str | None) -> Request:
    if request.body is not None:
        request.body.seek(0)
    if header is None:
        return request
    return replace(request, headers={**request.headers, "Authorization": header})


def _refusal(answer: Response) -> Refused:
    where = shown(answer.url)
    detail = _detail(answer)
    if answer.status == HTTPStatus.BAD_REQUEST and answer.url.startswith("http:"):
        # What Go's servers say to plain http on a port with TLS; after a HEAD they say nothing.
        detail = detail or "perhaps it wants TLS: give --ca-file or --insecure"
    if answer.status == HTTPStatus.NOT_FOUND:
        return Absent(where, answer.status, detail)
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Denied(where, answer.status, detail)
    return Refused(where, answer.status, detail, retry_after(answer.headers.get("Retry-After")))


def _detail(answer: Response) -> str:
    """What the body of a refusal says, which is JSON by the specification and text elsewhere."""
    text = answer.body[: 4 * _DETAIL_LENGTH].decode(errors="replace")
    try:
        errors = json.loads(bytes(answer.body))["errors"]
        text = "; ".join(f"{e.get('code')}: {e.get('message')}" for e in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        if "<" in text:  # a page for people
            return ""
    return " ".join(text.split())[:_DETAIL_LENGTH]
