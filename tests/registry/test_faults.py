"""Faults on the way: what is tried again, what is given up, and that nothing wrong gets in."""

from __future__ import annotations

import hashlib
import threading
import time

import pytest

from store.dist.registry.errors import Cancelled, Refused, RegistryError, Unreachable
from store.dist.registry.messages import Headers, Receiver, Request, Response
from store.dist.registry.options import Options
from store.dist.registry.retry import Patience
from store.dist.registry.session import Session
from tests.dist.command import Dist
from tests.registry.faults import Break, Proxy, corrupt, cut, refuse, relabel, short, stall
from tests.registry.samples import Image
from tests.registry.server import Registry, free_port
from tests.registry.test_pull import holds


@pytest.fixture
def name(proxy: Proxy, repository: str, image: Image) -> str:
    """The image behind the proxy."""
    return f"{proxy.host}/{repository}"


@pytest.mark.parametrize(
    "faults",
    [
        [cut(0)],
        [cut(20_000), cut(1)],
        [cut(20_000, reset=True), cut(0, reset=True)],
        [refuse(503), refuse(500, b"<html>no</html>"), cut(100)],
        [refuse(429, b"", Retry_After="0")] * 4,
    ],
    ids=["cut at once", "cut twice", "reset", "5xx then cut", "429"],
)
def test_what_passes(
    dist: Dist, proxy: Proxy, name: str, image: Image, faults: list[Break]
) -> None:
    """A fault that passes is waited out; what came before it is not fetched again."""
    layer = image.blobs[1]
    proxy.fail(layer.digest, *faults)

    done = dist("pull", name)

    holds(dist, image.everything)
    assert done.stderr.decode().count("trying again") == len(faults)
    starts = [get.headers.get("range") for get in proxy.gets(layer.digest)]
    assert len(starts) == len(faults) + 1


@pytest.mark.parametrize("part", ["manifests/latest", "config"])
def test_faults_everywhere(dist: Dist, proxy: Proxy, name: str, image: Image, part: str) -> None:
    """Manifests and configs are asked for again as layers are."""
    config = image.blobs[0].digest
    proxy.fail(config if part == "config" else part, refuse(502), cut(10))

    dist("pull", name)

    holds(dist, image.everything)


def test_progress_renews_patience(dist: Dist, proxy: Proxy, name: str, image: Image) -> None:
    """A line that breaks again and again, but brings something each time, is not given up."""
    layer = image.blobs[1]
    proxy.fail(layer.digest, *[cut(5_000)] * 5)

    dist("pull", "--retries", "1", name)

    holds(dist, image.everything)


def test_silence(
    dist: Dist, proxy: Proxy, name: str, image: Image, events: threading.Event
) -> None:
    """A connection that goes silent is given up after --timeout, and gone on with on another."""
    layer = image.blobs[1]
    proxy.fail(layer.digest, stall(20_000, events))

    done = dist("pull", "--timeout", "3s", name)

    holds(dist, image.everything)
    assert "silent for 3 s; trying again" in done.stderr.decode()
    assert [get.headers.get("range") for get in proxy.gets(layer.digest)] == [None, "bytes=20000-"]


def test_retry_after_is_obeyed(dist: Dist, proxy: Proxy, name: str, image: Image) -> None:
    """A registry that asks for two seconds gets them."""
    proxy.fail("manifests/latest", refuse(429, b"", Retry_After="2"))
    begun = time.monotonic()

    assert "trying again in 2.0 s" in dist("pull", name).stderr.decode()

    assert time.monotonic() - begun >= 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (corrupt(12_345), "digest mismatch"),
        (short(49_999), "has 49999 bytes of it, expected 50000"),
        (refuse(403), "access denied"),
        (refuse(404), "not found in the registry"),
        (refuse(204), "sends 0 bytes of 50000"),
        (refuse(301), "301"),
        (refuse(302, b"", Location="file:///etc/passwd"), "no http URL"),
        (refuse(429, b"", Retry_After="9999"), "429"),
    ],
    ids=[
        "corrupt",
        "short",
        "403",
        "404",
        "204",
        "301 to nowhere",
        "302 to a file",
        "429 for long",
    ],
)
def test_what_does_not_pass(
    dist: Dist, proxy: Proxy, name: str, image: Image, fault: Break, says: str
) -> None:
    """A layer that is not to be had fails alone, says why in one line, and never is a blob."""
    layer = image.blobs[1]
    proxy.fail(layer.digest, fault)

    complaint = dist("pull", name, code=1).stderr.decode()

    assert says in complaint.splitlines()[0]
    assert complaint.count("\n") == 2
    assert "1 missing" in complaint
    others = {blob.digest for blob in image.everything} - {layer.digest}
    assert set(dist.out("list", "-q").split()) == others
    dist("pull", name)
    holds(dist, image.everything)


def test_it_gives_up(dist: Dist, proxy: Proxy, name: str, image: Image) -> None:
    """After --retries in a row it ends, and what it was waiting for is the error."""
    proxy.fail("manifests/latest", *[refuse(503)] * 9)

    complaint = dist("pull", "--retries", "1", name, code=1).stderr.decode().splitlines()

    assert len(complaint) == 2
    assert "503" in complaint[-1]
    assert len(proxy.gets("manifests/latest")) == 2


