"""What users may import by name from the package itself."""

from __future__ import annotations

from importlib import metadata, resources

import pytest

import e2rank_integrations

PUBLIC = [
    "Caps",
    "Candidate",
    "DiskCache",
    "DocumentCache",
    "E2RankEncoder",
    "E2RankError",
    "Fingerprint",
    "ListwiseTemplate",
    "MemoryCache",
    "PrefixCache",
    "Profile",
    "PromptPlan",
    "RankedCandidate",
    "Ranking",
    "RemoteEngine",
    "Reranker",
    "Searcher",
    "__version__",
]


def test_the_public_names_are_these() -> None:
    """A name is added or taken away on purpose, and with an entry in the changelog."""
    assert sorted(e2rank_integrations.__all__) == sorted(PUBLIC)
    assert dir(e2rank_integrations) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    """The lazy table leads to real objects that know themselves by that name, and say what they are."""
    value = getattr(e2rank_integrations, name)
    assert isinstance(value, str) or (value.__name__ == name and value.__doc__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """So that `hasattr` and tools work as with any module."""
    assert not hasattr(e2rank_integrations, "E2RankDecoder")
    with pytest.raises(ImportError):
        from e2rank_integrations import E2RankDecoder  # noqa: F401


def test_a_star_import_gives_the_public_names() -> None:
    """All of them, loaded lazily or not."""
    scope: dict[str, object] = {}
    exec("from e2rank_integrations import *", scope)
    assert set(PUBLIC) <= set(scope)


def test_the_version_is_the_distributions() -> None:
    """One number."""
    assert e2rank_integrations.__version__ == metadata.version("e2rank-integrations")


def test_the_package_is_typed() -> None:
    """Type checkers of users read its annotations."""
    assert resources.files(e2rank_integrations).joinpath("py.typed").is_file()
