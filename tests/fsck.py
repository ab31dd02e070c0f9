"""What is true of every store at every moment, checked from outside."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from store import Store

__all__ = ["fsck", "recover"]

_HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


def fsck(root: Path) -> None:
    """Fail unless a store that nobody is changing is sound.

    Every blob is a read-only regular file whose bytes hash to its name, and every ingest that has
    a ref and data is in the list, with the size of its data.
    """
    for folder in _folders(root / "blobs"):
        for blob in folder.iterdir():
            if folder.name in _HEX_LENGTHS and len(blob.name) == _HEX_LENGTHS[folder.name]:
                _check_blob(blob)
    listed = {str(status.ref): status.offset for status in Store(root, read_only=True).active()}
    found = {}
    for folder in _folders(root / "ingest"):
        ref, data = folder / "ref", folder / "data"
        if _is_file(ref) and _is_file(data) and data.stat().st_nlink == 1:
            text = ref.read_bytes()
            if hashlib.sha256(text).hexdigest() == folder.name:
                found[text.decode()] = data.stat().st_size
    missing = {ref: size for ref, size in found.items() if listed.get(ref) != size}
    assert missing == {}, f"not listed, or with another size: {missing}"


def recover(root: Path) -> None:
    """Fail unless every ingest of a store can be resumed, and then dropped, leaving nothing."""
    fsck(root)
    store = Store(root)
    for status in list(store.active()):
        with store.writer(status.ref) as writer:
            assert writer.offset == status.offset
            store.expect_size(status.ref, None)
            writer.refresh()
            writer.write(b"more")
            store.expect_digest(status.ref, writer.digest())
            writer.sync()
        store.abort(status.ref)
    assert list(store.active()) == []
    fsck(root)


def _check_blob(blob: Path) -> None:
    assert _is_file(blob), f"{blob} is no regular file"
    assert stat.S_IMODE(blob.stat().st_mode) & 0o222 == 0, f"{blob} can be written to"
    with blob.open("rb") as file:
        found = hashlib.file_digest(file, blob.parent.name).hexdigest()
    assert found == blob.name, f"{blob} holds other bytes"


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return [each for each in path.iterdir() if each.is_dir() and not each.is_symlink()]


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
