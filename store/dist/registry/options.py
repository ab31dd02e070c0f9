"""How registries are spoken to: what the user sets once for a whole command."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the user sets once for a whole command.

    Attributes:
        plain_http: speak http, not https, to the registry and its mirror; to loopback this is
            the default unless one of the next two says that there is TLS.
        ca_file: certificates in PEM to trust besides the system's; None: those alone.
        insecure: take any certificate, and let a redirect or a token server do without TLS.
        mirror: ``HOST[:PORT]`` to ask first; None: none.
        timeout: seconds of silence after which a connection counts as dead.
        retries: how often in a row, without a byte of progress, a request is made again.
    """

    plain_http: bool = False
    ca_file: str | None = None
    insecure: bool = False
    mirror: str | None = None
    timeout: float = 60.0
    retries: int = 5
