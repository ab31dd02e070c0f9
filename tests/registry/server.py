"""A real registry on loopback: docker-registry in each of the modes that a client meets.

Besides the registry itself a mode may need a token server or a second host that holds the blobs;
these are threads of the test.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

LOOPBACK = "127.0.0.1"
USER, PASSWORD = "alice", "s3cret-of-alice"
IDENTITY_TOKEN = "refresh-s3cret-of-alice"  # noqa: S105 - opens nothing but these tests
_ATTEMPTS = 5
_START_SECONDS = 10


class Registry(NamedTuple):
    """A running registry.

    Attributes:
        host: ``HOST:PORT``.
        url: with its scheme.
        data: the folder of its storage.
        ca: the certificate to trust, when it has TLS.
        tokens: the requests that its token server got.
        fetched: the requests that its second host got.
        pid: of the process.
    """

    host: str
    url: str
    data: Path
    ca: Path | None
    tokens: list[Heard]
    fetched: list[Heard]
    pid: int

    def blob(self, digest: str) -> Path:
        """The file of a blob in the registry's storage."""
        algorithm, encoded = digest.split(":")
        folder = self.data / "docker/registry/v2/blobs" / algorithm / encoded[:2] / encoded
        return folder / "data"

    def send(
        self, method: str, path: str, data: bytes | None = None, **headers: str
    ) -> tuple[int, Any, bytes]:
        """One request by other means than ours, with the user's credentials; any status."""
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        fields = {key.replace("_", "-"): value for key, value in headers.items()}
        fields.setdefault("Authorization", f"Basic {pair}")
        url = path if "://" in path else self.url + path
        request = urllib.request.Request(url, data, fields, method=method)  # noqa: S310
        trust = ssl.create_default_context(cafile=self.ca) if self.ca else None
        try:
            with urllib.request.urlopen(request, timeout=20, context=trust) as answer:  # noqa: S310
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, b""


class Heard(NamedTuple):
    """A request as a server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@contextmanager
def running(
    folder: Path,
    *,
    auth: str = "none",
    tls: bool = False,
    redirect: bool = False,
    token_seconds: int = 300,
) -> Iterator[Registry]:
    """A registry for the time of the block.

    Args:
        folder: for its files.
        auth: ``none``, ``basic`` or ``token``.
        tls: whether it speaks https.
        redirect: whether it sends those who want a blob to another host.
        token_seconds: how long its tokens are said to be good for.
    """
    for program in ("docker-registry", "openssl", "htpasswd"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    data = folder / "data"
    data.mkdir()
    tokens: list[Heard] = []
    fetched: list[Heard] = []
    ca = _certificate(folder, "tls")[1] if tls else None
    config = _configuration(folder, data, tls=tls)
    with _token_server(folder, tokens, token_seconds) as realm, _files(data, fetched) as files:
        if auth == "basic":
            config["auth"] = {"htpasswd": {"realm": "test", "path": _passwords(folder)}}
        if auth == "token":
            certificate = _certificate(folder, "token")[1]
            config["auth"] = {"token": {"realm": realm, "service": "test-service",
                              "issuer": "test", "rootcertbundle": str(certificate)}}  # fmt: skip
        if redirect:
            redirecting = {"name": "redirect", "options": {"baseurl": files}}
            config["middleware"] = {"storage": [redirecting]}
        with _process(folder, config) as (port, pid):
            host = f"{LOOPBACK}:{port}"
            url = f"{'https' if tls else 'http'}://{host}"
            yield Registry(host, url, data, ca, tokens, fetched, pid)


def _configuration(folder: Path, data: Path, *, tls: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
        "http": {"addr": "", "secret": "of this test"},
    }
    if tls:
        key, certificate = _certificate(folder, "tls")
        config["http"]["tls"] = {"key": str(key), "certificate": str(certificate)}
    return config


@contextmanager
def _process(folder: Path, config: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """docker-registry with ``config``, on a port that is free: its port and process id."""
    for _ in range(_ATTEMPTS):
        port = free_port()
        config["http"]["addr"] = f"{LOOPBACK}:{port}"
        path = folder / "config.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                ["docker-registry", "serve", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            if _answers(process, port):
                yield port, process.pid
                return
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    pytest.fail((folder / "log").read_text(), pytrace=False)


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it listens in the end; False: it has ended, for instance since the port was taken."""
    end = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with closing(socket.socket()) as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return True
        time.sleep(0.01)
    return False


