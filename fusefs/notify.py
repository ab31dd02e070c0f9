"""Telling systemd how far we are, see sd_notify(3)."""

from __future__ import annotations

import logging
import os
import socket

_log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send a state such as `READY=1` to the service manager, if one waits for it.

    Args:
        state: One or more lines `NAME=value`.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # the abstract name space
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)
            channel.send(state.encode())
    except OSError as error:
        _log.warning("cannot tell the service manager %s: %s", state, error)
