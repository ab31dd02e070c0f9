"""Credentials as containers-auth.json(5) and Docker's ``config.json`` keep them.

Looked for in this order; the first that knows the repository decides:

1. ``$REGISTRY_AUTH_FILE``, and then nowhere else
2. ``$XDG_RUNTIME_DIR/containers/auth.json`` (``/run/containers/UID/auth.json`` without that)
3. ``$XDG_CONFIG_HOME/containers/auth.json`` (``~/.config/containers/auth.json``)
4. ``$DOCKER_CONFIG/config.json`` (``~/.docker/config.json``)

In a file, a helper under ``credHelpers`` comes before ``credsStore`` and that before ``auths``.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from store.dist.registry.errors import BadCredentials
from store.dist.registry.reference import Repository

__all__ = ["Credential", "find_credential"]

_HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_TOKEN_USER = "<token>"  # noqa: S105 - the user name that a helper gives an identity token
_HELPER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with a password, or an identity token.  Its ``repr`` shows neither secret.

    Attributes:
        user: may be empty beside an identity token.
        password: of the user.
        identity_token: an OAuth 2 refresh token; empty when there is none.
    """

    user: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)


def find_credential(
    repository: Repository, environment: Mapping[str, str] | None = None
) -> Credential | None:
    """What this user has for ``repository``; None: nothing, go there as anybody.

    Args:
        repository: where to.
        environment: in place of the process's own.

    Raises:
        BadCredentials: a file or helper on the way cannot be used.
    """
    environment = os.environ if environment is None else environment
    for path, required in _files(environment):
        document = _read(path, required=required)
        if document is None:
            continue
        found = _in_document(document, path, repository)
        if found is not None:
            return found
    return None


def _files(environment: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """Paths in their order, and whether the file must be there."""
    named = environment.get("REGISTRY_AUTH_FILE")
    if named:
        yield named, True
        return
    home = environment.get("HOME") or os.path.expanduser("~")
    runtime = environment.get("XDG_RUNTIME_DIR")
    yield f"{runtime}/containers/auth.json" if runtime else _system_runtime(), False
    config = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    yield f"{config}/containers/auth.json", False
    docker = environment.get("DOCKER_CONFIG") or f"{home}/.docker"
    yield f"{docker}/config.json", False


def _system_runtime() -> str:
    return f"/run/containers/{os.getuid()}/auth.json"


def _read(path: str, *, required: bool) -> dict[str, object] | None:
    try:
        with open(path, "rb") as file:
            document = json.load(file)
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise BadCredentials(path, f"named by $REGISTRY_AUTH_FILE: {error.strerror}") from None
        return None
    except OSError as error:
        raise BadCredentials(path, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise BadCredentials(path, "is no JSON") from None
    if not isinstance(document, dict):
        raise BadCredentials(path, "is no JSON object")
    return document


def _in_document(
    document: dict[str, object], path: str, repository: Repository
) -> Credential | None:
    domain = _HUB_KEY if repository.domain in _HUB_NAMES else repository.domain
    helpers = _mapping(document.get("credHelpers"))
    helper = helpers.get(repository.domain) or helpers.get(domain)
    store = document.get("credsStore")
    for program in (helper, store):
        if isinstance(program, str) and program:
            found = _ask_helper(f"docker-credential-{program}", domain)
            if found is not None:
                return found
    auths = {_plain_key(key): value for key, value in _mapping(document.get("auths")).items()}
    for key in _keys(repository):
        if key in auths:
            found = _from_entry(_mapping(auths[key]), f"{path} (entry {key})")
            if found is not None:
                return found
    return None


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _plain_key(key: str) -> str:
    """Docker's keys may be URLs, of which only the host counts."""
    for scheme in ("https://", "http://"):
        if key.startswith(scheme):
            key = key.removeprefix(scheme).partition("/")[0]
    host, slash, path = key.partition("/")
    return ("docker.io" if host in _HUB_NAMES else host) + slash + path


def _keys(repository: Repository) -> Iterator[str]:
    """From the repository itself up to its registry: the nearest entry decides."""
    key = _plain_key(str(repository))
    while key:
        yield key
        key = key.rpartition("/")[0]


def _from_entry(entry: dict[str, object], source: str) -> Credential | None:
    token = entry.get("identitytoken")
    token = token if isinstance(token, str) else ""
    user, password = entry.get("username"), entry.get("password")
    encoded = entry.get("auth")
    if isinstance(encoded, str) and encoded:
        try:
            pair = base64.b64decode(encoded, validate=True).decode()
        except ValueError:
            raise BadCredentials(source, "its auth is not base64 of user:password") from None
        user, colon, password = pair.partition(":")
        if not colon:
            raise BadCredentials(source, "its auth is not base64 of user:password")
        # Docker pads what it encodes with NUL.
        password = password.rstrip("\0")
    if isinstance(user, str) and isinstance(password, str) and user:
        return Credential(user, password, token)
    return Credential("", "", token) if token else None


def _ask_helper(program: str, server: str) -> Credential | None:
    """What ``docker-credential-NAME get`` knows of ``server``."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own file names the program
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or f"no answer in {_HELPER_SECONDS} s"
        raise BadCredentials(program, reason) from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        if "credentials not found" in said.lower():
            return None
        raise BadCredentials(program, f"failed: {said[:200] or done.returncode}")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise BadCredentials(program, "its answer holds no Username and Secret") from None
    if user == _TOKEN_USER:
        return Credential("", "", secret)
    return Credential(user, secret)
