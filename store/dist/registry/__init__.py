"""A client for registries that speak the OCI distribution API.

::

    Client(Options(…), cancel, notify)      connect.py
    ├── source(Repository) -> Source        source.py       manifests and blobs to read
    └── destination(Repository)             destination.py  blobs, mounts, manifests to write
          both through
    Session                                 session.py      credentials, redirects, refusals
    ├── Authorizer                          auth.py         tokens; challenge.py, credentials.py
    ├── Patience                            retry.py        when to ask again
    └── Transport                           messages.py     what a request and a response are
        └── Curl                            transport.py    the only user of pycurl (and trust.py)

Names are parsed once: `Repository` and `Image` (reference.py), `Manifest`, `Descriptor` and
`Platform` (media.py).  Everything is synchronous; whoever wants several transfers at a time calls
from several threads.  The package knows digests and errors of the store, and no store.
"""