def free_port() -> int:
    """A port that nobody listens on just now."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class _Server(ThreadingHTTPServer):
    """A server all of whose connections and threads end with it."""

    daemon_threads = False  # so that server_close waits for them

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__((LOOPBACK, 0), handler)
        self._lock = threading.Lock()
        # Guarded by: `_lock`.
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a connection."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def end(self) -> None:
        """End the connections that clients keep open, and wait for all threads."""
        self.shutdown()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTP server in a thread: its URL."""
    server = _Server(handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.end()
        thread.join()


def hear(handler: BaseHTTPRequestHandler) -> Heard:
    """The request that ``handler`` is about, its body read."""
    length = int(handler.headers.get("Content-Length") or 0)
    headers = {name.lower(): value for name, value in handler.headers.items()}
    return Heard(handler.command, handler.path, headers, handler.rfile.read(length))


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Answer with a whole body."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


class QuietHandler(BaseHTTPRequestHandler):
    """HTTP/1.1 without a log."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def _token_server(folder: Path, heard: list[Heard], seconds: int) -> Iterator[str]:
    """A token server as spec/auth/token.md and oauth.md describe it: the URL of its realm."""
    wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Tokens(QuietHandler):
        def do_GET(self) -> None:
            request = hear(self)
            heard.append(request)
            if request.headers.get("authorization") != wanted:
                answer(self, 401, b"{}")
                return
            self._grant(parse_qs(urlsplit(self.path).query).get("scope", []))

        def do_POST(self) -> None:
            request = hear(self)
            heard.append(request)
            form = parse_qs(request.body.decode())
            if form.get("refresh_token") != [IDENTITY_TOKEN]:
                answer(self, 401, b"{}")
                return
            self._grant(form.get("scope", []))

        def _grant(self, scopes: list[str]) -> None:
            token = _signed(folder, [scope for each in scopes for scope in each.split()], seconds)
            document = {"access_token": token, "expires_in": seconds}
            answer(self, 200, json.dumps(document).encode(), Content_Type="application/json")

    with serving(Tokens) as url:
        yield f"{url}/token"


def _signed(folder: Path, scopes: list[str], seconds: int) -> str:
    """A JSON Web Token that grants ``scopes``."""
    key, certificate = _certificate(folder, "token")
    lines = certificate.read_text().splitlines()
    chain = ["".join(line for line in lines if not line.startswith("-----"))]
    now = int(time.time())
    access = [
        {"type": kind, "name": name, "actions": actions.split(",")}
        for kind, name, actions in (scope.split(":") for scope in scopes)
    ]
    claims = {"iss": "test", "sub": USER, "aud": "test-service", "exp": now + seconds, "iat": now,
              "nbf": now - 60, "jti": os.urandom(8).hex(), "access": access}  # fmt: skip
    header = {"typ": "JWT", "alg": "RS256", "x5c": chain}
    body = f"{_base64url(json.dumps(header).encode())}.{_base64url(json.dumps(claims).encode())}"
    sign = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    signature = subprocess.run(sign, input=body.encode(), capture_output=True, check=True).stdout
    return f"{body}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def _files(folder: Path, heard: list[Heard]) -> Iterator[str]:
    """Another host that has the blobs' files, and knows no Range."""

    class Files(QuietHandler, SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            heard.append(hear(self))
            super().do_GET()

    with serving(Files) as url:
        yield url


def _passwords(folder: Path) -> str:
    made = subprocess.run(
        ["htpasswd", "-nbB", "-C", "4", USER, PASSWORD], capture_output=True, check=True
    )
    path = folder / "htpasswd"
    path.write_bytes(made.stdout)
    return str(path)


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A key and its certificate, for this host; made once."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    if not certificate.exists():
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=IP:{LOOPBACK}"]
        command += ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, capture_output=True, check=True)
    return key, certificate
