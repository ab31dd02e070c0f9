"""Names, challenges, media types and platforms: what is parsed, and what is refused."""

from __future__ import annotations

import json
import pickle

import pytest

from store import Digest
from store.dist.registry import errors
from store.dist.registry.challenge import Challenge, parse_challenges
from store.dist.registry.errors import InvalidReference, Unsound
from store.dist.registry.media import Manifest, Platform, choose, parse_manifest
from store.dist.registry.reference import Image, Repository, is_loopback
from store.dist.registry.retry import retry_after
from tests.registry.samples import DOCKER, OCI, make_image

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "domain", "path", "endpoint"),
    [
        ("docker.io/library/redis", "docker.io", "library/redis", "registry-1.docker.io"),
        ("redis", "docker.io", "library/redis", "registry-1.docker.io"),
        ("docker.io/redis", "docker.io", "library/redis", "registry-1.docker.io"),
        ("index.docker.io/a/b", "docker.io", "a/b", "registry-1.docker.io"),
        ("a/b", "docker.io", "a/b", "registry-1.docker.io"),
        ("localhost/a", "localhost", "a", "localhost"),
        ("localhost:5000/a/b/c", "localhost:5000", "a/b/c", "localhost:5000"),
        ("ghcr.io/a-b/c__d.e", "ghcr.io", "a-b/c__d.e", "ghcr.io"),
        ("[::1]:5000/a", "[::1]:5000", "a", "[::1]:5000"),
    ],
)
def test_repositories(text: str, domain: str, path: str, endpoint: str) -> None:
    """A repository is read as everywhere; without a registry it is Docker Hub's."""
    repository = Repository.parse(text)

    assert (repository.domain, repository.path, repository.endpoint) == (domain, path, endpoint)


@pytest.mark.parametrize(
    "text",
    ["", "/", "a//b", "Upper/case", "http://localhost/a", "host:port/a", "host.x/", "-a/b.c/d",
     "localhost:5000/a b", "localhost:5000/a\n", "localhost:5000/../a", "x.y/" + "a" * 256,
     "evil@host.x/a", "host.x:123456/a"],
)  # fmt: skip
def test_no_repositories(text: str) -> None:
    """What might lead a request elsewhere never becomes a repository."""
    with pytest.raises(InvalidReference):
        Repository.parse(text)


@pytest.mark.parametrize(
    ("text", "tag", "digest", "wanted"),
    [
        ("h.x/a", "latest", None, "latest"),
        ("h.x:1/a", "latest", None, "latest"),
        ("h.x:1/a:v1.0_x", "v1.0_x", None, "v1.0_x"),
        (f"h.x/a@{DIGEST}", None, DIGEST, DIGEST),
        (f"h.x/a:v1@{DIGEST}", "v1", DIGEST, DIGEST),
    ],
)
def test_images(text: str, tag: str | None, digest: str | None, wanted: str) -> None:
    """An image has a tag, a digest or both, and a digest decides."""
    image = Image.parse(text)

    assert image.tag == tag
    assert image.digest == (None if digest is None else Digest.parse(digest))
    assert image.object == wanted


@pytest.mark.parametrize("text", ["h.x/a:", "h.x/a:.v", "h.x/a@", "h.x/a@sha256:1", "h.x/a:b:c"])
def test_no_images(text: str) -> None:
    """A malformed tag or digest is refused."""
    with pytest.raises(InvalidReference):
        Image.parse(text)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.9.9.9", True),
     ("[::1]:5000", True), ("x.localhost", True), ("localhost.example", False),
     ("128.0.0.1:5000", False), ("127.0.0.1.example:80", False), ("registry:5000", False)],
)  # fmt: skip
def test_loopback(domain: str, expected: bool) -> None:  # noqa: FBT001 - the expected answer
    """Only this machine itself is spoken to without TLS unasked."""
    assert is_loopback(domain) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        (["Basic"], [("basic", {})]),
        (['Basic realm="a, b=c"'], [("basic", {"realm": "a, b=c"})]),
        (
            ['Bearer realm="https://t/x",service="s", scope="repository:a:pull,push"'],
            [("bearer", {"realm": "https://t/x", "service": "s",
                         "scope": "repository:a:pull,push"})],
        ),
        (
            ['Negotiate, Basic realm="x", Bearer realm=y ,error = "invalid_token"'],
            [("negotiate", {}), ("basic", {"realm": "x"}),
             ("bearer", {"realm": "y", "error": "invalid_token"})],
        ),
        (["NTLM abc==", 'BASIC realm="a\\"b"'], [("ntlm", {}), ("basic", {"realm": 'a"b'})]),
        (['="x"'], []),
        (['Bearer realm="unclosed'], [("bearer", {})]),
    ],
)  # fmt: skip
def test_challenges(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    """Schemes and parameters are told apart, however many share a header."""
    found = parse_challenges(headers)

    assert [c for c in found if c.scheme in {"basic", "bearer", "ntlm", "negotiate"}] == [
        Challenge(scheme, parameters) for scheme, parameters in expected
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("linux/amd64", "linux/amd64"), ("Linux/x86_64", "linux/amd64"),
     ("linux/aarch64", "linux/arm64"), ("linux/arm64/v8", "linux/arm64"),
     ("linux/arm/v6", "linux/arm/v6"), ("linux/armhf", "linux/arm")],
)  # fmt: skip
def test_platforms(text: str, shown: str) -> None:
    """Platforms that are the same are equal, however they are written."""
    platform = Platform.parse(text)

    assert platform == Platform.parse(shown)
    assert str(platform) == shown


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "a/b/c/d"])
def test_no_platforms(text: str) -> None:
    """Half a platform is none."""
    with pytest.raises(ValueError, match="no platform"):
        Platform.parse(text)


