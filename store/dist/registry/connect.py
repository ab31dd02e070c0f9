"""From a repository's name and the user's options to something that can be read and written."""

from __future__ import annotations

import threading
from functools import cache

from store.dist.registry.credentials import Credential, find_credential
from store.dist.registry.destination import Destination
from store.dist.registry.options import Options
from store.dist.registry.reference import Repository
from store.dist.registry.retry import Notify
from store.dist.registry.session import Session
from store.dist.registry.source import Source
from store.dist.registry.transport import Curl

__all__ = ["Client"]


class Client:
    """The registry client: one transport, and sessions made from it.  Safe for many threads."""

    def __init__(self, options: Options, cancel: threading.Event, notify: Notify) -> None:
        """Begin; nothing is sent yet.

        Args:
            options: how to speak to registries.
            cancel: when set, what is under way ends with `Cancelled` within a second.
            notify: told, in one line, of each pause and each turn to another host.
        """
        self._options = options
        self._cancel = cancel
        self._notify = notify
        self._transport = Curl(options, cancel)

    def close(self) -> None:
        """End all connections; nothing may be under way."""
        self._transport.close()

    def source(self, repository: Repository) -> Source:
        """``repository`` to read from: its mirror, then itself."""
        domains = [repository.endpoint]
        sessions = [self._session(repository, repository.endpoint)]
        mirror = self._options.mirror
        if mirror is not None and mirror not in domains:
            mirrored = Repository.parse(f"{mirror}/{repository.path}")
            sessions.insert(0, self._session(mirrored, mirrored.endpoint))
        return Source(repository, sessions, self._notify)

    def destination(self, repository: Repository) -> Destination:
        """``repository`` to write to, never a mirror."""
        return Destination(repository, self._session(repository, repository.endpoint))

    def _session(self, repository: Repository, domain: str) -> Session:
        @cache
        def credential() -> Credential | None:
            return find_credential(repository)

        return Session(
            domain,
            self._options,
            self._transport,
            credential,
            cancel=self._cancel,
            notify=self._notify,
        )
