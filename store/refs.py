"""Refs: the keys of ingest transactions, and their three forms.

==========  ==========================================  =======================================
form        where                                       example
==========  ==========================================  =======================================
text        the ``ref`` file, ``dist``, Python          ``docker.io/library/redis@sha256:01…``
file name   ``MOUNTPOINT/ingest/``                      ``docker.io%2Flibrary%2Fredis@sha256:01…``
folder      ``ROOT/ingest/``                            sha256 of the text, in hex (containerd's)
==========  ==========================================  =======================================
"""

from __future__ import annotations

from store.digest import Digest
from store.errors import InvalidDigest, InvalidRef, RefTooLong

__all__ = ["Ref"]

_NAME_MAX = 255
_DOTS = {".": "%2E", "..": "%2E%2E"}


class Ref:
    """The key of an ingest transaction.  Immutable and hashable.

    A `Ref` that exists is non-empty UTF-8 without NUL whose file name fits into 255 bytes.

    Attributes:
        text: the ref itself.
        file_name: its name under ``MOUNTPOINT/ingest/``: ``%`` as ``%25``, ``/`` as ``%2F``,
            and the refs ``.`` and ``..`` as ``%2E`` and ``%2E%2E``.
    """

    __slots__ = ("file_name", "text")

    text: str
    file_name: bytes

    def __init__(self, text: str) -> None:
        """Check ``text``.

        Raises:
            InvalidRef: it is empty, holds a NUL, or is not UTF-8.
            RefTooLong: its file name would be longer than 255 bytes.
        """
        if not text:
            raise InvalidRef(text, "it is empty")
        if "\0" in text:
            raise InvalidRef(text, "it holds a NUL character")
        escaped = _DOTS.get(text) or text.replace("%", "%25").replace("/", "%2F")
        try:
            file_name = escaped.encode()
        except UnicodeEncodeError:
            raise InvalidRef(text, "it is not valid UTF-8") from None
        if len(file_name) > _NAME_MAX:
            reason = f"its file name has {len(file_name)} bytes; {_NAME_MAX} are the limit"
            raise RefTooLong(text, reason)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "file_name", file_name)

    @classmethod
    def from_file_name(cls, name: bytes) -> Ref:
        """The ref whose `file_name` is ``name``.

        Raises:
            InvalidRef: ``name`` is no ref's file name, for instance because it holds a ``%``
                that starts neither ``%25`` nor ``%2F``.
            RefTooLong: it is longer than 255 bytes.
        """
        if len(name) > _NAME_MAX:
            reason = f"its file name has {len(name)} bytes; {_NAME_MAX} are the limit"
            raise RefTooLong(name.decode(errors="replace"), reason)
        try:
            escaped = name.decode()
        except UnicodeDecodeError:
            shown = name.decode(errors="backslashreplace")
            raise InvalidRef(shown, "it is not valid UTF-8") from None
        for text, form in _DOTS.items():
            if escaped == form:
                return cls(text)
        ref = cls(escaped.replace("%2F", "/").replace("%25", "%"))
        if ref.file_name != name:
            raise InvalidRef(escaped, "as a file name it has % as %25 and / as %2F, no other %")
        return ref

    @property
    def implied_digest(self) -> Digest | None:
        """The digest that the ref itself names: it is one, or ends in ``@`` and one."""
        candidate = self.text.rpartition("@")[2]
        try:
            return Digest.parse(candidate)
        except InvalidDigest:
            return None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Ref is immutable: cannot set {name}")

    def __reduce__(self) -> tuple[type[Ref], tuple[str]]:
        return type(self), (self.text,)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Ref({self.text!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        return self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)
