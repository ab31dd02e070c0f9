"""The `contentfs` command: its words, and what it says when it cannot do what they ask."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from fusefs.daemon import fill_standard_descriptors, run_detached
from fusefs.logs import LEVELS, one_line, set_up_logging
from fusefs.mounterror import MountError
from fusefs.mountpoint import detach_dead, prepare, source_name
from fusefs.notify import notify
from fusefs.options import MountOptions, OptionError, parse_options

_INTERRUPTED = 128 + 2  # as a shell shows SIGINT

_DESCRIPTION = """\
Show the content store ROOT as a file system on MOUNTPOINT.

  MOUNTPOINT/blobs/<algorithm>/<hex>   what is stored, read-only, named by its digest
  MOUNTPOINT/ingest/<ref>              what is being stored: create, append, close

A file in ingest/ whose name is, or ends in @ and, a digest is verified when it is closed, and
from then on is in blobs/. Both folders must exist.
"""

_EPILOG = """\
options of -o (repeatable, joined by commas):
  ro               change nothing, and create nothing in ROOT, not even locks
  allow_delete     let rm delete blobs
  allow_other      let all users use the mount (others than root need user_allow_other in
                   /etc/fuse.conf)
  allow_root       let root use the mount of a user
  umask=OCTAL      take these permissions from all files shown, as umask=027
  uid=USER         show all files as owned by a user, by name or number
  gid=GROUP        the same for the group
  native_blobs     root only: the kernel reads blobs by itself, as fast as the files in ROOT/blobs,
                   which is bound read-only over blobs/. Blobs are then shown just as they are
                   stored: without extended attributes, not with allow_delete, umask, uid or gid;
                   changes fail with EROFS. To unmount: umount with an absolute path, umount -R or
                   -l, fusermount3 -uz, a signal; for others the bind is in the way (EBUSY)
  noexec, dev, suid, sync, noatime, nodiratime and the words that only mount(8) needs (auto,
  nofail, _netdev, x-systemd.automount, ...) mean what they mean for every mount.

examples:
  mkdir -p /srv/content /mnt/content
  contentfs /srv/content /mnt/content
  cp layer.tar /mnt/content/ingest/sha256:$(sha256sum < layer.tar | cut -c-64)
  ls -l /mnt/content/blobs/sha256
  umount /mnt/content                            (fusermount3 -u /mnt/content, if not root)

  contentfs -o ro,allow_other /var/lib/containerd/io.containerd.content.v1.content /mnt/images
  contentfs -f --log-level debug /srv/content /mnt/content      (^C ends it)

in /etc/fstab, with contentfs in /usr/local/bin or /usr/bin:
  /srv/content  /mnt/content  fuse.contentfs  allow_other,nofail  0  0

environment:
  CONTENTFS_FAST_LOOP=0   wait for requests as pyfuse3 does by itself: slower, if in doubt
  NOTIFY_SOCKET           with -f: where systemd is told READY=1 and STOPPING=1

exit status: 0 the mount answers, or with -f has ended; 1 it cannot be mounted, or failed; 2 the
command line is wrong.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The words after the command's name; those of this process if None.

    Returns:
        The exit status, as the help tells.

    Raises:
        SystemExit: After `--help`, `--version`, or a wrong command line.
    """
    fill_standard_descriptors()
    parser = _parser()
    words = parser.parse_args(arguments)
    try:
        options = parse_options(words.options)
    except OptionError as error:
        parser.error(f"-o: {error}")
    try:
        return _mount(words, options)
    except MountError as error:
        sys.stderr.write(f"contentfs: {one_line(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED  # not mounted yet: `run` has its own ways afterwards


def _mount(words: argparse.Namespace, options: MountOptions) -> int:
    root, point = prepare(words.root, words.mountpoint)
    source = source_name(words.root)
    log_file = None if words.log_file is None else os.path.join(os.getcwd(), words.log_file)

    def serve(ready: Callable[[], None]) -> int:
        set_up_logging(words.log_level, log_file, foreground=words.foreground)
        gc.disable()  # some 200 modules are coming that stay; `run` enables it again
        try:
            # Not before: trio and pyfuse3 take most of the time until the mount answers, and
            # what they set up does not survive the fork.
            from fusefs.mount import Request, run  # noqa: PLC0415
        except ImportError as error:
            raise MountError(f"cannot load {error.name or 'a module'}: {error}") from error
        return run(Request(root, source, point, options), ready)

    if words.foreground:
        return serve(lambda: notify("READY=1"))
    try:
        run_detached(serve)
    except MountError:
        detach_dead(point)  # if it was killed, it could not do so itself
        raise
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"contentfs: {one_line(message)} (contentfs --help tells more)\n")


class _Version(argparse.Action):
    """Look the version up only when it is asked for: it takes longer than all the rest."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

        try:
            number = version("contentfs")
        except PackageNotFoundError:
            number = "(not installed)"
        sys.stdout.write(f"contentfs {number}\n")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="contentfs",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("root", metavar="ROOT", help="the folder of the store")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="the folder to mount it on")
    parser.add_argument(
        "-f", "--foreground", action="store_true", help="serve in the foreground, log to stderr"
    )
    parser.add_argument(
        "-o",
        dest="options",
        metavar="OPT[,OPT...]",
        action="append",
        default=[],
        help="mount options, see below",
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", help="the least to be logged (info)"
    )
    parser.add_argument(
        "--log-file", metavar="FILE", help="log into a file instead of the system log"
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    for flag in ("-n", "-s", "-v"):  # mount(8) gives these to /sbin/mount.contentfs
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    return parser
