"""Where things lie in a store's folder, and back from a listing.  Pure: no system calls.

::

    ROOT/
      blobs/<algorithm>/<hex>            one file a blob
      ingest/<sha256 of the ref>/        one folder an ingest transaction
          ref  data  startedat  updatedat  total  expected  error  lock
      quarantine/<algorithm>/<hex>       a corrupt blob that ``dist verify`` has put away

This is the layout of containerd's content store (``plugins/content/local/store.go``), with
``expected``, ``error``, ``lock`` and ``quarantine`` added.  Nothing else in the package joins
paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from store.digest import Digest
from store.errors import InvalidDigest

if TYPE_CHECKING:
    from store.refs import Ref

__all__ = [
    "DATA",
    "ERROR",
    "EXPECTED",
    "INGEST_FILES",
    "LOCK",
    "REF",
    "STARTED",
    "TOTAL",
    "UPDATED",
    "Layout",
    "is_ingest_folder_name",
]

REF: Final = "ref"
DATA: Final = "data"
STARTED: Final = "startedat"
UPDATED: Final = "updatedat"
TOTAL: Final = "total"
EXPECTED: Final = "expected"
ERROR: Final = "error"
LOCK: Final = "lock"

# The order in which an ingest is dropped: without data it is none, and the lock guards to the end.
INGEST_FILES: Final = (DATA, ERROR, EXPECTED, TOTAL, STARTED, UPDATED, REF, LOCK)

_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_FOLDER_NAME_LENGTH: Final = 64


class Layout:
    """The paths of one store.

    Attributes:
        root: the store's folder, absolute.
        blobs: the folder of the algorithms' folders.
        ingests: the folder of the ingests' folders.
        quarantine: the folder of the folders of blobs that turned out to be corrupt.
    """

    __slots__ = ("blobs", "ingests", "quarantine", "root")

    def __init__(self, root: str) -> None:
        self.root = root
        self.blobs = f"{root.rstrip('/')}/blobs"
        self.ingests = f"{root.rstrip('/')}/ingest"
        self.quarantine = f"{root.rstrip('/')}/quarantine"

    def algorithm(self, algorithm: str) -> str:
        """The folder of one algorithm's blobs."""
        return f"{self.blobs}/{algorithm}"

    def blob(self, digest: Digest) -> str:
        """The file of a blob."""
        return f"{self.blobs}/{digest.algorithm}/{digest.hex}"

    def ingest(self, ref: Ref) -> str:
        """The folder of an ingest.  The ref is hashed, as containerd does, so any text is safe."""
        from hashlib import sha256  # noqa: PLC0415 - as in `store.digest.new_hash`

        return self.ingest_folder(sha256(ref.text.encode()).hexdigest())

    def ingest_folder(self, name: str) -> str:
        """The folder of an ingest, by the folder's own name."""
        return f"{self.ingests}/{name}"

    @staticmethod
    def digest_of(algorithm: str, name: str) -> Digest | None:
        """The digest whose blob would be called ``<algorithm>/<name>``; None for an odd name."""
        try:
            return Digest(algorithm, name)
        except InvalidDigest:
            return None


def is_ingest_folder_name(name: str) -> bool:
    """Whether a folder of this name may be an ingest's."""
    return len(name) == _FOLDER_NAME_LENGTH and _HEX_DIGITS.issuperset(name)
