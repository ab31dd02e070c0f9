"""The place where a run measures: its folder, the files that rows share, and the clean-up."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final, Self

from tests.bench.model import Wrong

MIB: Final = 1024 * 1024
SMALL: Final = 4096

# As much as the largest work takes: 1 GiB twice in the page cache, 100,000 inodes twice.
_SPARE: Final = 2560 * MIB
_SPARE_QUICK: Final = 512 * MIB

ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A file to be copied: its path, size in bytes, and SHA-256 in hex."""

    path: str
    size: int
    hex: str


def run(*command: str, output: str | None = None, source: str | None = None) -> None:
    """Run a program to its end.

    Args:
        command: its words.
        output: a file for its standard output, dropped if None.
        source: a file for its standard input.

    Raises:
        Wrong: it failed; the text is what it said.
    """
    with open(output or os.devnull, "wb") as stdout, open(source or os.devnull, "rb") as stdin:
        done = subprocess.run(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            check=False,
        )
    if done.returncode != 0:
        raise Wrong(f"{' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")


def remove(folder: str) -> None:
    """Remove a folder, but nothing through a mount that is still in it."""
    run("rm", "-rf", "--one-file-system", folder)


def timed(action: Callable[[], object]) -> float:
    """How many seconds an action takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


class Lab:
    """A folder for one run, and everything in it.

    A context manager: its end removes all of that, whatever happened.

    Attributes:
        quick: whether the work is an eighth to a tenth of what the goals are about.
        notes: what whoever reads the results has to know.
        folder: where everything is.
    """

    def __init__(self, folder: str, *, quick: bool) -> None:
        """Make the folder.

        Args:
            folder: where; its file system is what is measured.
            quick: whether the work is an eighth to a tenth of what the goals are about.
        """
        self.quick = quick
        self.notes: list[str] = []
        self.folder = tempfile.mkdtemp(prefix=".bench-", dir=folder)
        self._ends = contextlib.ExitStack()
        self._ends.callback(remove, self.folder)
        self._number = 0
        self._sources: dict[int, Source] = {}
        self._trees: dict[int, str] = {}

    def __enter__(self) -> Self:
        """As it is."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        self._ends.__exit__(kind, error, trace)

    # --------------------------------------------------------------------------------------- sizes

    def bytes(self, full: int) -> int:
        """A number of bytes, less of them in a quick run."""
        return full // 8 if self.quick else full

    def count(self, full: int) -> int:
        """A number of files, less of them in a quick run."""
        return full // 10 if self.quick else full

    # --------------------------------------------------------------------------------------- paths

    def new_path(self, name: str) -> str:
        """A path of this lab that nothing has."""
        self._number += 1
        return os.path.join(self.folder, f"{self._number}-{name}")

    def new_folder(self, name: str) -> str:
        """A new, empty folder."""
        path = self.new_path(name)
        os.mkdir(path)
        return path

    @contextlib.contextmanager
    def folder_for_now(self, name: str) -> Iterator[str]:
        """A new folder that is gone afterwards."""
        path = self.new_folder(name)
        try:
            yield path
        finally:
            remove(path)

    # --------------------------------------------------------------------------------- shared files

    def source(self, size: int) -> Source:
        """A file of random bytes, the same for all, in the page cache."""
        if size not in self._sources:
            path = self.new_path("source")
            digest = hashlib.sha256()
            with open(path, "wb") as file:
                for _ in range(size // MIB):
                    part = os.urandom(MIB)
                    digest.update(part)
                    file.write(part)
            self._sources[size] = Source(path, size, digest.hexdigest())
        source = self._sources[size]
        warm(source.path)
        return source

    def store_of(self, count: int) -> str:
        """The root of a store with many blobs of 4 KiB; shared, so only to be looked at.

        They are holes: a listing does not see that, and to make and to remove the blocks of a
        million files takes longer than all listings of them.
        """
        if count not in self._trees:
            say(f"making {count:,} blobs")
            root = self.new_folder("store")
            names = (hashlib.sha256(b"%d" % number).hexdigest() for number in range(count))
            with _blob_folder(root) as folder:
                for name in names:
                    fd = _new_blob(name, folder)
                    os.truncate(fd, SMALL)
                    os.close(fd)
            self._trees[count] = root
        return self._trees[count]

    # --------------------------------------------------------------------------------------- state

    def note(self, text: str) -> None:
        """Say something that whoever reads the results has to know."""
        if text not in self.notes:
            self.notes.append(text)
            say(f"  {text}")

    def settle(self) -> None:
        """Write back what is dirty here, so that nobody pays for what another left behind.

        And take and give back the memory that the work may need. A virtual machine may return
        what has been free for two seconds to its host (free page reporting of virtio-balloon);
        to get such a page again takes ten times as long as to write to it. To be called right
        before each measurement, or that of who comes first after a pause is one of the host.
        """
        run("sync", "-f", self.folder)
        size = min(_SPARE_QUICK if self.quick else _SPARE, _available() // 4)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        mmap.mmap(-1, size, flags=flags).close()


def fill(root: str, contents: Iterable[bytes]) -> list[str]:
    """Make a store with these blobs, behind everyone's back; their names in hex, in order."""
    names = []
    with _blob_folder(root) as folder:
        for content in contents:
            name = hashlib.sha256(content).hexdigest()
            fd = _new_blob(name, folder)
            os.write(fd, content)
            os.close(fd)
            names.append(name)
    return names


@contextlib.contextmanager
def _blob_folder(root: str) -> Iterator[int]:
    folder = os.path.join(root, "blobs", "sha256")
    os.makedirs(folder, exist_ok=True)
    os.makedirs(os.path.join(root, "ingest"), exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _new_blob(name: str, folder: int) -> int:
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444, dir_fd=folder)


def _available() -> int:
    """How many bytes of memory can be had without swapping."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    raise Wrong("/proc/meminfo tells nothing of MemAvailable")


def warm(path: str) -> None:
    """Bring a file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(MIB)
        while file.readinto(buffer):
            pass


def drop_caches() -> None:
    """Empty the kernel's caches of pages, names and inodes; what is dirty stays."""
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3\n")


def expect_digest(path: str, wanted: str) -> None:
    """See that a file has the content that it should.

    Raises:
        Wrong: it has not, or is not there.
    """
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Wrong(str(error)) from error
    if found != wanted:
        raise Wrong(f"{path} holds {found} instead of {wanted}")


def say(text: str) -> None:
    """Tell how the run goes on."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
