"""A content-addressed store with ingest transactions.

The life of a blob, in the order in which data lives it:

1. Somebody opens a *writer* under a *ref*.  That begins an *ingest*, or resumes the one of that
   ref; as long as the writer is open, no other has it, in any process.
2. Bytes are appended and hashed.  They lie in ``ingest/<sha256 of the ref>/data``, and nobody
   sees them as content.  What is expected of them, a *digest* and a size, may be written down.
3. A writer that is closed, or killed, leaves the ingest as it is; the next one goes on.
4. *Commit* checks the size, then the digest, makes the data read-only and durable, and links it
   as ``blobs/<algorithm>/<hex>``: from that moment it is a *blob*, whole, immutable and named by
   its content.  Then the ingest is gone.
5. A blob is read by its path or by its digest until it is deleted.

::

    >>> import tempfile
    >>> root = tempfile.TemporaryDirectory()
    >>> store = Store(root.name)
    >>> with store.writer("greeting") as writer:
    ...     _ = writer.write(b"hello")
    ...     digest = writer.commit()
    >>> str(digest)
    'sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'
    >>> with store.open(digest) as blob:
    ...     blob.read()
    b'hello'
    >>> root.cleanup()

Synchronous, and safe from many threads and processes (one thread at a time for one writer).
`store.layout` has the folders, `store.writer` the commit sequence, `store.locks` the lock order,
`store.errors` the tree of errors.
"""

from __future__ import annotations

from store.blobs import Info
from store.digest import Digest, algorithms
from store.errors import (
    BeyondSize,
    Busy,
    Closed,
    DigestMismatch,
    Invalid,
    InvalidDigest,
    InvalidRef,
    InvalidSize,
    NotAppend,
    NotFound,
    NotRegular,
    ReadOnly,
    RefTooLong,
    Rejected,
    SizeMismatch,
    StoreError,
    UnsupportedAlgorithm,
)
from store.ingest import Status, parse_size
from store.refs import Ref
from store.store import Store
from store.writer import Writer

__all__ = [
    "BeyondSize",
    "Busy",
    "Closed",
    "Digest",
    "DigestMismatch",
    "Info",
    "Invalid",
    "InvalidDigest",
    "InvalidRef",
    "InvalidSize",
    "NotAppend",
    "NotFound",
    "NotRegular",
    "ReadOnly",
    "Ref",
    "RefTooLong",
    "Rejected",
    "SizeMismatch",
    "Status",
    "Store",
    "StoreError",
    "UnsupportedAlgorithm",
    "Writer",
    "algorithms",
    "parse_size",
]
