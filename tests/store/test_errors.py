"""The tree of errors."""

from __future__ import annotations

import inspect
import pickle

import pytest

import store
from store import errors
from store.errors import StoreError

SAMPLES = [
    errors.Invalid("x", "reason"),
    errors.InvalidDigest("x", "reason"),
    errors.UnsupportedAlgorithm("x", "reason"),
    errors.InvalidRef("x" * 121, "reason"),
    errors.RefTooLong("a\nb", "reason"),
    errors.InvalidSize("-1", "reason"),
    errors.NotFound("blob", "sha256:00"),
    errors.Busy("r"),
    errors.Busy("r", 12),
    errors.Closed("r"),
    errors.ReadOnly("/root"),
    errors.NotAppend("r", 10, 5),
    errors.BeyondSize("r", 10, 12),
    errors.Rejected("r", 1, 2),
    errors.SizeMismatch("r", 1, 2),
    errors.DigestMismatch("r", "a", "b"),
    errors.NotRegular("/path"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=repr)
def test_errors_carry_their_facts(error: StoreError) -> None:
    """An error prints as one short line, and pickled keeps its attributes."""
    twin = pickle.loads(pickle.dumps(error))

    assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))
    assert vars(error)
    assert "\n" not in str(error)
    assert 0 < len(str(error)) < 300


def test_every_error_is_sampled_and_exported() -> None:
    """The tree is whole: each class is below StoreError, in __all__, in the package, and above."""
    tree = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    }

    assert set(tree) == set(errors.__all__)
    assert set(tree) <= set(store.__all__)
    assert {type(error) for error in SAMPLES} == set(tree.values()) - {StoreError}
    assert all(issubclass(kind, StoreError) for kind in tree.values())


def test_the_package_exports_what_it_says() -> None:
    """Every name in __all__ is there, and sorted."""
    assert all(hasattr(store, name) for name in store.__all__)
    assert sorted(store.__all__) == list(store.__all__)


def test_errors_are_what_python_calls_them() -> None:
    """Invalid is a ValueError and NotFound a KeyError, so plain code catches them."""
    assert issubclass(errors.Invalid, ValueError)
    assert issubclass(errors.NotFound, KeyError)
    assert errors.SizeMismatch("r", 1, 2).verdict == "size mismatch: expected 1, found 2"
