"""The daemon, with a thread that tells whoever connects how much it remembers.

Run as the `contentfs` command.  Nothing of the daemon is changed for it but that its operations
are remembered when they are made.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from typing import Any

import fusefs.mount
from fusefs.cli import main
from fusefs.operations import ContentOperations

_made: list[ContentOperations] = []


class _Remembered(ContentOperations):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        _made.append(self)


def _counts() -> dict[str, int]:
    (operations,) = _made
    nodes = operations._ingests.nodes
    return {
        "files": len(operations._files._handles),
        "folders": len(operations._folders),
        "open blobs": len(operations._blobs._open),
        "blob inodes": len(operations._blobs._inodes),
        "ingest inodes": len(nodes),
        "refs": len(nodes._by_ref),
        "threads": threading.active_count(),
    }


def _serve(listener: socket.socket) -> None:
    while True:
        channel, _ = listener.accept()
        with channel:
            channel.sendall(json.dumps(_counts()).encode())


if __name__ == "__main__":
    vars(fusefs.mount)["ContentOperations"] = _Remembered
    path = os.environ["WATCH_SOCKET"]
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(path)
    listening.listen()
    threading.Thread(target=_serve, args=(listening,), daemon=True).start()
    sys.exit(main())
