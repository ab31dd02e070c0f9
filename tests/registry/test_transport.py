"""What the HTTP client is there for: HTTP/2, proxies, kept connections, and no header too many."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from store.dist.registry.errors import Cancelled, Unreachable, Unsound
from store.dist.registry.messages import Request, Response, Sink, origin, shown
from store.dist.registry.options import Options
from store.dist.registry.transport import Curl
from tests.dist.command import Dist
from tests.registry.samples import make_image
from tests.registry.server import Heard, QuietHandler, answer, hear, running, serving


@pytest.fixture
def curl() -> Iterator[Curl]:
    """A client."""
    with closing(Curl(Options(), threading.Event())) as curl:
        yield curl


def test_http_2(dist: Dist, tmp_path: Path) -> None:
    """With TLS all of a pull goes over HTTP/2."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with running(folder, tls=True) as registry:
        image = make_image("http 2")
        image.push(registry, "a", "v1")
        log = folder / "log"
        before = log.read_text()
        dist("pull", "--ca-file", str(registry.ca), f"{registry.host}/a:v1")
        lines = [each for each in log.read_text()[len(before) :].splitlines() if "/v2/a/" in each]

    assert lines
    assert all("HTTP/2.0" in line for line in lines)


def test_proxies(dist: Dist) -> None:
    """A registry elsewhere is asked by way of $http_proxy; one on loopback never is."""
    heard: list[Heard] = []

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - http.server looks for it
            heard.append(hear(self))
            answer(self, 200, b"{}")

    with serving(Handler) as url:
        dist.env["http_proxy"] = url
        words = ["--plain-http", "--retries", "0"]
        assert dist.out("fetch", *words, "registry.example/a", "v1") == "{}"
        dist.error("fetch", *words, "127.0.0.1:1/a", "v1")
        dist.env["no_proxy"] = "registry.invalid"
        dist.error("fetch", *words, "registry.invalid/a", "v1")

    assert [each.path for each in heard] == ["http://registry.example/v2/a/manifests/v1"]


def test_one_connection_for_many_requests(curl: Curl) -> None:
    """A thread's requests to one host share a connection."""
    ports = set()

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - http.server looks for it
            ports.add(self.client_address[1])
            answer(self, 200, b"x")

    with serving(Handler) as url:
        for _ in range(3):
            assert curl.send(Request("GET", url)).body == b"x"

    assert len(ports) == 1


def test_what_is_sent(curl: Curl) -> None:
    """A request carries its own headers and body, no cookie, no netrc and no Expect."""
    heard: list[Heard] = []

    class Handler(QuietHandler):
        def do_PUT(self) -> None:  # noqa: N802 - http.server looks for it
            heard.append(hear(self))
            answer(self, 201, b"", Set_Cookie="a=b")

    with serving(Handler) as url:
        body = b"x" * 3_000_000
        for _ in range(2):
            curl.send(Request("PUT", url, {"X-Own": "1"}, BytesIO(body), len(body)))

    for request in heard:
        assert request.body == body
        assert request.headers.keys() == {
            "host", "user-agent", "accept", "accept-encoding", "x-own", "content-length",
        }  # fmt: skip


def test_a_failing_sink_ends_the_transfer(curl: Curl) -> None:
    """What the taker of the bytes raises comes out of the request, as itself."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - http.server looks for it
            answer(self, 200, b"x" * 100_000)

    def sink(data: memoryview) -> None:
        raise OSError(28, "No space left on device")

    def receiver(response: Response) -> Sink:
        assert response.status == 200
        return sink

    with serving(Handler) as url:
        with pytest.raises(OSError, match="No space left"):
            curl.send(Request("GET", url), receiver)
        assert len(curl.send(Request("GET", url)).body) == 100_000


def test_an_endless_answer(curl: Curl) -> None:
    """An answer that is kept in memory is not kept without limit."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - http.server looks for it
            answer(self, 200, bytes(5 << 20))

    with serving(Handler) as url, pytest.raises(Unsound, match="longer than"):
        curl.send(Request("GET", url))


def test_cancelled(events: threading.Event) -> None:
    """A transfer ends soon after the event is set, and says that this is why."""
    cancel = threading.Event()

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - http.server looks for it
            cancel.set()
            events.wait(20)

    with serving(Handler) as url:
        with closing(Curl(Options(), cancel)) as curl, pytest.raises(Cancelled):
            curl.send(Request("GET", url))
        events.set()


def test_silence(events: threading.Event) -> None:
    """A server that takes a request and says nothing is given up."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - http.server looks for it
            events.wait(20)

    with serving(Handler) as url:
        curl = Curl(Options(timeout=1), threading.Event())
        with closing(curl), pytest.raises(Unreachable, match="silent") as caught:
            curl.send(Request("GET", url))
        events.set()
    assert caught.value.transient


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h.x/a", ("https", "h.x", 443)),
        ("http://H.x:5000/a", ("http", "h.x", 5000)),
        ("http://user:pw@h.x", ("http", "h.x", 80)),
    ],
)
def test_origins(url: str, expected: tuple[str, str, int]) -> None:
    """Scheme, host and port say who a credential is for."""
    assert origin(url) == expected


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h.x/", "//h.x/a", "http:///a", ""])
def test_no_origins(url: str) -> None:
    """What is no address of a web server is refused."""
    with pytest.raises(ValueError, match="not an http"):
        origin(url)


def test_shown_urls() -> None:
    """Of a URL host and path are shown, no user and no query."""
    assert shown("https://user:pw@h.x:1/a/b?sig=x") == "h.x:1/a/b"
