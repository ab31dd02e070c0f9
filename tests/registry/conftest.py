"""What the tests of the registry commands share."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dist.command import DIST, Dist
from tests.registry.faults import Proxy, before
from tests.registry.samples import Image, make_image
from tests.registry.server import Registry, running

_ELSEWHERE = (
    "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "DIST_MIRROR", "http_proxy",
    "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


@pytest.fixture
def dist(tmp_path: Path) -> Dist:
    """The command on a store of its own, for a user without credentials."""
    dist = Dist(tmp_path)
    for name in _ELSEWHERE:
        dist.env.pop(name, None)
    home = tmp_path / "home"
    home.mkdir()
    dist.env |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
    return dist


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that lets everybody in; each test has repositories of its own."""
    with running(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """The name of this test's own repository."""
    name = f"{request.node.path.stem} {request.node.name}".lower()
    letters = [c if c.isalnum() else "-" for c in name]
    return f"tests/{''.join(letters).strip('-').replace('--', '-')}"[:120].rstrip("-")


@pytest.fixture
def image(registry: Registry, repository: str) -> Image:
    """A small image that is in the registry as ``latest``."""
    image = make_image(repository)
    image.push(registry, repository, "latest")
    return image


@pytest.fixture
def proxy(registry: Registry, events: threading.Event) -> Iterator[Proxy]:
    """The registry behind faults."""
    with before(registry) as proxy:
        yield proxy
        events.set()


@pytest.fixture
def events(dist: Dist) -> Iterator[threading.Event]:
    """An event that is set at the end of the test, so that nobody waits on."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def start(dist: Dist) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start the command without waiting for it; what is left of it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [DIST, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dist.env,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()
