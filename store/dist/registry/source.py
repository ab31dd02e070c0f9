"""Reading from a repository: manifests and blobs, by way of a mirror where there is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from store.digest import Digest
from store.dist.registry.errors import Cancelled, Corrupt, RegistryError, Unreachable, Unsound
from store.dist.registry.media import ACCEPTED
from store.dist.registry.messages import Request, Response, Sink
from store.dist.registry.reference import Repository
from store.dist.registry.retry import Notify
from store.dist.registry.session import Session
from store.errors import InvalidDigest

__all__ = ["Source", "Target"]

T = TypeVar("T")

_GOOD: Final = frozenset({HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE})
_CONTENT_RANGE: Final = re.compile(r"bytes\s+([0-9]+)-[0-9]+/([0-9]+|\*)")


class Target(Protocol):
    """Whoever takes the bytes of a blob, in order."""

    @property
    def offset(self) -> int:
        """How many bytes it has."""

    def write(self, data: memoryview, /) -> object:
        """Take the next ones; ``data`` is valid during the call only."""


class Source:
    """What can be read of one repository.  Safe for many threads.

    Attributes:
        repository: which one.
    """

    def __init__(self, repository: Repository, sessions: Sequence[Session], notify: Notify) -> None:
        """Begin; nothing is sent yet.

        Args:
            repository: which one.
            sessions: with those that have it, in the order in which they are to be asked.
            notify: told when one fails and the next is asked.
        """
        self.repository = repository
        # Replaced and never changed, by any thread.
        self._sessions = tuple(sessions)
        self._notify = notify
        self._scopes = (f"repository:{repository.path}:pull",)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """With those that have it, the mirror first; the repository's own registry is the last."""
        return self._sessions

    def pass_over(self, mirror: Session, error: RegistryError) -> None:
        """Tell of a mirror's failure, and ask it no more if it cannot be reached."""
        known = mirror in self._sessions
        if isinstance(error, Unreachable):
            self._sessions = tuple(each for each in self._sessions if each is not mirror)
        if known:
            self._notify(f"mirror {error}; going on with {self.repository.domain}")

    def resolve(self, name: str) -> Digest | None:
        """The digest of the manifest that ``name``, a tag or digest, stands for.

        The word of the registry, good for finding out whether anything must be transferred.

        Returns:
            None when the registry does not say it, or in an algorithm that is unknown here.

        Raises:
            RegistryError: it cannot be asked, or has no such manifest.
        """
        return self.first(lambda session: self._resolve(session, name))

    def manifest(
        self, name: str, accept: Sequence[str] = ACCEPTED, *, retry: bool = True
    ) -> tuple[bytes, str]:
        """The bytes of a manifest and the type that the registry gives them.

        Args:
            name: a tag, or a digest, by which the bytes are then verified.
            accept: types to ask for.
            retry: False: take the first answer, even one that promises better luck later.

        Raises:
            RegistryError: it cannot be had.
            Corrupt: the bytes are not those of the digest, or of the registry's own statement.
        """
        return self.first(lambda session: self._manifest(session, name, accept, retry=retry))

    def download(self, session: Session, digest: Digest, size: int | None, target: Target) -> None:
        """Bring what ``target`` lacks of a blob, from where it stands; nothing is verified.

        A connection that breaks or an answer that promises better luck later is not the end:
        the next request goes on at the next byte.

        Args:
            session: one of `sessions`.
            digest: the blob.
            size: of the blob in bytes; None when nobody knows it.
            target: is given the bytes.

        Raises:
            Corrupt: the registry's copy has another size.
            RegistryError: it cannot be had.
        """
        patience = session.patience()
        blob = _Blob(f"blob {digest}", self._url(session, "blobs", str(digest)), size)
        while blob.size is None or target.offset < blob.size:
            before = target.offset
            try:
                self._continue(session, blob, target)
            except RegistryError as error:
                if target.offset > before:
                    patience.renew()
                patience.pause(error)
            else:
                break
        if blob.size is not None and target.offset != blob.size:
            reason = f"the registry sends {target.offset} bytes of {blob.size}"
            raise Corrupt(blob.what, reason)

    def first(self, ask: Callable[[Session], T]) -> T:
        """What the first session that does not fail gives.

        Raises:
            RegistryError: the last one failed too.
        """
        *mirrors, own = self._sessions
        for session in mirrors:
            try:
                return ask(session)
            except Cancelled:
                raise
            except RegistryError as error:
                self.pass_over(session, error)
        return ask(own)

    def _url(self, session: Session, kind: str, name: str) -> str:
        # As containerd tells a mirror of many registries which of them is meant.
        mirrored = session is not self._sessions[-1]
        query = f"?ns={self.repository.domain}" if mirrored else ""
        return f"{session.url}/v2/{self.repository.path}/{kind}/{name}{query}"

    def _resolve(self, session: Session, name: str) -> Digest | None:
        request = Request("HEAD", self._url(session, "manifests", name), _accepting(ACCEPTED))
        return _stated_digest(session.send(request, self._scopes))

    def _manifest(
        self, session: Session, name: str, accept: Sequence[str], *, retry: bool
    ) -> tuple[bytes, str]:
        request = Request("GET", self._url(session, "manifests", name), _accepting(accept))
        ask = session.send if retry else session.attempt
        answer = ask(request, self._scopes)
        data = bytes(answer.body)
        # The header names sha256 whatever was asked for, so it is no word about a digest.
        wanted = Digest.parse(name) if ":" in name else _stated_digest(answer)
        if wanted is not None:
            found = Digest.of(data, wanted.algorithm)
            if found != wanted:
                raise Corrupt(f"manifest {name}", f"expected {wanted}, found {found}")
        media_type = (answer.headers.get("Content-Type") or "").partition(";")[0].strip()
        return data, media_type

    def _continue(self, session: Session, blob: _Blob, target: Target) -> None:
        start = target.offset
        headers = {"Range": f"bytes={start}-"} if start else {}

        def receive(response: Response) -> Sink:
            blob.check(response, start)
            if start and response.status == HTTPStatus.OK:
                return _Skip(start, target)
            return target.write

        request = Request("GET", blob.url, headers)
        answer = session.attempt(request, self._scopes, receive, good=_GOOD)
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            held = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
            reason = f"the registry's copy ends at byte {held or start} of {blob.size}"
            raise Corrupt(blob.what, reason)


