"""From a store and a mountpoint to a mount that is served, and back."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import re
import signal
from collections.abc import Callable, Iterator

import pyfuse3
import trio

from fusefs import loop
from fusefs.firstanswer import FirstAnswer
from fusefs.mounterror import MountError
from fusefs.mounts import FILESYSTEM_TYPE, Mount, topmost
from fusefs.native import NativeBlobs, NativeOperations, make_folders
from fusefs.operations import ContentOperations
from fusefs.options import MountOptions
from fusefs.serve import ENDING_SIGNALS, serve
from store import Store, StoreError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What is to be mounted, where and how.

    Attributes:
        root: The folder of the store, absolute.
        source: What the table of mounts is to show as the source.
        point: The folder to mount on, absolute and without symbolic links.
        options: The options of the mount.
    """

    root: str
    source: str
    point: str
    options: MountOptions


def run(request: Request, ready: Callable[[], None]) -> int:
    """Mount, serve until the end, and leave nothing behind; one mount a process.

    Args:
        request: What to mount.
        ready: Called once, when the mount answers.

    Returns:
        The exit status: 0 after an unmount or a signal, 1 after a failure that the log tells.

    Raises:
        MountError: It could not be mounted; nothing has changed.
    """
    try:
        store = Store(request.root, read_only=request.options.read_only)
    except (OSError, StoreError) as error:
        raise MountError(f"cannot open the store {request.root}: {error}") from error
    if request.options.native_blobs:
        make_folders(store)
    # From here to the end a signal must find somebody who unmounts.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    kind = NativeOperations if request.options.native_blobs else ContentOperations
    operations = kind(
        store,
        allow_delete=request.options.allow_delete,
        read_only=request.options.read_only,
        umask=request.options.umask,
        uid=request.options.uid,
        gid=request.options.gid,
    )
    mount, connection = _mount(operations, request)
    then = None
    if isinstance(operations, NativeOperations):
        programs = "noexec" not in request.options.kernel
        operations.native = NativeBlobs(store.layout.blobs, mount, programs=programs)
        operations.connection = connection
        then = operations.native.bind
    answer = FirstAnswer(request.point, then)
    gc.freeze()
    gc.enable()
    try:
        trio.run(serve, mount, connection, answer, operations, ready)
    except MountError:
        raise
    except Exception:  # noqa: BLE001 - whatever it was: it is logged, and the mount is gone
        _log.exception("the mount on %s has failed, and is unmounted", request.point)
        return 1
    finally:
        # Another signal must not kill us on the last steps, and as an exit status. To block them
        # would not do: worker threads have masks of their own.
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # `serve` has unmounted; by its path pyfuse3 might hit what has been mounted since.
        pyfuse3.close(unmount=False)
        answer.close()
    _log.info("%s is unmounted", request.point)
    return 0


def _mount(operations: pyfuse3.Operations, request: Request) -> tuple[Mount, int]:
    """Call pyfuse3.init(), and find out what it keeps to itself."""
    with _standard_error_caught() as said:
        try:
            pyfuse3.init(operations, request.point, _fuse_options(request))  # type: ignore[arg-type]
        except RuntimeError as error:
            raise MountError(f"cannot mount on {request.point}: {said() or error}") from error
        if warning := said():
            _log.warning("%s", warning)
    try:
        mount, connection = _mounted(request.point), _connection()
        loop.install(connection)
    except BaseException:
        pyfuse3.close()
        raise
    return mount, connection


def _fuse_options(request: Request) -> list[str]:
    """Put the options into libfuse's words; a list, because of several the last counts there."""
    options = request.options
    words = [f"fsname={_escaped(request.source)}", "subtype=contentfs", *options.kernel]
    if options.allow_other or options.allow_root:
        # Who may see a mount of their own is stopped by the store's own permissions. Others go
        # through our process, so the kernel has to check what is shown. It costs a GETATTR of
        # the folder with every file that is made.
        words += ["allow_other" if options.allow_other else "allow_root", "default_permissions"]
    if options.read_only:
        words.append("ro")
    return [_Encodable(word) for word in words]


def _escaped(value: str) -> str:
    return re.sub(r"([,\\])", r"\\\1", value)


class _Encodable(str):
    """Text that any encoding leaves as the bytes of a file name: pyfuse3 asks for ASCII."""

    __slots__ = ()

    def encode(self, encoding: str = "", errors: str = "") -> bytes:  # noqa: ARG002
        return os.fsencode(str(self))


def _mounted(point: str) -> Mount:
    """Find what libfuse has just mounted."""
    mount = topmost(point)
    if mount is None or mount.kind != FILESYSTEM_TYPE:
        raise MountError(f"the mount on {point} was taken away at once")
    return mount


def _connection() -> int:
    """Find our descriptor of /dev/fuse."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists them is closed by now
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/fuse":
                return int(name)
    raise MountError("libfuse has mounted, but its connection is not to be found")


@contextlib.contextmanager
def _standard_error_caught() -> Iterator[Callable[[], str]]:
    """Catch what libfuse and fusermount3 print on standard error.

    Yields:
        A function that returns what has been said so far, in one line.
    """
    caught = os.memfd_create("stderr")
    standard_error = os.dup(2)
    os.dup2(caught, 2)

    def said() -> str:
        text = os.pread(caught, 4096, 0).decode(errors="replace")
        return "; ".join(line.strip() for line in text.splitlines() if line.strip())

    try:
        yield said
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)
        os.close(caught)
