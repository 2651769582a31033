"""E2Rank for RAG: one embedding model that retrieves and reranks.

Names load on first use, so that importing the package brings in neither torch nor a framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2rank_integrations.caches import DiskCache as DiskCache
    from e2rank_integrations.caches import DocumentCache as DocumentCache
    from e2rank_integrations.caches import MemoryCache as MemoryCache
    from e2rank_integrations.encoder import E2RankEncoder as E2RankEncoder
    from e2rank_integrations.engines.prefixes import PrefixCache as PrefixCache
    from e2rank_integrations.engines.remote import RemoteEngine as RemoteEngine
    from e2rank_integrations.errors import E2RankError as E2RankError
    from e2rank_integrations.fingerprint import Fingerprint as Fingerprint
    from e2rank_integrations.profiles import Caps as Caps
    from e2rank_integrations.profiles import ListwiseTemplate as ListwiseTemplate
    from e2rank_integrations.profiles import Profile as Profile
    from e2rank_integrations.reranker import Reranker as Reranker
    from e2rank_integrations.search import Searcher as Searcher
    from e2rank_integrations.values import Candidate as Candidate
    from e2rank_integrations.values import PromptPlan as PromptPlan
    from e2rank_integrations.values import RankedCandidate as RankedCandidate
    from e2rank_integrations.values import Ranking as Ranking

__version__ = "0.1.0"

_HOMES = {
    "Caps": "profiles",
    "Candidate": "values",
    "DiskCache": "caches",
    "DocumentCache": "caches",
    "E2RankEncoder": "encoder",
    "E2RankError": "errors",
    "Fingerprint": "fingerprint",
    "ListwiseTemplate": "profiles",
    "MemoryCache": "caches",
    "PrefixCache": "engines.prefixes",
    "Profile": "profiles",
    "PromptPlan": "values",
    "RankedCandidate": "values",
    "Ranking": "values",
    "RemoteEngine": "engines.remote",
    "Reranker": "reranker",
    "Searcher": "search",
}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604 - names only


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