def _index(*platforms: str) -> Manifest:
    top = make_image("platforms", platforms=platforms).top
    return parse_manifest(top.data, top.media_type, "sha256")


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [("linux/amd64", 0), ("linux/arm/v7", 2), ("linux/arm/v6", 1), ("linux/arm64", 3)],
)
def test_an_index_gives_the_best_fit(wanted: str, chosen: int) -> None:
    """The platform's own manifest is chosen, or that of an earlier variant that runs there."""
    index = _index("linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64")

    assert choose(index, Platform.parse(wanted)) == index.children[chosen]


@pytest.mark.parametrize("wanted", ["linux/s390x", "windows/amd64", "linux/amd64/v3"])
def test_an_index_has_no_fit(wanted: str) -> None:
    """An index without the platform says what it has."""
    with pytest.raises(Unsound, match="only for linux/amd64, linux/arm64"):
        choose(_index("linux/amd64", "linux/arm64"), Platform.parse(wanted))


@pytest.mark.parametrize("types", [OCI, DOCKER], ids=["oci", "docker"])
def test_manifests_are_read(types: dict[str, str]) -> None:
    """Config and layers of a manifest, and the manifests of an index, are found in both forms."""
    image = make_image("read", types=types, platforms=("linux/amd64", "linux/arm64"))

    index = parse_manifest(image.top.data, types["index"], "sha256")
    child = image.manifests["linux/amd64"]
    manifest = parse_manifest(child.data, types["manifest"], "sha256")

    assert index.is_index
    assert [str(c.digest) for c in index.children] == [m.digest for m in image.manifests.values()]
    assert not manifest.is_index
    assert {str(b.digest) for b in manifest.blobs} < {b.digest for b in image.blobs}


SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


@pytest.mark.parametrize(
    ("document", "said", "match"),
    [
        (b"\xff", OCI["manifest"], "no JSON"),
        (b"[" * 100_000, OCI["manifest"], "no JSON"),
        (b"[]", OCI["manifest"], "no JSON object"),
        (b"{}", OCI["manifest"], "lacks a descriptor"),
        (b"{}", None, "neither manifest nor index"),
        ({"schemaVersion": 1}, SCHEMA_1, "schema 1"),
        ({"schemaVersion": 1, "signatures": []}, "application/json", "schema 1"),
        ({"mediaType": OCI["manifest"]}, OCI["index"], "was announced as"),
        ({"mediaType": OCI["index"], "manifests": {}}, OCI["index"], "no list"),
        ({"mediaType": OCI["index"], "manifests": [{"digest": DIGEST}]}, None, "without size"),
        (
            {"manifests": [{"digest": "sha256:../../etc", "size": 1, "mediaType": "x"}]},
            None,
            "invalid digest",
        ),
        (
            {"manifests": [{"digest": DIGEST, "size": -1, "mediaType": "x"}]},
            None,
            "without size",
        ),
    ],
)
def test_no_manifests(document: bytes | dict[str, object], said: str | None, match: str) -> None:
    """What is no manifest, or another than was announced, is refused before anything is fetched."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()

    with pytest.raises(Unsound, match=match):
        parse_manifest(data, said, "sha256")


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("7", 7.0), ("soon", None), ("-1", None),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)  # fmt: skip
def test_retry_after(text: str | None, expected: float | None) -> None:
    """Retry-After is seconds or a date; anything else asks for nothing."""
    assert retry_after(text) == expected


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidReference("x", "y"),
        errors.BadCredentials("file", "reason"),
        errors.Unreachable("host", "reason", transient=False, connected=False),
        errors.Refused("where", 500, "detail", 3.0),
        errors.Absent("where", 404),
        errors.Denied("where", 401),
        errors.Unsound("what", "reason"),
        errors.Corrupt("what", "reason"),
        errors.Cancelled(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_one_line_and_survive_pickling(error: errors.RegistryError) -> None:
    """Every error keeps its facts and its text on the way to another process."""
    copy = pickle.loads(pickle.dumps(error))

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert len(str(error).splitlines()) == 1
