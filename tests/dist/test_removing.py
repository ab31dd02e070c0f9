"""The commands that remove: delete and abort, and the seed's pipelines with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.dist.command import NO_SUCH, Dist

if TYPE_CHECKING:
    from store import Store


@pytest.mark.parametrize("command", ["delete", "del", "rm"])
def test_delete(dist: Dist, command: str) -> None:
    """What is deleted is printed and gone."""
    digests = [dist.plant(b"%d" % number) for number in range(3)]
    assert dist.out(command, *digests[:2]).split() == digests[:2]
    assert dist.out("list", "-q").split() == digests[2:]


def test_delete_json(dist: Dist) -> None:
    """``--json`` prints each as an object."""
    digest = dist.put(b"x")
    assert json.loads(dist.out("delete", "--json", digest)) == {"digest": digest}


def test_delete_what_is_not_there(dist: Dist) -> None:
    """Each that is not there, or is no digest, is an error of its own; the others go."""
    digests = [dist.plant(b"%d" % number) for number in range(2)]
    done = dist(
        "delete", digests[0], NO_SUCH, "sha256:", digests[0], "sha256:../..", digests[1], code=1
    )
    assert done.stdout.decode().split() == digests
    assert len(done.stderr.splitlines()) == 4
    assert dist.out("list") == ""


def test_delete_from_stdin(dist: Dist) -> None:
    """``-`` deletes what standard input names."""
    digests = sorted(dist.plant(b"%d" % number) for number in range(20))
    assert dist.shell("dist list -q | dist delete -").stdout.decode().split() == digests
    assert dist.out("list") == ""


def test_the_seeds_pipeline(dist: Dist) -> None:
    """``dist list -q | xargs dist delete`` empties a store."""
    digests = sorted(dist.plant(b"%d" % number) for number in range(20))
    assert dist.shell("dist list -q | xargs dist delete").stdout.decode().split() == digests
    assert dist.out("list") == ""


def leave(store: Store, *refs: str) -> None:
    """Leave ingests behind."""
    for ref in refs:
        with store.writer(ref) as writer:
            writer.write(b"x")


def test_abort(dist: Dist) -> None:
    """An ingest that is dropped is gone with its folder, without a word."""
    leave(dist.store, "a", "b/c", "-d")
    assert dist.out("abort", "a", "b/c", "--", "-d") == ""
    assert dist.out("active") == ""
    assert list((dist.root / "ingest").iterdir()) == []


def test_abort_what_is_held_or_not_there(dist: Dist) -> None:
    """One that is held, is not there or is no ref is an error of its own; the others go."""
    leave(dist.store, "a", "b")
    with dist.store.writer("held") as writer:
        done = dist("abort", "a", "held", "none", "", "b", code=1)
        assert not writer.closed
    assert done.stdout == b""
    held, none, empty = done.stderr.decode().splitlines()
    assert "held by process" in held
    assert "not found" in none
    assert "invalid ref" in empty
    assert [each.ref.text for each in dist.store.active()] == ["held"]


def test_abort_all(dist: Dist) -> None:
    """What the help says drops every ingest does so, whatever their refs."""
    leave(dist.store, "a b", "c*", "'d'", "-e", "層")
    dist.shell(r"dist active --json | jq -r .ref | xargs -r -d '\n' dist abort --")
    assert dist.out("active") == ""
