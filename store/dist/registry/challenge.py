"""What a registry asks for in ``WWW-Authenticate`` (RFC 9110, sections 11.2 to 11.6.1).

::

    WWW-Authenticate ::= challenge ("," challenge)*
    challenge        ::= scheme [SP+ (token68 | param ("," param)*)]
    param            ::= token [SP] "=" [SP] (token | quoted-string)

Several challenges may share one header, so a comma either goes on with parameters or begins the
next challenge; a parameter is told by its ``=``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Challenge", "parse_challenges"]

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 - a grammar
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*(?:,|$)')
_SCHEME = re.compile(rf"\s*({_TOKEN})(?:\s+[A-Za-z0-9._~+/-]+=*\s*(?=,|$))?\s*,?")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a server offers.

    Attributes:
        scheme: in lower case, ``basic`` or ``bearer`` for instance.
        parameters: by name in lower case.
    """

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """The challenges in ``headers``, in order; what is malformed ends its header.

    Args:
        headers: the value of each ``WWW-Authenticate`` header.
    """
    found: list[Challenge] = []
    for header in headers:
        position = 0
        current: Challenge | None = None
        while position < len(header):
            match = _PARAMETER.match(header, position)
            if match is not None and current is not None:
                quoted, plain = match.group(2), match.group(3)
                value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                current.parameters[match.group(1).lower()] = value
            else:
                match = _SCHEME.match(header, position)
                if match is None:
                    break
                current = Challenge(match.group(1).lower())
                found.append(current)
            position = match.end()
    return found
