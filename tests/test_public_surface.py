"""What users may import, and what importing it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

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
HEAVY = ("torch", "transformers", "peft", "sentence_transformers", "chromadb", "langchain_core", "llama_index")


def modules_after(code: str) -> set[str]:
    """Top-level modules that a new process holds after running the code."""
    printing = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", printing], check=True, capture_output=True, text=True, env={**os.environ}
    )
    return set(done.stdout.split())


def test_the_public_names_are_these() -> None:
    """A name is added or taken away on purpose, and with an entry in the changelog."""
    assert sorted(e2rank_integrations.__all__) == sorted(PUBLIC)
    assert dir(e2rank_integrations) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    """Each loads, and each class says what it is."""
    value = getattr(e2rank_integrations, name)
    assert isinstance(value, str) or value.__doc__


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


@pytest.mark.parametrize(
    "code",
    [
        "import e2rank_integrations",
        "from e2rank_integrations import *",
        "import e2rank_integrations.encoder",
        "import e2rank_integrations.reranker",
        "from e2rank_integrations import E2RankEncoder; E2RankEncoder.embedded()",
        "from e2rank_integrations import E2RankEncoder, Reranker; Reranker(E2RankEncoder('a/b'), top_n=3)",
        "from e2rank_integrations import E2RankEncoder; E2RankEncoder.embedded().document_inputs(['a'])",
        "from e2rank_integrations import *; E2RankEncoder('a/b', document_cache=MemoryCache())",
        "from e2rank_integrations import DiskCache; DiskCache('nowhere')",
    ],
)
def test_importing_and_making_components_loads_no_framework(code: str) -> None:
    """Neither torch nor transformers nor an integration: they load with the first forward."""
    assert modules_after(code).isdisjoint(HEAVY)


def test_the_version_is_the_distributions() -> None:
    """One number."""
    assert e2rank_integrations.__version__ == metadata.version("e2rank-integrations")


def test_the_package_is_typed() -> None:
    """Type checkers of users read its annotations."""
    (marker,) = (path for path in e2rank_integrations.__path__)
    assert os.path.exists(os.path.join(marker, "py.typed"))  # noqa: PTH110, PTH118
