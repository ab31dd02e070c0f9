"""The behaviour suite, through the mount."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from store import Digest, Ref
from tests.contract import Contract, Door
from tests.fusefs.actors import elsewhere
from tests.fusefs.mounted import DIGEST, ERROR, EXPECTED_DIGEST, EXPECTED_SIZE, Mount, attribute

_DOTS = {".": "%2E", "..": "%2E%2E"}


class _Descriptor:
    """An ingest, open for writing."""

    def __init__(self, path: bytes) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)

    def write(self, data: bytes, at: int | None = None) -> None:
        """Write all of ``data`` at ``at``; by default at the end."""
        if at is None:
            at = os.fstat(self._fd).st_size
        assert os.pwrite(self._fd, data, at) == len(data)

    def truncate(self, size: int) -> None:
        """Make it ``size`` bytes long."""
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        """Make the bytes durable."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close it; this raises the verdict."""
        os.close(self._fd)


class MountDoor:
    """A store by way of the files of its mount."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount

    def _path(self, ref: str) -> bytes:
        name = _DOTS.get(ref) or ref.replace("%", "%25").replace("/", "%2F")
        return os.fsencode(self._mount.ingest) + b"/" + name.encode(errors="surrogatepass")

    def begin(self, ref: str) -> _Descriptor:
        """Begin or resume an ingest."""
        return _Descriptor(self._path(ref))

    def read(self, ref: str) -> bytes:
        """The bytes of an ingest, as another process sees them: we may see late names."""

        def read() -> bytes:
            with open(self._path(ref), "rb") as file:
                return file.read()

        return bytes(elsewhere(read))

    def refs(self) -> set[str]:
        """The ingests that there are."""
        names = os.listdir(os.fsencode(self._mount.ingest))
        return {Ref.from_file_name(name).text for name in names}

    def abort(self, ref: str) -> None:
        """Drop an ingest."""
        os.unlink(self._path(ref))

    def rename(self, old: str, new: str) -> None:
        """Give an ingest another ref."""
        os.rename(self._path(old), self._path(new))

    def truncate(self, ref: str, size: int) -> None:
        """Change the size of an ingest that nobody holds."""
        os.truncate(self._path(ref), size)

    def expect_digest(self, ref: str, digest: Digest | None) -> None:
        """Set or remove the expected digest."""
        self._set(ref, EXPECTED_DIGEST, None if digest is None else str(digest))

    def expect_size(self, ref: str, size: int | None) -> None:
        """Set or remove the expected size."""
        self._set(ref, EXPECTED_SIZE, None if size is None else str(size))

    def _set(self, ref: str, name: str, value: str | None) -> None:
        if value is None:
            os.removexattr(self._path(ref), name)
        else:
            os.setxattr(self._path(ref), name, value.encode())

    def expected(self, ref: str) -> tuple[str | None, int | None]:
        """The digest and the size that are expected."""
        size = self._get(ref, EXPECTED_SIZE)
        return self._get(ref, EXPECTED_DIGEST), None if size is None else int(size)

    def digest(self, ref: str) -> str:
        """The digest of the bytes so far."""
        found = self._get(ref, DIGEST)
        assert found is not None
        return found

    def error(self, ref: str) -> str | None:
        """Why the last verdict was no."""
        return self._get(ref, ERROR)

    def _get(self, ref: str, name: str) -> str | None:
        return attribute(self._path(ref), name)

    def blob(self, digest: Digest) -> bytes:
        """The bytes of a blob."""
        return (self._mount.blobs / digest.algorithm / digest.hex).read_bytes()

    def blobs(self) -> set[str]:
        """The digests of all blobs."""
        paths = self._mount.blobs.glob("*/*")
        return {f"{path.parent.name}:{path.name}" for path in paths}


@pytest.fixture
def door(mount: Mount) -> Iterator[Door]:
    """The mount as a door into a store that is empty."""
    yield MountDoor(mount)
    for name in os.listdir(os.fsencode(mount.ingest)):
        os.unlink(os.fsencode(mount.ingest) + b"/" + name)
    for blob in mount.root.glob("blobs/*/*"):
        blob.unlink()


class TestMount(Contract):
    """The behaviour suite, through the mount."""
