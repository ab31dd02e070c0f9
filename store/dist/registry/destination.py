"""Writing to a repository: blobs, mounts and manifests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from http import HTTPStatus
from io import BytesIO
from urllib.parse import urlencode, urljoin, urlsplit

from store.digest import Digest
from store.dist.registry.errors import Absent, Corrupt, RegistryError, Unsound
from store.dist.registry.media import Manifest
from store.dist.registry.messages import Body, Request, Response, origin, shown
from store.dist.registry.reference import Repository
from store.dist.registry.session import Session
from store.errors import InvalidDigest

__all__ = ["Destination"]

# Opens the bytes of a blob, for each attempt anew.
Opener = Callable[[], AbstractContextManager[Body]]

_OCTETS = "application/octet-stream"


class Destination:
    """What can be written to one repository.  Safe for many threads.

    Attributes:
        repository: which one.
    """

    def __init__(self, repository: Repository, session: Session) -> None:
        """Begin; nothing is sent yet."""
        self.repository = repository
        self._session = session
        self._base = f"{session.url}/v2/{repository.path}"
        self._scopes = (f"repository:{repository.path}:pull,push",)

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository holds the blob.

        Raises:
            RegistryError: it cannot be asked.
        """
        return self._has(f"{self._base}/blobs/{digest}", {})

    def has_manifest(self, name: str, manifest: Manifest) -> bool:
        """Whether ``name``, a tag or digest, stands for that very manifest already.

        Raises:
            RegistryError: it cannot be asked.
        """
        request = Request("HEAD", f"{self._base}/manifests/{name}", {"Accept": manifest.media_type})
        try:
            answer = self._session.send(request, self._scopes)
        except Absent:
            return False
        return _states(answer, manifest)

    def mount(self, digest: Digest, other: Repository) -> bool:
        """Have the registry take the blob over from another repository of its own.

        Returns:
            Whether it did.

        Raises:
            RegistryError: it cannot be asked.
        """
        scopes = (*self._scopes, f"repository:{other.path}:pull")
        query = urlencode({"mount": str(digest), "from": other.path})
        request = Request("POST", f"{self._base}/blobs/uploads/?{query}", body=BytesIO())
        answer = self._session.send(request, scopes)
        if answer.status == HTTPStatus.CREATED:
            return True
        # It began an upload instead, which is not gone on with here, so that it can be retried.
        cancelling = Request("DELETE", _location(answer), body=BytesIO())
        try:
            self._session.attempt(cancelling, self._scopes)
        except RegistryError:
            return False  # it drops abandoned uploads by itself, sooner or later
        return False

    def put_blob(self, digest: Digest, size: int, open_body: Opener) -> None:
        """Upload a blob, which the registry verifies.

        Args:
            digest: of the blob.
            size: in bytes.
            open_body: opens its bytes, for each attempt anew.

        Raises:
            RegistryError: the registry does not take it.
        """
        patience = self._session.patience()
        while True:
            try:
                with open_body() as body:
                    return self._upload(digest, size, body)
            except RegistryError as error:
                patience.pause(error)

    def put_manifest(self, name: str, manifest: Manifest) -> None:
        """Store a manifest under ``name``, a tag or its digest; twice is as good as once.

        Raises:
            Corrupt: the registry has something else under that name now.
            RegistryError: it does not take it, for instance since it lacks what it lists.
        """
        body = BytesIO(manifest.data)
        headers = {"Content-Type": manifest.media_type}
        url = f"{self._base}/manifests/{name}"
        request = Request("PUT", url, headers, body, len(manifest.data))
        self._session.send(request, self._scopes)
        if not self.has_manifest(name, manifest):
            raise Corrupt(shown(url), f"the registry does not answer with {manifest.digest} there")

    def _has(self, url: str, headers: dict[str, str]) -> bool:
        try:
            self._session.send(Request("HEAD", url, headers), self._scopes)
        except Absent:
            return False
        return True

    def _upload(self, digest: Digest, size: int, body: Body) -> None:
        begin = Request("POST", f"{self._base}/blobs/uploads/", body=BytesIO())
        location = _location(self._session.attempt(begin, self._scopes))
        separator = "&" if urlsplit(location).query else "?"
        url = f"{location}{separator}{urlencode({'digest': str(digest)})}"
        headers = {"Content-Type": _OCTETS}
        finish = Request("PUT", url, headers, body, size, patient=True)
        answer = self._session.attempt(finish, self._scopes)
        if answer.status != HTTPStatus.CREATED:
            raise Unsound(shown(url), f"the registry answers an upload with {answer.status}")


def _location(answer: Response) -> str:
    """Where an upload goes on.

    Raises:
        Unsound: the registry does not say, or nowhere that may be gone to.
    """
    location = answer.headers.get("Location")
    if location is None:
        raise Unsound(shown(answer.url), "the registry begins an upload and does not say where")
    target = urljoin(answer.url, location)
    try:
        origin(target)
    except ValueError:
        raise Unsound(shown(answer.url), "it wants the upload at what is no http URL") from None
    return target


def _states(answer: Response, manifest: Manifest) -> bool:
    """Whether the header names the manifest, in the algorithm that the registry prefers."""
    stated = answer.headers.get("Docker-Content-Digest")
    if stated is None:
        return False
    try:
        digest = Digest.parse(stated)
    except InvalidDigest:
        return False
    return Digest.of(manifest.data, digest.algorithm) == digest
