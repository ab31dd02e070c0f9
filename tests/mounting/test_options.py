"""`-o`: what each option comes to, and what is refused."""

from __future__ import annotations

import pytest

from fusefs.options import MountOptions, OptionError, parse_options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", MountOptions()),
        (",,", MountOptions()),
        ("rw,defaults,auto,noauto,user,users,owner,group,_netdev,nofail", MountOptions()),
        ("nodev,nosuid,exec,atime,relatime,strictatime", MountOptions()),
        ("x-systemd.automount,x-a=b,X-c,user=me,comment=x", MountOptions()),
        ("ro", MountOptions(read_only=True)),
        ("ro,rw", MountOptions()),
        ("rw,ro", MountOptions(read_only=True)),
        ("allow_other,allow_delete", MountOptions(allow_other=True, allow_delete=True)),
        ("native_blobs,ro", MountOptions(native_blobs=True, read_only=True)),
        ("allow_root", MountOptions(allow_root=True)),
        ("noexec,dev,suid,noatime", MountOptions(kernel=("noexec", "dev", "suid", "noatime"))),
        ("noexec,exec,nodev,dev", MountOptions(kernel=("dev",))),
        ("umask=0", MountOptions(umask=0)),
        ("umask=27", MountOptions(umask=0o27)),
        ("umask=0777", MountOptions(umask=0o777)),
        ("uid=0,gid=4294967294", MountOptions(uid=0, gid=2**32 - 2)),
        ("uid=root,gid=root", MountOptions(uid=0, gid=0)),
        ("uid=1,uid=2", MountOptions(uid=2)),
    ],
)
def test_options_are_understood(text: str, expected: MountOptions) -> None:
    """What mount(8) alone needs is passed over, and of contradictions the last counts."""
    assert parse_options([text]) == expected


def test_repeated_options_add_up() -> None:
    """Several -o are one."""
    assert parse_options(["ro,uid=1", "allow_other"]) == parse_options(["ro,uid=1,allow_other"])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("frobnicate", "frobnicate"),
        ("ro,foo=bar,allow_other", "foo=bar"),
        ("ro=1", "ro=1"),
        ("max_read=4096", "max_read"),
        ("remount,ro", "unmount, then mount"),
        ("umask", "needs a value"),
        ("umask=", "umask"),
        ("umask=8", "umask=8"),
        ("umask=1777", "umask=1777"),
        ("umask=-1", "umask=-1"),
        ("umask=0o22", "umask=0o22"),
        ("umask=٢", "umask=٢"),
        ("uid=", "uid="),
        ("uid=-1", "uid=-1"),
        ("uid=4294967295", "largest"),
        ("uid=1_0", "uid=1_0"),
        ("uid=1\N{ARABIC-INDIC DIGIT ONE}", "uid="),
        ("uid= 1", "uid= 1"),
        ("gid=no-such-group-here", "no-such-group-here"),
        ("gid=a\0b", "gid="),
        ("allow_other,allow_root", "exclude each other"),
        ("native_blobs,allow_delete", "allow_delete"),
        ("umask=0,native_blobs", "umask"),
        ("native_blobs,uid=0", "uid"),
        ("native_blobs,gid=0", "gid"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    """The error tells which option it means."""
    with pytest.raises(OptionError) as caught:
        parse_options([text])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
