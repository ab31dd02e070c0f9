"""What the registry commands take alike: how to reach a registry, and work that ^C ends."""

from __future__ import annotations

import os
import threading
from argparse import ArgumentTypeError
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from store.dist import output
from store.dist.registry.connect import Client
from store.dist.registry.media import Platform
from store.dist.registry.options import Options
from store.dist.registry.reference import Repository
from store.dist.units import duration

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _ActionsContainer
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from store.dist.registry.retry import Notify

__all__ = ["Work", "add_connection", "add_jobs", "add_mirror", "add_platform", "connect"]

T = TypeVar("T")
R = TypeVar("R")

_MIRROR = "DIST_MIRROR"
_DEFAULTS = Options()
_JOBS = 4


def add_connection(parser: ArgumentParser) -> None:
    """Add how to reach a registry."""
    group = parser.add_argument_group(
        "how to reach the registry",
        """\
  Loopback is spoken to without TLS, unless --ca-file or --insecure says that it has it.
  Credentials are those that docker, podman and skopeo have; see docs/registries.md.""",
    )
    group.add_argument("--plain-http", action="store_true", help="speak http instead of https")
    group.add_argument("--ca-file", metavar="FILE", help="trust these certificates (PEM) as well")
    group.add_argument("--insecure", action="store_true", help="trust any certificate")
    group.add_argument(
        "--timeout",
        metavar="TIME",
        type=duration,
        default=_DEFAULTS.timeout,
        help="how long a connection may be silent (default: 60s)",
    )
    group.add_argument(
        "--retries",
        metavar="N",
        type=_count,
        default=_DEFAULTS.retries,
        help=f"how often to try again in a row (default: {_DEFAULTS.retries})",
    )


def add_mirror(parser: ArgumentParser) -> None:
    """Add what only reading can do: to ask a mirror first."""
    parser.add_argument(
        "--mirror",
        metavar="HOST",
        type=_host,
        help=f"ask this registry first, then the image's own (default: ${_MIRROR})",
    )


def add_platform(parser: _ActionsContainer, help_text: str) -> None:
    """Add the choice of one platform."""
    parser.add_argument("--platform", metavar="OS/ARCH[/VARIANT]", type=_platform, help=help_text)


def add_jobs(parser: ArgumentParser) -> None:
    """Add how many blobs are transferred at a time."""
    parser.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=_jobs,
        default=_JOBS,
        help=f"how many blobs at a time (default: {_JOBS})",
    )


def _platform(text: str) -> Platform:
    try:
        return Platform.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is no number of blobs")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _host(text: str) -> str:
    # Its name is checked with that of the repository that is asked for there.
    if not text or "/" in text:
        raise ArgumentTypeError(f"{text!r} is no HOST[:PORT]")
    return text


@contextmanager
def connect(options: Namespace, work: Work, notify: Notify = output.note) -> Iterator[Client]:
    """The client that the command line describes, for the time of the block.

    Args:
        options: with what `add_connection` added, and `add_mirror` perhaps.
        work: done by the client's means; it ends with the block, done or not.
        notify: told of pauses.
    """
    mirror: str | None = getattr(options, "mirror", None)
    if mirror is None and hasattr(options, "mirror"):
        mirror = os.environ.get(_MIRROR) or None
    chosen = Options(
        plain_http=options.plain_http,
        ca_file=options.ca_file,
        insecure=options.insecure,
        mirror=mirror,
        timeout=options.timeout,
        retries=options.retries,
    )
    if chosen.mirror is not None:
        Repository.parse(f"{chosen.mirror}/any")
    client = Client(chosen, work.cancel, notify)
    try:
        yield client
    finally:
        work.end()
        client.close()


class Work:
    """Work in threads, which ^C ends.

    The main thread only waits: a signal's exception must not come up inside libcurl.

    Attributes:
        cancel: set when the work is to end before it is done.
    """

    def __init__(self, threads: int) -> None:
        """Begin without a thread.

        Args:
            threads: at most so many at a time.
        """
        self.cancel = threading.Event()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="transfer")

    def one(self, do: Callable[[], R]) -> R:
        """What ``do`` returns or raises."""
        return self.each(lambda _: do(), [None])[0]()

    def each(self, do: Callable[[T], R], things: Iterable[T]) -> Sequence[Callable[[], R]]:
        """``do`` each of ``things``, whatever becomes of the others.

        Returns:
            In the order of ``things``, functions that return or raise what ``do`` did.
        """
        futures = [self._pool.submit(do, thing) for thing in things]
        wait(futures)
        return [future.result for future in futures]

    def end(self) -> None:
        """Cancel what is not done yet, and wait until nothing is under way."""
        self.cancel.set()
        self._pool.shutdown(cancel_futures=True)
