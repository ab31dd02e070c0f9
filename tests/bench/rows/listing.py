"""Listings of many blobs, by the programs that people list with."""

from __future__ import annotations

import functools
import os
import re
import resource
from collections.abc import Callable, Sequence
from typing import Final

from tests.bench import mounts
from tests.bench.lab import Lab, run, timed
from tests.bench.model import OURS, Case, Row, Wrong, faster, times

_MANY: Final = 100_000
_MORE: Final = 1_000_000

_Check = Callable[[bytes], int]


def _lines_less(number: int) -> _Check:
    return lambda text: text.count(b"\n") - number


def _tree_count(text: bytes) -> int:
    found = re.search(rb"(\d+) files?\n\Z", text)
    return int(found[1]) if found else -1


# A command, and how many files its output tells of.
_COMMANDS: Final[dict[str, tuple[Sequence[str], _Check]]] = {
    "ls -U": (("ls", "-U"), _lines_less(0)),
    "find": (("find",), _lines_less(1)),
    "du": (("du", "-a"), _lines_less(1)),
    "tree": (("tree",), _tree_count),
    "ls -l": (("ls", "-l"), _lines_less(1)),
}
_QUICK: Final = ("ls -U", "find", "du", "tree")


def _list(root: str, count: int, commands: Sequence[str], lab: Lab, view: str) -> dict[str, float]:
    """Time each command on a fresh mount, the backing folder's inodes being in memory."""
    sample = {}
    run("ls", "-l", mounts.Mount(root).blobs)
    for name in commands:
        words, counted = _COMMANDS[name]
        output = lab.new_path("listing")
        with mounts.VIEWS[view](lab, root) as mount:
            command = functools.partial(run, *words, mount.blobs, output=output)
            lab.settle()
            sample[name] = timed(command)
        with open(output, "rb") as file:
            found = counted(file.read())
        os.unlink(output)
        if found != count:
            raise Wrong(f"{name} tells of {found} files instead of {count}")
    return sample


def _list_less(count: int, lab: Lab) -> dict[str, float]:
    """What passthrough_ll would take if it might open more files than it may here.

    It keeps a descriptor for each file seen. Its time grows with their number as everyone's does.
    """
    less = min(count, resource.getrlimit(resource.RLIMIT_NOFILE)[1] * 3 // 4)
    sample = _list(lab.store_of(less), less, tuple(_COMMANDS), lab, "passthrough_ll")
    if less < count:
        lab.note(
            f"list: passthrough_ll lists {less:,} blobs, all that its descriptors allow here;"
            f" its times are multiplied by {count / less:.3g}"
        )
    return {name: seconds * count / less for name, seconds in sample.items()}


def _cases(lab: Lab) -> Sequence[Case]:
    count = lab.count(_MANY)
    measure = functools.partial(_list, lab.store_of(count), count, tuple(_COMMANDS), lab)
    return (
        *(Case(view, functools.partial(measure, view)) for view in ("bare", OURS)),
        Case("bindfs", functools.partial(measure, "bindfs"), at_most=2),
        Case("passthrough_ll", functools.partial(_list_less, count, lab), at_most=2),
    )


def _million_cases(lab: Lab) -> Sequence[Case]:
    return [
        Case(
            f"{view}, {label}",
            functools.partial(_list, lab.store_of(count), count, _QUICK, lab, view),
            at_most=3,
        )
        for view in ("bare", OURS)
        for label, count in (("100,000", lab.count(_MANY)), ("1,000,000", lab.count(_MORE)))
    ]


ROWS: Final = (
    Row(
        "list",
        "ls -l, ls -U, find, du and tree of 100,000 blobs, fresh mount",
        "s",
        _cases,
        (
            times("ls-l", (OURS, "ls -l"), 1.5, ("bare", "ls -l")),
            faster("ls-l-bindfs", (OURS, "ls -l"), 1, ("bindfs", "ls -l")),
            faster("ls-l-passthrough", (OURS, "ls -l"), 1, ("passthrough_ll", "ls -l")),
            *(times(name, (OURS, name), 5, ("bare", name)) for name in _QUICK),
        ),
    ),
    Row(
        "list-million",
        "the same of 1,000,000 blobs",
        "s",
        _million_cases,
        [
            times(name, (f"{OURS}, 1,000,000", name), 12, (f"{OURS}, 100,000", name))
            for name in _QUICK
        ],
    ),
)
