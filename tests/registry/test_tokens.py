"""Token servers that are odd, apart from any registry."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from store.dist.registry.auth import Authorizer
from store.dist.registry.credentials import Credential
from store.dist.registry.errors import Denied, Unsound
from store.dist.registry.messages import Headers, Request, Response

URL = "https://h.x/v2/a/blobs/1"
PULL = ("repository:a:pull",)


def refusal(challenge: str) -> Response:
    """A 401 of the registry's."""
    return Response(URL, 401, Headers([("WWW-Authenticate", challenge)]))


class TokenServer:
    """Says the same to everybody.

    Attributes:
        asked: what it was asked, as the fields of the query.
    """

    def __init__(self, body: bytes) -> None:
        self._body = bytearray(body)
        self.asked: list[dict[str, list[str]]] = []

    def __call__(self, request: Request) -> Response:
        """Remember the question, and answer."""
        self.asked.append(parse_qs(urlsplit(request.url).query))
        return Response(request.url, 200, Headers([]), self._body)


def authorizer(server: TokenServer, *, insecure: bool = False) -> Authorizer:
    """For a registry with TLS, and a user with a password."""
    return Authorizer("https://h.x", lambda: Credential("u", "p"), server, insecure=insecure)


def test_a_token_and_where_it_goes() -> None:
    """The token is for the registry's own host, for what it was asked for, while it lasts."""
    server = TokenServer(b'{"token": "t"}')
    auth = authorizer(server)

    assert auth.answer(refusal('Bearer realm="https://t.x/?a=b"'), PULL, None) == "Bearer t"

    assert server.asked == [{"a": ["b"], "account": ["u"], "scope": [*PULL]}]
    assert auth.header(URL, PULL) == "Bearer t"
    for url in ("https://h.x:444/", "http://h.x/", "https://cdn.h.x/"):
        assert auth.header(url, PULL) is None
    assert auth.header(URL, ("repository:a:pull,push",)) is None


def test_the_registrys_own_scope_counts() -> None:
    """What the challenge asks for is asked for, with what only we know of."""
    server = TokenServer(b'{"access_token": "t", "expires_in": 3}')
    auth = authorizer(server)
    scopes = (*PULL, "repository:b:pull")
    challenge = 'Bearer realm="https://t.x",service="s",scope="repository:x/a:pull"'

    auth.answer(refusal(challenge), scopes, None)

    assert server.asked[0]["scope"] == ["repository:x/a:pull", "repository:b:pull"]
    assert auth.header(URL, scopes) is None  # it is over before it could be used


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\r\\nX: y"}',
     b'{"token": "t", "expires_in": "soon"}', b'{"token": "t", "expires_in": [1]}'],
)  # fmt: skip
def test_answers_without_sense(body: bytes) -> None:
    """What is no token never goes into a header."""
    with pytest.raises(Unsound):
        authorizer(TokenServer(body)).answer(refusal('Bearer realm="https://t.x"'), PULL, None)


@pytest.mark.parametrize("challenge", ["", "Negotiate", 'NTLM a=="', "Digest realm=x"])
def test_no_way_in(challenge: str) -> None:
    """A registry that wants what is not known here is not asked again."""
    with pytest.raises(Denied, match="no way in"):
        authorizer(TokenServer(b"")).answer(refusal(challenge), PULL, None)


def test_a_token_server_without_tls() -> None:
    """A password is not sent in the clear because a registry says so, unless the user allows it."""
    server = TokenServer(b'{"token": "t"}')
    challenge = refusal('Bearer realm="http://t.x"')

    with pytest.raises(Unsound, match="without TLS"):
        authorizer(server).answer(challenge, PULL, None)
    assert server.asked == []
    authorizer(server, insecure=True).answer(challenge, PULL, None)
    with pytest.raises(Unsound, match="no token server"):
        authorizer(server).answer(refusal('Bearer realm="file:///etc/passwd"'), PULL, None)


def test_threads_that_come_late_share_the_token() -> None:
    """Who was refused with the old token gets the new one that another has fetched meanwhile."""
    server = TokenServer(b'{"token": "new"}')
    auth = authorizer(server)
    challenge = refusal('Bearer realm="https://t.x"')

    for _ in range(3):
        assert auth.answer(challenge, PULL, "Bearer old") == "Bearer new"

    assert len(server.asked) == 1
