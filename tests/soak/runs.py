"""What each long run does.  The quick tests in tests/reliability are parts of the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.reliability import crowds
from tests.reliability.disks import mounted_disk
from tests.reliability.fuzzing import fuzz_mount, outside
from tests.reliability.killing import ENDS, Reckoning, by_kill, run
from tests.reliability.mounted import Mounted
from tests.reliability.power.sweep import record, sweep

_MOMENTS: Final = 200
_FEW: Final = 60
_FUZZ_SECONDS: Final = 600.0


class Outcome(NamedTuple):
    """What a run has given.

    Attributes:
        numbers: what was counted and measured.
        faults: what should have held and did not, a line each.
    """

    numbers: dict[str, Any]
    faults: list[str]


def _folder(work: Path, name: str) -> Path:
    folder = work / name.replace(" ", "_")
    folder.mkdir()
    return folder


# ------------------------------------------------------------------------------------ the daemon


def kills(work: Path, seed: int) -> Outcome:
    """SIGKILL, 300 times, under ten writers and ten readers."""
    return _reckoned([run(_folder(work, "kills"), seed, 300, by_kill)])


def ends(work: Path, seed: int) -> Outcome:
    """Every end that can be asked for, 20 times each, under ten writers and ten readers."""
    return _reckoned([run(_folder(work, name), seed, 20, end) for name, end in ENDS.items()])


def _reckoned(reckonings: list[Reckoning]) -> Outcome:
    numbers = {
        "ends": sum(each.ends for each in reckonings),
        "slowest end, s": round(max(each.slowest for each in reckonings), 2),
        "blobs acknowledged": sum(each.stored for each in reckonings),
        "blobs read": sum(each.read for each in reckonings),
        "ingests aborted": sum(each.aborted for each in reckonings),
        "ingests resumed": sum(each.resumed for each in reckonings),
    }
    return Outcome(numbers, [fault for each in reckonings for fault in each.faults])


def crowd(work: Path, seed: int) -> Outcome:
    """A hundred writers with a hundred things each to do, and a hundred readers with ten."""
    mounted = Mounted(work, watched=True)
    try:
        mounted.start()
        writers = [crowds.crowd("write", mounted, f"{seed}w{n}", 10, 100) for n in range(10)]
        readers = [crowds.crowd("read", mounted, f"{seed}r{n}", 10, 10) for n in range(10)]
        crowds.all_well([*writers, *readers], 1800)
        blobs = len(list(mounted.blobs.iterdir()))
        crowds.nothing_left(mounted)
        numbers = {"blobs": blobs, "memory, MiB": mounted.held().memory >> 20}
        return Outcome({**numbers, "left over": mounted.counts()}, [])
    except AssertionError as fault:
        return Outcome({}, [str(fault)])
    finally:
        mounted.stop()


def memory(work: Path, seed: int) -> Outcome:
    """A million system calls of every kind."""
    with mounted_disk("tmpfs", "256M", work) as root:
        mounted = Mounted(work, root=root, watched=True)
        try:
            mounted.start()
            phases = crowds.endure(mounted, 1_000_000, 20, 600)
        finally:
            mounted.stop()
    half = phases[len(phases) // 2]
    numbers = {
        "calls": phases[-1].calls,
        "memory, KiB": {phase.calls: phase.memory >> 10 for phase in phases},
        "remembered": phases[-1].counts,
    }
    grown = phases[-1].memory - half.memory
    # What malloc has not given back yet is in this; 8 bytes a call would be a leak.
    return Outcome(
        numbers, [f"grew by {grown} bytes in its second half"] if grown > 4 << 20 else []
    )


def fuzz(work: Path, seed: int) -> Outcome:
    """Ten minutes of random system calls."""
    mounted = Mounted(work, watched=True)
    try:
        mounted.start()
        seen = fuzz_mount(mounted, _FUZZ_SECONDS, seed)
        faults = outside(mounted.root)
        crowds.nothing_left(mounted)
        if mounted.terminate():
            faults.append("the exit status is not 0")
    except AssertionError as fault:
        return Outcome({}, [str(fault)])
    finally:
        mounted.stop()
    ended = Counter[str]()
    for how, times in seen.items():
        ended[how.partition(": ")[2]] += times
    return Outcome({"calls": seen.total(), "ended": dict(ended.most_common())}, faults)


# ------------------------------------------------------------------------------------- the power


def power(kind: str) -> Callable[[Path, int], Outcome]:
    """Mixed work of one thread and of four on a file system, cut at 200 moments in each way."""

    def sweeps(work: Path, seed: int) -> Outcome:
        numbers: dict[str, Any] = {}
        faults = []
        for threads, count in ((1, 60), (4, 20)):
            disk = record(kind, _folder(work, str(threads)), seed, threads=threads, count=count)
            for keep in ("none", "all", f"random:{seed}"):
                found = sweep(disk, keep, _MOMENTS)
                name = f"{threads} at a time, keep {keep.partition(':')[0]}"
                numbers[name] = {
                    "moments": found.moments,
                    "blobs acknowledged": found.stored,
                    "moments with a fault": len({fault.moment for fault in found.faults}),
                }
                faults += [f"{name}, moment {fault.moment}: {fault.what}" for fault in found.faults]
        return Outcome(numbers, faults)

    return sweeps


_CARRIED: Final = {
    "blobs.prepare fsync_root",
    "blobs.prepare fsync_dir",
    "writer.sync fsync_folder",
    "ingests.sync fsync_root",
    "shared ingest",
    "ingests._move fsync_folder",
}
"""Those whose work another fsync does on all three: that of a new file carries its names along."""


def fsyncs(work: Path, seed: int) -> Outcome:
    """Each fsync left out in turn, on each file system: the sweep has to notice."""
    numbers: dict[str, Any] = {}
    for kind in ("ext4", "xfs", "btrfs"):
        places = work / f"places of {kind}"
        record(kind, _folder(work, f"{kind}, all"), seed, count=60, places=places)
        for place in sorted(set(places.read_text().splitlines())):
            disk = record(kind, _folder(work, f"{kind}, {place}"), seed, count=60, leave_out=place)
            found = sweep(disk, "none", _FEW, first=True)
            noticed = f"at moment {found.moments}: {found.faults[0].what}" if found.faults else None
            numbers.setdefault(place, {})[kind] = noticed
    faults = [
        f"{place}: left out, and no sweep notices"
        for place, by_kind in numbers.items()
        if not any(by_kind.values()) and place not in _CARRIED
    ]
    return Outcome(numbers, faults)
