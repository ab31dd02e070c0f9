"""What is said to be durable is on the disk, and no fsync that failed is forgotten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store import Store
from store.layout import Layout
from tests.faults import Ledger, using
from tests.store.scenarios import ONE, SCENARIOS, half
from tests.strategies import sha256

COMMITS = {
    name: SCENARIOS[name]
    for name in (
        "ingest",
        "resume",
        "commit",
        "commit unexpected",
        "commit what is there",
        "rename into a blob",
    )
}
commits = pytest.mark.parametrize("name", COMMITS)


def risks(ledger: Ledger, root: Path) -> list[str]:
    """What a power loss might take of the blob."""
    return ledger.at_risk(Layout(str(root)).blob(sha256(ONE)), str(root.parent))


@commits
def test_a_blob_is_durable_when_its_commit_returns(name: str, scratch: Path) -> None:
    """Of a committed blob, neither the bytes nor the name of any folder above is at risk."""
    root = scratch / "root"
    with using(Ledger()) as ledger:
        COMMITS[name].prepare(Store(root))
        COMMITS[name].act(Store(root))

    assert risks(ledger, root) == []


def fsyncs(name: str, root: Path) -> list[str]:
    """What a commit syncs, in order."""
    COMMITS[name].prepare(Store(root))
    with using(Ledger()) as ledger:
        COMMITS[name].act(Store(root))
    return ledger.fsyncs


@commits
def test_a_failed_fsync_is_not_retried_into_a_false_success(name: str, scratch: Path) -> None:
    """Whichever fsync fails, by the time that a later try succeeds the bytes are written anew."""
    for n, what in enumerate(fsyncs(name, scratch / "whole")):
        root = scratch / f"root-{n}"
        with using(Ledger()) as ledger:
            COMMITS[name].prepare(Store(root))
            ledger.fsyncs.clear()
            ledger.fail_fsync = n
            with pytest.raises(OSError, match="Input/output error"):
                COMMITS[name].act(Store(root))
            ledger.fail_fsync = None
            COMMITS[name].act(Store(root))

        assert risks(ledger, root) == [], f"fsync {n}, of {what}, failed"


def test_no_fsync_of_a_commit_is_for_nothing(scratch: Path) -> None:
    """Without any one of the syncs of the data and of the folders above, the blob is at risk."""
    for n, what in enumerate(fsyncs("commit", scratch / "whole")):
        root = scratch / f"root-{n}"
        with using(Ledger()) as ledger:
            COMMITS["commit"].prepare(Store(root))
            ledger.fsyncs.clear()
            ledger.skip_fsync = n
            COMMITS["commit"].act(Store(root))

        assert risks(ledger, root) != [], f"fsync {n}, of {what}"


def test_synced_bytes_are_durable(scratch: Path) -> None:
    """After a sync the bytes of an ingest, its ref, and what is expected of it are not at risk."""
    root = scratch / "root"
    with using(Ledger()) as ledger:
        half(Store(root))
        with Store(root).writer("layer", size=len(ONE)) as writer:
            writer.sync()
    folder = Layout(str(root)).ingest(Store(root).status("layer").ref)

    for name in ("data", "ref", "total", "expected"):
        assert ledger.at_risk(os.path.join(folder, name), str(root.parent)) == []
