"""Credentials: Basic, tokens, identity tokens, TLS, redirects, and to whom they are shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.dist.command import Dist
from tests.registry.faults import Proxy, before, refuse
from tests.registry.samples import Image, make_image
from tests.registry.server import (
    IDENTITY_TOKEN,
    PASSWORD,
    USER,
    QuietHandler,
    Registry,
    answer,
    hear,
    running,
    serving,
)
from tests.registry.test_pull import holds

PAIR = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, PAIR, IDENTITY_TOKEN)

Start = Callable[..., Registry]


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a registry in some mode, for the time of the test."""
    with ExitStack() as stack:

        def start(**mode: Any) -> Registry:
            return stack.enter_context(running(tmp_path_factory.mktemp("mode"), **mode))

        yield start


def log_in(dist: Dist, host: str, entry: dict[str, str] | None = None) -> None:
    """Have credentials for ``host`` where docker login leaves them."""
    path = Path(dist.env["HOME"]) / ".docker/config.json"
    path.parent.mkdir(exist_ok=True)
    entries = json.loads(path.read_text())["auths"] if path.exists() else {}
    path.write_text(json.dumps({"auths": {**entries, host: entry or {"auth": PAIR}}}))


def store_empty(dist: Dist) -> None:
    """Forget all blobs."""
    dist("delete", *dist.out("list", "-q").split())


def put(dist: Dist, image: Image) -> None:
    """Have an image in the store."""
    for blob in image.everything:
        dist.put(blob.data)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize("auth", ["basic", "token"])
def test_there_and_back(dist: Dist, run: Start, auth: str, tls: bool) -> None:  # noqa: FBT001
    """With credentials an image goes to the registry and comes from it, in every mode."""
    registry = run(auth=auth, tls=tls)
    log_in(dist, registry.host)
    image = make_image(auth)
    put(dist, image)
    trust = ["--ca-file", str(registry.ca)] if registry.ca else []

    dist("push", *trust, f"{registry.host}/team/app:v1@{image.top.digest}")
    store_empty(dist)
    dist("pull", *trust, f"{registry.host}/team/app:v1")

    holds(dist, image.everything)


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_without_credentials(dist: Dist, run: Start, auth: str) -> None:
    """Who has no credentials, or wrong ones, is told so at once."""
    registry = run(auth=auth)
    assert "denied" in dist.error("pull", f"{registry.host}/team/app")

    wrong = base64.b64encode(f"{USER}:wrong-s3cret".encode()).decode()
    log_in(dist, registry.host, {"auth": wrong})
    error = dist.error("pull", f"{registry.host}/team/app")

    assert "denied" in error
    assert "s3cret" not in error
    assert wrong not in error


def test_identity_tokens(dist: Dist, run: Start) -> None:
    """An identity token is exchanged by POST, and never is in a URL."""
    registry = run(auth="token")
    log_in(dist, registry.host, {"identitytoken": IDENTITY_TOKEN})
    image = make_image("identity")
    put(dist, image)

    dist("push", f"{registry.host}/team/app:v1@{image.top.digest}")

    assert {each.method for each in registry.tokens} == {"POST"}
    assert all(IDENTITY_TOKEN not in each.path for each in registry.tokens)


def test_a_token_is_fetched_once(dist: Dist, run: Start) -> None:
    """Many layers at a time share one token, which says pull and no more."""
    registry = run(auth="token")
    log_in(dist, registry.host)
    image = make_image("many", layers=8)
    put(dist, image)
    dist("push", f"{registry.host}/team/app:v1@{image.top.digest}")
    store_empty(dist)
    registry.tokens.clear()

    dist("pull", "-j", "8", f"{registry.host}/team/app:v1")

    assert len(registry.tokens) == 1
    assert "team%2Fapp%3Apull&" in f"{registry.tokens[0].path}&"


def test_a_token_is_renewed_in_the_middle(dist: Dist, run: Start) -> None:
    """A token that is refused in the middle of a pull is replaced, and the pull goes on."""
    registry = run(auth="token")
    image = make_image("renewed")
    put(dist, image)
    layer = image.blobs[1]
    with before(registry) as proxy:
        log_in(dist, proxy.host)
        log_in(dist, registry.host)
        dist("push", f"{registry.host}/team/app:v1@{image.top.digest}")
        store_empty(dist)
        registry.tokens.clear()
        challenge = (
            f'Bearer realm="{_realm(registry)}",service="test-service",error="invalid_token"'
        )
        proxy.fail(layer.digest, refuse(401, b"", WWW_Authenticate=challenge))
        dist("pull", f"{proxy.host}/team/app:v1")

    holds(dist, image.everything)
    assert len(registry.tokens) == 2


def _realm(registry: Registry) -> str:
    status, headers, _ = registry.send("GET", "/v2/", Authorization="none")
    assert status == 401
    return str(headers["WWW-Authenticate"]).split('"')[1]


def test_tokens_that_are_over_at_once(dist: Dist, run: Start) -> None:
    """A registry that refuses the very token that its token server gave is an error, no loop."""
    registry = run(auth="token", token_seconds=-120)
    log_in(dist, registry.host)

    assert "denied" in dist.error("pull", f"{registry.host}/team/app")
    assert len(registry.tokens) <= 2


