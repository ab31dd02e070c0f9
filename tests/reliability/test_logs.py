"""The log as an operator reads it: a line for each event worth knowing, and none for a mistake."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from tests.reliability.disks import mounted_disk
from tests.reliability.mounted import Mounted, can_mount, eventually

pytestmark = can_mount

_A = sha256(b"a").hexdigest()
_AB = sha256(b"ab").hexdigest()


def events(mounted: Mounted) -> list[str]:
    """The lines of the log above the level of debugging, without their times."""
    lines = [line.split(" ", 2)[2] for line in mounted.text().splitlines()]
    return [line for line in lines if not line.startswith("DEBUG")]


def test_every_event_is_one_line_that_says_what_happened(tmp_path: Path) -> None:
    """Digest, size, ref and time of what was stored; the reason of what was not."""
    mounted = Mounted(tmp_path, "-o", "allow_delete")
    try:
        mounted.start()
        ingest = mounted.ingest
        (ingest / f"sha256:{_A}").write_bytes(b"a")
        (ingest / "one").write_bytes(b"a")
        with (ingest / "one").open("ab") as file:
            file.write(b"b")
        with contextlib.suppress(OSError):
            os.setxattr(ingest / "one", "user.content.expected-digest", f"sha256:{_A}".encode())
        os.rename(ingest / "one", ingest / "two")
        os.setxattr(ingest / "two", "user.content.expected-digest", f"sha256:{_AB}".encode())
        (ingest / "three\nERROR").write_bytes(b"a")
        (ingest / "three\nERROR").write_bytes(b"b")
        (ingest / "three\nERROR").unlink()
        (mounted.blobs / _A).unlink()
        assert mounted.unmount() == 0
        took = r"in \d+\.\d{3} s"
        mismatch = f"digest mismatch: expected sha256:{_A}, found sha256:{_AB}"
        wanted = [
            rf"INFO \S+ {re.escape(str(mounted.root))} is mounted on {mounted.point}",
            rf"INFO \S+ committed sha256:{_A}, 1 bytes, from ingest sha256:{_A} {took}",
            r"INFO \S+ ingest one: resumed, at 1 bytes",
            rf"WARNING \S+ refused ingest one: {mismatch}",
            r"INFO \S+ ingest one: renamed to two",
            rf"INFO \S+ committed sha256:{_AB}, 2 bytes, from ingest two {took}",
            r"INFO \S+ ingest three\S*( \| )?ERROR: started over, dropping 1 bytes",
            r"INFO \S+ ingest three\S*( \| )?ERROR: aborted",
            rf"INFO \S+ deleted sha256:{_A}",
            rf"INFO \S+ {mounted.point} is unmounted",
        ]
        said = events(mounted)
        assert len(said) == len(wanted), "\n".join(said)
        for line, pattern in zip(said, wanted, strict=True):
            assert re.fullmatch(pattern, line), f"{line!r} is not {pattern!r}"
    finally:
        mounted.stop()


def test_a_users_mistake_is_no_event(tmp_path: Path) -> None:
    """Bad names, writes before the end, what is never allowed: the user is told, not the log."""
    mounted = Mounted(tmp_path)
    try:
        mounted.start()
        assert eventually(lambda: "is mounted on" in mounted.text())
        before = events(mounted)
        (mounted.ingest / "one").write_bytes(b"a")
        for command in (
            "touch ingest/%zz",
            "mkdir ingest/folder",
            "rm -rf blobs/sha256",
            "cat ingest/nothing blobs/sha256/0",
            "ln -s x ingest/link",
            "truncate -s 5 blobs/sha256/x",
            "mv ingest/one blobs/sha256/",
            "mv ingest/nothing ingest/two",
            "chmod 777 blobs",
        ):
            done = subprocess.run(
                ["sh", "-c", command], cwd=mounted.point, capture_output=True, check=False
            )
            assert done.returncode, command
        assert events(mounted) == before
    finally:
        mounted.stop()


def test_a_trouble_of_the_disk_is_an_error_with_its_place(tmp_path: Path) -> None:
    """A full disk is told of in a line with the ingest or the path, and no traceback."""
    with mounted_disk("tmpfs", "1M", tmp_path) as root:
        mounted = Mounted(tmp_path, root=root)
        try:
            mounted.start()
            with pytest.raises(OSError, match="No space left"):
                (mounted.ingest / "large").write_bytes(bytes(2_000_000))
            (line,) = [line for line in events(mounted) if "INFO" not in line]
            assert re.fullmatch(r"ERROR \S+ .*No space left on device.*large.*", line), line
        finally:
            mounted.stop()
