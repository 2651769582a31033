"""One family of errors, as its docstring draws it, that survives the way between processes."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from e2rank_integrations import E2RankError, errors
from e2rank_integrations.errors import MissingExtraError

FAMILY = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
]
BUILT_IN = {"InputError": ValueError, "MissingExtraError": ImportError}


def drawn_tree() -> dict[str, str]:
    """Parent by name, read from the docstring's drawing."""
    parents, path = {}, ["E2RankError"]
    for line in re.findall(r"^([│ ]*)[├└]── (\w+)", errors.__doc__, flags=re.MULTILINE):
        depth = len(line[0]) // 4 + 1
        path = [*path[:depth], line[1]]
        parents[line[1]] = path[depth - 1]
    return parents


def test_the_docstring_draws_the_real_tree() -> None:
    """Every error is in the drawing, under its base class."""
    assert drawn_tree() == {kind.__name__: kind.__bases__[0].__name__ for kind in FAMILY if kind is not E2RankError}


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_every_error_is_of_the_family(kind: type[Exception]) -> None:
    """One `except E2RankError` catches all; those that stand for a built-in error are also caught as it."""
    assert issubclass(kind, E2RankError)
    expected = {built_in for name, built_in in BUILT_IN.items() if issubclass(kind, getattr(errors, name))}
    assert {built_in for built_in in BUILT_IN.values() if issubclass(kind, built_in)} == expected
    assert kind.__doc__


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_pickles(kind: type[Exception], protocol: int) -> None:
    """A worker's error reaches its parent with its type and message."""
    error = kind("peft", "adapter") if kind is MissingExtraError else kind("candidate 3: what was found")
    error.add_note("while indexing")
    clone = pickle.loads(pickle.dumps(error, protocol))
    assert type(clone) is kind
    assert str(clone) == str(error)


def test_a_missing_extra_names_the_command() -> None:
    """What to run, the package that is missing as `ImportError` keeps it, and the extra."""
    error = pickle.loads(pickle.dumps(MissingExtraError("peft", "adapter")))
    assert "pip install 'e2rank-integrations[adapter]'" in str(error)
    assert (error.name, error.extra) == ("peft", "adapter")