@dataclass(slots=True)
class _Blob:
    """A blob under way.

    Attributes:
        what: what it is called in messages.
        url: where it is.
        size: in bytes; None as long as nobody has said it.
    """

    what: str
    url: str
    size: int | None

    def check(self, response: Response, start: int) -> None:
        """Whether the body of ``response`` is what was asked for, by its headers.

        Raises:
            Corrupt: it is a blob of another size.
            Unsound: it is another part of the blob.
        """
        if response.status == HTTPStatus.OK:
            length = response.headers.get("Content-Length") or ""
            total = length if length.isdecimal() else "*"
        elif response.status == HTTPStatus.PARTIAL_CONTENT:
            stated = (response.headers.get("Content-Range") or "").strip()
            match = _CONTENT_RANGE.fullmatch(stated)
            if match is None or int(match.group(1)) != start:
                reason = f"asked for bytes from {start} on, the registry sends {stated or 'others'}"
                raise Unsound(self.what, reason)
            total = match.group(2)
        else:
            raise Unsound(self.what, f"the registry answers {response.status} without it")
        if total == "*":
            return
        if self.size is not None and int(total) != self.size:
            reason = f"the registry has {total} bytes of it, expected {self.size}"
            raise Corrupt(self.what, reason)
        self.size = int(total)


class _Skip:
    """Passes over what is held already, where a registry begins from the start regardless."""

    def __init__(self, count: int, target: Target) -> None:
        self._left = count
        self._target = target

    def __call__(self, data: memoryview) -> None:
        skipped = min(self._left, len(data))
        self._left -= skipped
        if skipped < len(data):
            self._target.write(data[skipped:])


def _accepting(types: Sequence[str]) -> dict[str, str]:
    return {"Accept": ", ".join(types)}


def _stated_digest(answer: Response) -> Digest | None:
    stated = answer.headers.get("Docker-Content-Digest")
    try:
        return Digest.parse(stated) if stated is not None else None
    except InvalidDigest:
        return None
