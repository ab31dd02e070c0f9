"""What can go wrong in a store, as one tree of exceptions.

::

    StoreError
    ├── Invalid                  the caller's words cannot mean anything (also a ValueError)
    │   ├── InvalidDigest
    │   │   └── UnsupportedAlgorithm
    │   ├── InvalidRef
    │   │   └── RefTooLong
    │   └── InvalidSize
    ├── NotFound                 no such blob, no such ingest (also a KeyError)
    ├── Busy                     another writer holds the ref
    ├── Closed                   the caller used a writer after its end
    ├── ReadOnly                 the store was opened to look only
    ├── NotAppend                a write or truncate before the end of an ingest
    ├── BeyondSize               a write beyond the expected size
    ├── Rejected                 a commit whose verdict was no: bytes kept, writable
    │   ├── SizeMismatch
    │   └── DigestMismatch
    └── NotRegular               something that is no file stands where a file should be

An error of the disk itself stays the `OSError` it is.  Every error carries its facts as
attributes, prints as one line that says what, where and what to do, and survives pickling
(its ``args`` are its constructor's arguments).
"""

from __future__ import annotations

__all__ = [
    "BeyondSize",
    "Busy",
    "Closed",
    "DigestMismatch",
    "Invalid",
    "InvalidDigest",
    "InvalidRef",
    "InvalidSize",
    "NotAppend",
    "NotFound",
    "NotRegular",
    "ReadOnly",
    "RefTooLong",
    "Rejected",
    "SizeMismatch",
    "StoreError",
    "UnsupportedAlgorithm",
]


_SHOWN = 120


def _shown(text: str) -> str:
    """``text`` for a message: on one line, and short even when a caller sent a megabyte."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


class StoreError(Exception):
    """The root of every error that the store itself raises."""


class Invalid(StoreError, ValueError):
    """A digest, ref or size that is not well formed.

    Attributes:
        text: what was given.
        reason: what is wrong with it.
    """

    noun = "value"

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text, reason)
        self.text = text
        self.reason = reason

    def __str__(self) -> str:
        return f"invalid {self.noun} {_shown(self.text)}: {self.reason}"


class InvalidDigest(Invalid):
    """Not ``<algorithm>:<lower-case hex>``."""

    noun = "digest"


class UnsupportedAlgorithm(InvalidDigest):
    """A well-formed digest in an algorithm that is unknown or not installed here."""


class InvalidRef(Invalid):
    """A ref, or the file name of one, that is not well formed."""

    noun = "ref"


class RefTooLong(InvalidRef):
    """A ref whose file name would be longer than 255 bytes."""


class InvalidSize(Invalid):
    """Not a decimal number of bytes between 0 and 2**63 - 1."""

    noun = "size"


class NotFound(StoreError, KeyError):
    """There is no such blob, or no such ingest.

    Attributes:
        kind: ``"blob"`` or ``"ingest"``.
        name: its digest or ref.
    """

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: not found"


class Busy(StoreError):
    """Another writer, in this process or another, holds the ref.

    Attributes:
        ref: the ref that is held.
        pid: the process that holds it, where the kernel tells; else None.
    """

    def __init__(self, ref: str, pid: int | None = None) -> None:
        super().__init__(ref, pid)
        self.ref = ref
        self.pid = pid

    def __str__(self) -> str:
        holder = "another writer" if self.pid is None else f"process {self.pid}"
        return f"ingest {self.ref}: held by {holder}; try again when it is done"


class Closed(StoreError):
    """A writer was used after it was closed, committed or aborted.

    Attributes:
        ref: the writer's ref.
    """

    def __init__(self, ref: str) -> None:
        super().__init__(ref)
        self.ref = ref

    def __str__(self) -> str:
        return f"ingest {self.ref}: this writer is closed; open another to go on"


class ReadOnly(StoreError):
    """A change was asked of a store that was opened read-only.

    Attributes:
        root: the store's folder.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.root = root

    def __str__(self) -> str:
        return f"store {self.root}: opened read-only"


class NotAppend(StoreError):
    """A write or truncate would change bytes that the ingest already holds.

    Attributes:
        ref: the ingest.
        offset: its present size in bytes.
        at: where the change would begin, in bytes.
    """

    def __init__(self, ref: str, offset: int, at: int) -> None:
        super().__init__(ref, offset, at)
        self.ref = ref
        self.offset = offset
        self.at = at

    def __str__(self) -> str:
        return (
            f"ingest {self.ref}: holds {self.offset} bytes and only grows; cannot change it at "
            f"{self.at} (truncate to 0 to start over)"
        )


class BeyondSize(StoreError):
    """A write or truncate would make the ingest longer than its expected size.

    Attributes:
        ref: the ingest.
        total: its expected size in bytes.
        end: the size that it would have had.
    """

    def __init__(self, ref: str, total: int, end: int) -> None:
        super().__init__(ref, total, end)
        self.ref = ref
        self.total = total
        self.end = end

    def __str__(self) -> str:
        return (
            f"ingest {self.ref}: {self.end} bytes would exceed its expected size of "
            f"{self.total}; correct the expectation or send less"
        )


class Rejected(StoreError):
    """A commit's verdict was no.  The ingest keeps all its bytes and stays writable.

    Attributes:
        ref: the ingest.
        expected: what it should have been (bytes, or a digest).
        found: what it is.
    """

    noun = "content"

    def __init__(self, ref: str, expected: object, found: object) -> None:
        super().__init__(ref, expected, found)
        self.ref = ref
        self.expected = expected
        self.found = found

    @property
    def verdict(self) -> str:
        """The reason alone, as ``user.content.error`` shows it."""
        return f"{self.noun} mismatch: expected {self.expected}, found {self.found}"

    def __str__(self) -> str:
        return f"ingest {self.ref}: {self.verdict}"


class SizeMismatch(Rejected):
    """The ingest holds more or fewer bytes than expected."""

    noun = "size"


class DigestMismatch(Rejected):
    """The bytes do not hash to the expected digest."""

    noun = "digest"


class NotRegular(StoreError):
    """A symlink, fifo, folder or device stands where a regular file should be.

    Attributes:
        path: where it stands.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path}: is not a regular file; move it out of the way"
