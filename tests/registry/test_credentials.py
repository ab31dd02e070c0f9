"""Where credentials are found, and what is never shown of them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from store.dist.registry.credentials import Credential, find_credential
from store.dist.registry.errors import BadCredentials
from store.dist.registry.reference import Repository


def auth(user: str, password: str) -> dict[str, str]:
    """An entry of ``auths``."""
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, document: object) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user with nothing but a home."""
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}


def find(image: str, environment: dict[str, str]) -> Credential | None:
    """What is found for a repository."""
    return find_credential(Repository.parse(image), environment)


def test_nothing_is_known(environment: dict[str, str]) -> None:
    """Without any file a user is anybody."""
    assert find("h.x/a", environment) is None


def test_files_come_in_order(tmp_path: Path, environment: dict[str, str]) -> None:
    """The file that comes first decides, and $REGISTRY_AUTH_FILE alone where it is set."""
    places = [
        tmp_path / ".docker/config.json",
        tmp_path / ".config/containers/auth.json",
        tmp_path / "run/containers/auth.json",
    ]
    for user, path in zip(("docker", "config", "runtime"), places, strict=True):
        write(path, {"auths": {"h.x": auth(user, "p")}})
        assert find("h.x/a", environment) == Credential(user, "p")
    environment["DOCKER_CONFIG"] = str(tmp_path / "elsewhere")
    assert find("h.x/a", environment) == Credential("runtime", "p")
    named = write(tmp_path / "named.json", {"auths": {}})
    environment["REGISTRY_AUTH_FILE"] = str(named)
    assert find("h.x/a", environment) is None


def test_a_file_without_the_registry_is_passed_over(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """A nearer file that knows only other registries does not hide the next."""
    write(tmp_path / "run/containers/auth.json", {"auths": {"other.x": auth("no", "no")}})
    environment["DOCKER_CONFIG"] = str(tmp_path / "docker")
    write(tmp_path / "docker/config.json", {"auths": {"h.x": auth("yes", "p")}})

    assert find("h.x/a", environment) == Credential("yes", "p")


@pytest.mark.parametrize(
    ("key", "image"),
    [("h.x:5000", "h.x:5000/a/b"), ("h.x:5000/a", "h.x:5000/a/b"), ("https://h.x/v2/", "h.x/a"),
     ("https://index.docker.io/v1/", "redis"), ("docker.io", "docker.io/a/b"),
     ("docker.io/library", "redis")],
)  # fmt: skip
def test_keys(key: str, image: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Entries for hosts, for folders of repositories and in Docker's old form are found."""
    write(tmp_path / ".docker/config.json", {"auths": {key: auth("u", "p:with:colons")}})

    assert find(image, environment) == Credential("u", "p:with:colons")


@pytest.mark.parametrize(
    "key", ["h.x:5001", "x.h.x", "h.x.example", "h.x:5000/other", "h.x:5000/team2"]
)
def test_other_keys(key: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """An entry for another port, host or folder is not for this repository."""
    write(tmp_path / ".docker/config.json", {"auths": {key: auth("u", "p")}})

    assert find("h.x:5000/team", environment) is None


def test_the_nearest_entry_decides(tmp_path: Path, environment: dict[str, str]) -> None:
    """Of several entries that fit, the longest counts."""
    entries = {"h.x": auth("far", "p"), "h.x/a/b": auth("near", "p"), "h.x/a": auth("mid", "p")}
    write(tmp_path / ".docker/config.json", {"auths": entries})

    assert find("h.x/a/b", environment) == Credential("near", "p")
    assert find("h.x/a/c", environment) == Credential("mid", "p")


def test_identity_tokens(tmp_path: Path, environment: dict[str, str]) -> None:
    """An entry's identity token comes along, with or without a user."""
    entries = {"h.x": {"identitytoken": "t"}, "i.x": {**auth("u", ""), "identitytoken": "t"}}
    write(tmp_path / ".docker/config.json", {"auths": entries})

    assert find("h.x/a", environment) == Credential("", "", "t")
    assert find("i.x/a", environment) == Credential("u", "", "t")


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper named ``test`` on PATH, which knows what its file says."""
    program = tmp_path / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\nread -r server\n"
        f'if grep -q "^$server " {tmp_path}/known; then\n'
        f"  grep \"^$server \" {tmp_path}/known | cut -d' ' -f2-\n"
        "else echo 'credentials not found in native keychain'; exit 1; fi\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path / "known"


def test_helpers(helper: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """A helper is asked for its registries; where it knows nothing, the file's own entry counts."""
    answers = {
        "h.x": {"Username": "u", "Secret": "s"},
        "i.x": {"Username": "<token>", "Secret": "t"},
        "https://index.docker.io/v1/": {"Username": "hub", "Secret": "s"},
    }
    helper.write_text("".join(f"{k} {json.dumps(v)}\n" for k, v in answers.items()))
    document = {
        "credHelpers": {"h.x": "test", "i.x": "test", "docker.io": "test", "j.x": "test"},
        "auths": {"h.x": auth("file", "p"), "j.x": auth("file", "p")},
    }
    path = write(tmp_path / ".docker/config.json", document)

    assert find("h.x/a", environment) == Credential("u", "s")
    assert find("i.x/a", environment) == Credential("", "", "t")
    assert find("redis", environment) == Credential("hub", "s")
    assert find("j.x/a", environment) == Credential("file", "p")

    write(path, {"credsStore": "test"})
    assert find("h.x/a", environment) == Credential("u", "s")
    assert find("k.x/a", environment) is None


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ("{", "is no JSON"),
        ("[]", "no JSON object"),
        ('{"auths": {"h.x": {"auth": "czNjcmV0LXdpdGhvdXQtY29sb24="}}}', "base64 of user"),
        ('{"auths": {"h.x": {"auth": "s3cret not base64"}}}', "base64 of user"),
        ('{"credHelpers": {"h.x": "that-is-nowhere"}}', "No such file"),
    ],
)
def test_what_cannot_be_used_is_said_without_its_contents(
    document: str, match: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A broken file or helper is an error that names it and shows nothing of what it holds."""
    path = tmp_path / ".docker/config.json"
    path.parent.mkdir()
    path.write_text(document)

    with pytest.raises(BadCredentials, match=match) as caught:
        find("h.x/a", environment)
    assert "s3cret" not in str(caught.value)


def test_a_named_file_must_be_there(tmp_path: Path, environment: dict[str, str]) -> None:
    """A mistyped $REGISTRY_AUTH_FILE is an error, not a user without credentials."""
    environment["REGISTRY_AUTH_FILE"] = str(tmp_path / "mistyped.json")

    with pytest.raises(BadCredentials, match="REGISTRY_AUTH_FILE"):
        find("h.x/a", environment)


def test_secrets_have_no_repr() -> None:
    """What is logged or shown in a traceback holds no secret."""
    assert "s3cret" not in repr(Credential("u", "s3cret", "s3cret"))
