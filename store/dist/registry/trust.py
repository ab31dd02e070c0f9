"""The certificates that this system trusts.

libcurl as pycurl's wheels bring it looks where the system that built it keeps them, so the file
is found here, in the places where OpenSSL, Python and Go look.
"""

from __future__ import annotations

import os
import ssl

from store.dist.registry.errors import BadCredentials

__all__ = ["trusted_folder", "trusted_pem"]

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSD, and much else
)


def trusted_pem(extra: str | None) -> bytes:
    """The certificates to trust, in PEM: the system's, and those in the file ``extra``.

    ``$SSL_CERT_FILE`` takes the place of the system's.

    Raises:
        BadCredentials: ``extra`` or ``$SSL_CERT_FILE`` cannot be read.
    """
    named = os.environ.get("SSL_CERT_FILE")
    system = _read(named) if named else _system()
    return system + b"\n" + _read(extra) if extra is not None else system


def trusted_folder() -> str | None:
    """A folder of single certificates in OpenSSL's form to trust besides; None: there is none."""
    folder = os.environ.get("SSL_CERT_DIR") or ssl.get_default_verify_paths().capath
    return folder if folder and os.path.isdir(folder) else None


def _system() -> bytes:
    for path in (ssl.get_default_verify_paths().cafile, *_BUNDLES):
        if path and os.path.isfile(path):
            return _read(path)
    return b""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BadCredentials(path, f"cannot be read: {error.strerror}") from None
