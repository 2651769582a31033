"""Chroma as LangChain's users know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2rank_integrations.errors import StoreError
from e2rank_integrations.stores.chroma import ChromaStore

if TYPE_CHECKING:
    from e2rank_integrations.values import Candidate, Vector


class LangChainChroma(ChromaStore):
    """A Chroma collection whose metadata filter is called `filter`, as in LangChain's store."""

    def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
        """As `ChromaStore.search`, with `filter` for Chroma's `where`."""
        where = options.pop("filter", None)
        if where is None:
            return super().search(vector, k, **options)
        if "where" in options:
            raise StoreError("filter and where are two names of one argument; give one of them")
        return super().search(vector, k, where=where, **options)
