"""The `-o` options of a mount: what they mean to us, to libfuse, and to mount(8) alone."""

from __future__ import annotations

import dataclasses
import grp
import pwd
import re
from collections.abc import Callable, Iterable

# Each row is one switch of the kernel with all its positions; of several given, the last counts,
# as for mount(8). The first position is what a mount of ours has anyway, so it is not handed on.
_SWITCHES = (
    ("nodev", "dev"),
    ("nosuid", "suid"),
    ("exec", "noexec"),
    ("async", "sync"),
    ("atime", "noatime"),
    ("diratime", "nodiratime"),
)
_SWITCH_OF = {word: row for row in _SWITCHES for word in row}

# What mount(8), systemd and fstab say to themselves. Access times are the server's business in
# FUSE, and ours never change, so the finer points of atime come to nothing.
_NOT_FOR_US = frozenset(
    (
        *("auto", "noauto", "user", "nouser", "users", "nousers", "owner", "group"),
        *("defaults", "_netdev", "nofail", "silent", "loud", "mand", "nomand"),
        *("relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime"),
        *("iversion", "noiversion"),
    )
)
_NOT_FOR_US_BEGINNINGS = ("x-", "X-", "user=", "comment=")

_MAX_ID = 2**32 - 2  # the kernel keeps 2**32 - 1 for "no change"


class OptionError(ValueError):
    """An option that is not known, malformed, or contradicts another; the text names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class MountOptions:
    """What the `-o` options of one mount ask for.

    Attributes:
        allow_other: Every user may use the mount.
        allow_root: Root may use the mount beside the user who mounts.
        read_only: Nothing may be changed, neither in the store nor through the mount.
        allow_delete: Blobs may be deleted through the mount.
        native_blobs: The kernel is to read blobs without asking us.
        umask: Permission bits taken from every file shown, or None for the store's own.
        uid: The owner shown for every file, or None for the stored one.
        gid: The group shown for every file, or None for the stored one.
        kernel: Mount flags that differ from the default, as libfuse spells them (`noexec`).
    """

    allow_other: bool = False
    allow_root: bool = False
    read_only: bool = False
    allow_delete: bool = False
    native_blobs: bool = False
    umask: int | None = None
    uid: int | None = None
    gid: int | None = None
    kernel: tuple[str, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether other users than the one who mounts can reach the mount at all."""
        return self.allow_other or self.allow_root


def parse_options(texts: Iterable[str]) -> MountOptions:
    """Read the values of all `-o` of a command line, in their order.

    Args:
        texts: Each a list of options joined by commas, as mount(8) hands it over. Empty options
            are passed over, since mount(8) makes some. Where an option is repeated or taken back
            (`ro,rw`), the last one counts.

    Raises:
        OptionError: An option is unknown or malformed, or two of them exclude each other.
    """
    ours: dict[str, bool | int] = {}
    switches: dict[tuple[str, ...], str] = {}
    for option in (option for text in texts for option in text.split(",") if option):
        name, equals, value = option.partition("=")
        if equals and name in _VALUES:
            ours[name] = _VALUES[name](option, value)
        elif option in _FLAGS:
            field, setting = _FLAGS[option]
            ours[field] = setting
        elif option in _SWITCH_OF:
            switches[_SWITCH_OF[option]] = option
        elif option not in _NOT_FOR_US and not option.startswith(_NOT_FOR_US_BEGINNINGS):
            raise _unknown(option)
    if ours.get("allow_other") and ours.get("allow_root"):
        raise OptionError("allow_other and allow_root exclude each other: choose one")
    if ours.get("native_blobs"):
        for name in ("allow_delete", *_VALUES):
            if name in ours:
                raise OptionError(f"native_blobs shows blobs just as they are stored: no {name}")
    kernel = tuple(word for row, word in switches.items() if word != row[0])
    return MountOptions(**ours, kernel=kernel)  # type: ignore[arg-type]


def _unknown(option: str) -> OptionError:
    name = option.partition("=")[0]
    if name == "remount":
        return OptionError("remount is not possible with FUSE: unmount, then mount again")
    if name in _VALUES:
        return OptionError(f"option {name} needs a value: {name}=...")
    return OptionError(f"unknown option {option!r}")


def _umask(option: str, value: str) -> int:
    if not re.fullmatch(r"0?[0-7]{1,3}", value, re.ASCII):
        raise OptionError(f"{option!r}: umask is one to three octal digits, such as umask=027")
    return int(value, 8)


def _identity(option: str, value: str, look_up: Callable[[str], int], kind: str) -> int:
    # A number is taken as one even where a user has it for a name, as chown(1) does not, but as
    # mount(8) does: fstab must mean the same on a machine that lacks the user.
    if re.fullmatch(r"[0-9]{1,10}", value, re.ASCII):
        if int(value) > _MAX_ID:
            raise OptionError(f"{option!r}: the largest {kind} number is {_MAX_ID}")
        return int(value)
    try:
        return look_up(value)
    except (KeyError, ValueError):  # ValueError: what cannot be encoded, or holds NUL
        raise OptionError(f"{option!r}: there is no {kind} of that name or number") from None


def _uid(option: str, value: str) -> int:
    return _identity(option, value, lambda name: pwd.getpwnam(name).pw_uid, "user")


def _gid(option: str, value: str) -> int:
    return _identity(option, value, lambda name: grp.getgrnam(name).gr_gid, "group")


_FLAGS = {
    "allow_other": ("allow_other", True),
    "allow_root": ("allow_root", True),
    "allow_delete": ("allow_delete", True),
    "native_blobs": ("native_blobs", True),
    "ro": ("read_only", True),
    "rw": ("read_only", False),
}
_VALUES: dict[str, Callable[[str, str], int]] = {"umask": _umask, "uid": _uid, "gid": _gid}