def test_the_wrong_part(dist: Dist, proxy: Proxy, name: str, image: Image) -> None:
    """A 206 that begins elsewhere than was asked for is not taken."""
    layer = image.blobs[1]
    with dist.store.writer(layer.digest) as writer:
        writer.write(layer.data[:10_000])
    proxy.fail(layer.digest, relabel(Content_Range="bytes 0-39999/50000"))

    assert "asked for bytes from 10000 on" in dist("pull", name, code=1).stderr.decode()
    assert dist.store.status(layer.digest).offset == 10_000
    dist("pull", name)
    holds(dist, image.everything)


def test_a_blob_that_became_shorter(
    dist: Dist, registry: Registry, repository: str, image: Image
) -> None:
    """A 416, with the blob's Content-Length and 33 bytes, is understood and not waited on."""
    layer = image.blobs[1]
    with dist.store.writer(layer.digest) as writer:
        writer.write(layer.data[:40_000])
    registry.blob(layer.digest).write_bytes(layer.data[:30_000])

    complaint = dist("pull", f"{registry.host}/{repository}", code=1).stderr.decode()

    assert "the registry's copy ends at byte" in complaint
    assert complaint.count("\n") == 2


@pytest.mark.parametrize("kind", ["manifest", "layer"])
def test_corruption_on_the_registrys_disk(
    dist: Dist, registry: Registry, repository: str, image: Image, kind: str
) -> None:
    """What rotted there comes with 200 and the right header, and does not get in."""
    rotten = image.top if kind == "manifest" else image.blobs[1]
    changed = rotten.data.replace(b"amd64", b"amd46") if kind == "manifest" else rotten.data[::-1]
    if changed == rotten.data:
        changed = rotten.data.replace(b'"size":', b'"size" :')
    registry.blob(rotten.digest).write_bytes(changed)

    complaint = dist("pull", f"{registry.host}/{repository}", code=1).stderr.decode()

    assert rotten.digest in complaint
    assert rotten.digest not in dist.out("list", "-q")
    assert hashlib.sha256(changed).hexdigest() not in dist.out("list", "-q")


def test_a_misspelled_host_is_not_waited_for(dist: Dist) -> None:
    """Where nobody ever answered, nothing is tried again."""
    assert "trying again" not in dist.error("pull", f"127.0.0.1:{free_port()}/a")


def test_a_full_disk_is_no_fault_of_the_registry(
    dist: Dist, registry: Registry, repository: str, image: Image
) -> None:
    """A store that cannot be written is said at once, and no request is made again for it."""
    dist.root.write_bytes(b"")

    complaint = dist("pull", f"{registry.host}/{repository}", code=1).stderr.decode()

    assert str(dist.root) in complaint
    assert "trying again" not in complaint


# --------------------------------------------------------------------------- the pauses alone


def _patience(retries: int) -> tuple[Patience, list[str], threading.Event]:
    told: list[str] = []
    cancel = threading.Event()
    return Patience(retries, cancel, told.append), told, cancel


@pytest.mark.parametrize(
    "error",
    [
        Refused("h/x", 400),
        Refused("h/x", 503, "", 301.0),
        Unreachable("h", "not our certificate", transient=False),
        Unreachable("h", "no such host", connected=False),
    ],
    ids=["400", "asks for too long", "TLS", "never answered"],
)
def test_no_pause(error: Refused | Unreachable) -> None:
    """What time does not heal is raised at once."""
    patience, told, _ = _patience(5)

    with pytest.raises(type(error)):
        patience.pause(error)
    assert told == []


class Restarting:
    """A transport to a host that answers, is away for a moment, and answers again."""

    def __init__(self, *ends: RegistryError | None) -> None:
        self._ends = list(ends)

    def send(self, request: Request, receiver: Receiver | None = None) -> Response:
        """The next end."""
        end = self._ends.pop(0)
        if end is not None:
            raise end
        return Response(request.url, 200, Headers([]))


def test_a_host_that_answered_before_is_waited_for() -> None:
    """A registry that is restarted in the middle is worth a pause; one never met is not."""
    away = Unreachable("h", "connection refused", connected=False)
    told: list[str] = []

    def session(transport: Restarting) -> Session:
        return Session(
            "h", Options(), transport, lambda: None, cancel=threading.Event(), notify=told.append
        )

    restarted = session(Restarting(None, away, None))
    for _ in range(2):
        restarted.send(Request("GET", "https://h/v2/"), ())
    with pytest.raises(Unreachable):
        session(Restarting(away)).send(Request("GET", "https://h/v2/"), ())

    assert len(told) == 1


def test_pauses_end() -> None:
    """So many pauses in a row, and again as many after something was achieved."""
    patience, told, _ = _patience(2)
    error = Refused("h/x", 503, "", 0.0)
    for _ in range(2):
        patience.pause(error)
    with pytest.raises(Refused):
        patience.pause(error)
    patience.renew()
    patience.pause(error)

    assert len(told) == 3


def test_a_pause_is_cancelled() -> None:
    """^C does not wait for a pause of minutes."""
    patience, _, cancel = _patience(1)
    cancel.set()

    with pytest.raises(Cancelled):
        patience.pause(Refused("h/x", 503, "", 200.0))
