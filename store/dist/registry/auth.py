"""Answers to challenges: Basic credentials, and Bearer tokens from a token server.

The protocol is the distribution project's (``spec/auth/token.md`` and ``oauth.md``).  A token is
kept for its registry and purpose until it is refused or its time is over; whoever comes while
one is being fetched waits for that one.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Final
from urllib.parse import urlencode, urlsplit

from store.dist.registry.challenge import Challenge, parse_challenges
from store.dist.registry.credentials import Credential
from store.dist.registry.errors import Denied, Unsound
from store.dist.registry.messages import Request, Response, origin, shown
from store.dist.registry.reference import is_loopback

__all__ = ["Authorizer"]

# Where a token server states no time (spec/auth/token.md).
_DEFAULT_SECONDS: Final = 60
# A token that is about to end is not begun with.
_MARGIN: Final = 5

Send = Callable[[Request], Response]


class Authorizer:
    """The ``Authorization`` headers for one repository of one registry.

    Safe for many threads.
    """

    def __init__(
        self,
        url: str,
        credential: Callable[[], Credential | None],
        send: Send,
        *,
        insecure: bool,
    ) -> None:
        """Begin without any: nothing is looked up until a registry asks.

        Args:
            url: the registry's, which alone is shown what comes from here.
            credential: looks up what the user has for it.
            send: sends a request to a token server, and raises for what is no success.
            insecure: whether an https registry may name a token server without TLS.
        """
        self._origin = origin(url)
        self._credential = credential
        self._send = send
        self._insecure = insecure
        self._lock = threading.Lock()
        # Guarded by: `_lock`.  The header, and when (by the monotonic clock) it ends, by purpose.
        self._headers: dict[tuple[str, ...], tuple[str, float]] = {}

    def header(self, url: str, scopes: Sequence[str]) -> str | None:
        """What to send along to ``url``; None: nothing, or nothing yet.

        Args:
            url: of which only the registry's own are given anything.
            scopes: what is to be done, as ``repository:NAME:pull``.
        """
        if origin(url) != self._origin:
            return None
        with self._lock:
            header, end = self._headers.get(tuple(scopes), (None, 0.0))
            return header if time.monotonic() < end else None

    def answer(self, refusal: Response, scopes: Sequence[str], refused: str | None) -> str:
        """The header that meets the challenge in a 401 response.

        Args:
            refusal: that response, from the registry itself.
            scopes: as to `header`.
            refused: the header that was sent and is not good enough; None: none was.

        Raises:
            Denied: there is nothing that would be.
            Unsound: the challenge or the token server makes no sense.
            RegistryError: the token server refuses or cannot be reached.
            BadCredentials: the user's credentials cannot be read.
        """
        with self._lock:
            header, _ = self._headers.get(tuple(scopes), (None, 0.0))
            if header is not None and header != refused:
                return header
            challenges = {
                c.scheme: c for c in parse_challenges(refusal.headers.all("WWW-Authenticate"))
            }
            if "bearer" in challenges:
                header, seconds = self._token(challenges["bearer"], scopes, refusal)
            elif "basic" in challenges:
                header, seconds = self._basic(refusal, refused), float("inf")
            else:
                raise Denied(shown(refusal.url), 401, "it states no way in that is known here")
            self._headers[tuple(scopes)] = header, time.monotonic() + seconds
            return header

    def _basic(self, refusal: Response, refused: str | None) -> str:
        credential = self._credential()
        if credential is None or not credential.user:
            raise Denied(shown(refusal.url), 401, "it wants a user and password, and none is known")
        header = _basic(credential)
        if header == refused:
            raise Denied(shown(refusal.url), 401, f"user {credential.user} is refused")
        return header

    def _token(
        self, challenge: Challenge, scopes: Sequence[str], refusal: Response
    ) -> tuple[str, float]:
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm, refusal)
        service = challenge.parameters.get("service")
        # What the registry says it wants, and what it cannot know yet: another repository, to
        # mount from.
        stated = challenge.parameters.get("scope")
        wanted = [stated, *scopes[1:]] if stated else list(scopes)
        answer = self._send(self._token_request(realm, service, list(dict.fromkeys(wanted))))
        return _read_token(answer)

    def _check_realm(self, realm: str, refusal: Response) -> None:
        try:
            scheme, host, _ = origin(realm)
        except ValueError:
            raise Unsound(shown(refusal.url), "it names no token server") from None
        exposed = scheme == "http" and self._origin[0] == "https" and not is_loopback(host)
        if exposed and not self._insecure:
            reason = f"it sends credentials without TLS to {host}; --insecure allows that"
            raise Unsound(shown(refusal.url), reason)

    def _token_request(self, realm: str, service: str | None, scopes: list[str]) -> Request:
        credential = self._credential()
        fields = [("service", service)] if service else []
        if credential is not None and credential.identity_token:
            form = [
                ("grant_type", "refresh_token"),
                ("client_id", "contentfs"),
                ("refresh_token", credential.identity_token),
                *fields,
                ("scope", " ".join(scopes)),
            ]
            body = urlencode(form).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return Request("POST", realm, headers, BytesIO(body), len(body))
        headers = {} if credential is None else {"Authorization": _basic(credential)}
        account = [] if credential is None else [("account", credential.user)]
        query = urlencode([*account, *fields, *(("scope", scope) for scope in scopes)])
        return Request("GET", f"{realm}{'&' if urlsplit(realm).query else '?'}{query}", headers)


def _basic(credential: Credential) -> str:
    pair = f"{credential.user}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _read_token(answer: Response) -> tuple[str, float]:
    """The header with the token in ``answer``, and for how many seconds it may be used."""
    what = shown(answer.url)
    try:
        document = json.loads(answer.body)
        token = document.get("token") or document.get("access_token")
        seconds = float(document.get("expires_in") or _DEFAULT_SECONDS)
    except (ValueError, TypeError, AttributeError):
        raise Unsound(what, "the token server's answer makes no sense") from None
    # A line break would let the answer write headers of its own.
    if not isinstance(token, str) or not token.isprintable() or not token:
        raise Unsound(what, "the token server's answer holds no token")
    return f"Bearer {token}", max(0.0, seconds - _MARGIN)