def test_credentials_stay_with_their_host(dist: Dist, run: Start) -> None:
    """A redirect to another host is followed, and no credential goes there; Range does."""
    registry = run(auth="basic", redirect=True)
    log_in(dist, registry.host)
    image = make_image("redirected")
    put(dist, image)
    dist("push", f"{registry.host}/team/app:v1@{image.top.digest}")
    store_empty(dist)
    layer = image.blobs[1]
    with dist.store.writer(layer.digest) as writer:
        writer.write(layer.data[:10_000])

    dist("pull", f"{registry.host}/team/app:v1")

    holds(dist, image.everything)
    assert len(registry.fetched) == len(image.blobs)
    assert not [each for each in registry.fetched if "authorization" in each.headers]
    (resumed,) = [each for each in registry.fetched if "range" in each.headers]
    assert resumed.headers["range"] == "bytes=10000-"


def test_another_port_is_another_host(dist: Dist, run: Start) -> None:
    """Even on the same machine a redirect, or an upload's Location, gets no credential."""
    registry = run(auth="basic")
    log_in(dist, registry.host)
    heard = []

    class Elsewhere(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - http.server looks for it
            heard.append(hear(self))
            answer(self, 401, b"", WWW_Authenticate='Basic realm="give me"')

        do_PUT = do_GET  # noqa: N815 - http.server looks for it

    with before(registry) as proxy, serving(Elsewhere) as elsewhere:
        log_in(dist, proxy.host)
        image = make_image("elsewhere")
        put(dist, image)
        proxy.fail("uploads", refuse(202, b"", Location=f"{elsewhere}/upload"))
        proxy.fail("manifests", refuse(307, b"", Location=f"{elsewhere}/manifest"))
        dist("fetch", f"{proxy.host}/team/app", "v1", code=1)
        dist("push", "-j", "1", f"{proxy.host}/team/app:v1@{image.top.digest}", code=1)

    assert {each.method for each in heard} == {"GET", "PUT"}
    assert not [each for each in heard if "authorization" in each.headers]


def test_nothing_secret_is_shown(dist: Dist, run: Start, proxy: Proxy) -> None:
    """No secret and no signed query is in anything that is printed, whatever goes wrong."""
    registry = run(auth="token")
    log_in(dist, registry.host)
    log_in(dist, proxy.host)
    bad = refuse(307, b"", Location="http://user:s3cret-x@127.0.0.1:1/blob?sig=s3cret-y")
    proxy.fail("manifests", bad)
    shown = b""
    for words in (
        ["pull", f"{registry.host}/team/app"],
        ["pull", "--json", f"{registry.host}/team/none"],
        ["fetch", f"{proxy.host}/team/app", "v1"],
        ["fetch", f"{registry.host}/team/app", "v1", "--retries", "0"],
    ):
        done = dist(*words, code=1)
        shown += done.stdout + done.stderr

    assert not [secret for secret in (*SECRETS, "s3cret", "sig=") if secret.encode() in shown]


def test_certificates(dist: Dist, run: Start) -> None:
    """A certificate that nobody vouches for is refused, unless its file or --insecure is given."""
    registry = run(tls=True)
    image = make_image("tls")
    image.push(registry, "team/app", "v1")
    name = f"{registry.host}/team/app:v1"

    assert "certificate" in dist.error("pull", "--ca-file", "/etc/hostname", name)
    assert "cannot be read" in dist.error("pull", "--ca-file", "/nowhere", name)
    assert "wants TLS" in dist.error("pull", name)
    dist("pull", "--ca-file", str(registry.ca), name)
    dist("pull", "--insecure", name)
    dist.env["SSL_CERT_FILE"] = str(registry.ca)
    dist("pull", "--ca-file", "/dev/null", name)
    holds(dist, image.everything)


def test_away_from_tls(dist: Dist, run: Start) -> None:
    """A redirect from https to http is not followed, unless --insecure allows it."""
    registry = run(tls=True, redirect=True)
    image = make_image("away")
    image.push(registry, "team/app", "v1")
    name = f"{registry.host}/team/app:v1"

    complaint = dist("pull", "--ca-file", str(registry.ca), name, code=1).stderr.decode()
    assert "redirects away from TLS" in complaint
    dist("pull", "--insecure", name)

    holds(dist, image.everything)


def test_a_credential_helper(dist: Dist, run: Start, tmp_path: Path) -> None:
    """A helper's password opens the registry; it is asked when a registry asks, and once."""
    registry = run(auth="basic")
    image = make_image("helper")
    put(dist, image)
    program = tmp_path / "bin/docker-credential-mine"
    program.parent.mkdir()
    answer = json.dumps({"ServerURL": "", "Username": USER, "Secret": PASSWORD})
    program.write_text(
        f"#!/bin/sh\necho asked >>{tmp_path}/asked\ncat >/dev/null\necho '{answer}'\n"
    )
    program.chmod(0o755)
    dist.env["PATH"] = f"{program.parent}:{dist.env['PATH']}"
    dist.env["DOCKER_CONFIG"] = str(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {registry.host: "mine"}}))

    dist("push", f"{registry.host}/team/app:v1@{image.top.digest}")

    assert (tmp_path / "asked").read_text() == "asked\n"


def test_a_mirror_has_its_own_credentials(dist: Dist, run: Start) -> None:
    """The registry's credentials are not shown to its mirror, nor the other way."""
    registry, mirror = run(auth="basic"), run(auth="basic")
    image = make_image("mirrored")
    put(dist, image)
    with before(mirror) as proxy:
        log_in(dist, registry.host)
        dist("push", f"{registry.host}/team/app:v1@{image.top.digest}")
        store_empty(dist)
        done = dist("pull", "--mirror", proxy.host, f"{registry.host}/team/app:v1")

    assert "access denied" in done.stderr.decode()
    assert not [each for each in proxy.heard if "authorization" in each.headers]
    holds(dist, image.everything)
