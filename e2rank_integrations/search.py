"""Retrieve, take the index's vectors, rerank, and search again with the prompt's vector."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from e2rank_integrations.checks import expect_count, expect_positive
from e2rank_integrations.errors import InputError
from e2rank_integrations.slate import label, unit
from e2rank_integrations.stores.base import report_stale_vectors
from e2rank_integrations.stores.trust import expect_same_embedding
from e2rank_integrations.threads import in_thread
from e2rank_integrations.values import Encoded, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from e2rank_integrations.reranker import Reranker
    from e2rank_integrations.stores.base import VectorStore
    from e2rank_integrations.values import Candidate, Ranking, TokenInput, Vector


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """What the first search brought.

    Attributes:
        query: What was asked.
        query_vector: Its plain embedding, a unit vector of shape (width,).
        candidates: Best first, with their stored vectors.
        options: The store's search arguments, for searching again.
        usage: What embedding the query cost.
        seconds: Wall time.
    """

    query: str
    query_vector: Vector
    candidates: tuple[Candidate, ...]
    options: Mapping[str, Any]
    usage: Usage
    seconds: float

    @property
    def scores(self) -> tuple[float | None, ...]:
        """Each candidate's cosine to the plain query, in [-1, 1]; None where its vector is not stored."""
        width = len(self.query_vector)
        return tuple(
            None if item.vector is None else float(unit(item.vector, width, label(place, item)) @ self.query_vector)
            for place, item in enumerate(self.candidates)
        )


@dataclass(frozen=True, slots=True)
class Searcher:
    """Searches a vector store and reranks what it finds, without embedding a stored document again.

    Args:
        store: Where the documents and their vectors are.
        reranker: Its encoder must be the one that made the index.
        fetch_k: Candidates taken from the store for one search, at least as many as are returned.
        search_again: Search the store a second time with the vector of the listwise prompt, and rank what that
            brings by the same vector.
    """

    store: VectorStore
    reranker: Reranker
    _: KW_ONLY
    fetch_k: int = 50
    search_again: bool = False

    def __post_init__(self) -> None:
        expect_positive("fetch_k", self.fetch_k)
        if not isinstance(self.search_again, bool):
            raise InputError(f"search_again: expected True or False, found {type(self.search_again).__name__}")

    def search(self, query: str, k: int = 4, **options: Any) -> Ranking:
        """The k best documents.

        Args:
            query: What is asked.
            k: Results wanted, at least 1.
            options: Those of `retrieve`, and the store's own search arguments (for Chroma `where`, `where_document`).

        Raises:
            InputError: bad input.
            StoreMismatchError: another model made the index.
            StoreError: the store refuses the search.
            TransientError: the engine failed; while reranking, only with the reranker's `on_error="raise"`.
        """
        return self.rerank(self.retrieve(query, k, **options), k)

    async def asearch(self, query: str, k: int = 4, **options: Any) -> Ranking:
        """As `search`, without blocking the event loop."""
        return await self.arerank(await self.aretrieve(query, k, **options), k)

    def retrieve(
        self,
        query: str,
        k: int = 4,
        *,
        fetch_k: int | None = None,
        query_vector: npt.ArrayLike | None = None,
        **options: Any,
    ) -> Retrieved:
        """The first search: candidates in the order of their cosine to the plain query.

        Args:
            query: What is asked.
            k: Results wanted in the end, at least 1.
            fetch_k: Candidates to take, instead of the searcher's.
            query_vector: To be used instead of the plain query's embedding, shape (width,).
            options: The store's own search arguments.
        """
        started, wanted = perf_counter(), self._wanted(k, fetch_k)
        inputs = self._prepare(query)
        encoded = self._given(query_vector) or self.reranker.encoder.run(inputs)
        return self._fetch(query, encoded, wanted, options, started)

    async def aretrieve(
        self,
        query: str,
        k: int = 4,
        *,
        fetch_k: int | None = None,
        query_vector: npt.ArrayLike | None = None,
        **options: Any,
    ) -> Retrieved:
        """As `retrieve`, without blocking the event loop."""
        started, wanted = perf_counter(), self._wanted(k, fetch_k)
        inputs = await in_thread(self._prepare, query)
        encoded = self._given(query_vector) or await self.reranker.encoder.arun(inputs)
        return await in_thread(self._fetch, query, encoded, wanted, options, started)

    def rerank(self, retrieved: Retrieved, k: int = 4) -> Ranking:
        """Rerank what was retrieved, and search again where asked."""
        ranking = self.reranker.rank(
            retrieved.query, retrieved.candidates, top_n=k, query_vector=retrieved.query_vector
        )
        return self._completed(ranking, retrieved, k)

    async def arerank(self, retrieved: Retrieved, k: int = 4) -> Ranking:
        """As `rerank`, without blocking the event loop."""
        ranking = await self.reranker.arank(
            retrieved.query, retrieved.candidates, top_n=k, query_vector=retrieved.query_vector
        )
        return await in_thread(self._completed, ranking, retrieved, k)

    def save_fingerprint(self) -> None:
        """Keep the embedding's fingerprint with the store, after a check that its vectors are this model's.

        Raises:
            StoreMismatchError: they are not.
            StoreError: the store has no place for it.
        """
        encoder = self.reranker.encoder
        expect_same_embedding(self.store, encoder)
        self.store.save_fingerprint(encoder.fingerprint.to_json())

    def _prepare(self, query: str) -> list[TokenInput]:
        expect_same_embedding(self.store, self.reranker.encoder)
        return self.reranker.encoder.query_inputs([query])

    def _given(self, query_vector: npt.ArrayLike | None) -> Encoded | None:
        if query_vector is None:
            return None
        return Encoded(unit(query_vector, self.reranker.encoder.width, "query_vector")[None], Usage())

    def _wanted(self, k: int, fetch_k: int | None) -> int:
        expect_positive("k", k)
        expect_count("fetch_k", fetch_k)
        return max(k, fetch_k or self.fetch_k)

    def _fetch(
        self, query: str, encoded: Encoded, wanted: int, options: Mapping[str, Any], started: float
    ) -> Retrieved:
        vector = encoded.vectors[0]
        candidates = tuple(self.store.search(vector, wanted, **options))
        expect_same_embedding(self.store, self.reranker.encoder, candidates)
        report_stale_vectors(candidates)
        return Retrieved(query, vector, candidates, options, encoded.usage, perf_counter() - started)

    def _completed(self, ranking: Ranking, retrieved: Retrieved, k: int) -> Ranking:
        if self.search_again and ranking.query_vector is not None:
            ranking = self.reranker.extend(ranking, self._found_again(ranking.query_vector, retrieved), top_n=k)
        return replace(ranking, usage=ranking.usage + retrieved.usage, seconds=ranking.seconds + retrieved.seconds)

    def _found_again(self, vector: Vector, retrieved: Retrieved) -> list[Candidate]:
        known = {_name(candidate) for candidate in retrieved.candidates}
        found = self.store.search(vector, len(retrieved.candidates), **retrieved.options)
        new = [candidate for candidate in found if _name(candidate) not in known]
        report_stale_vectors(new)
        return new


def _name(candidate: Candidate) -> str:
    """What tells a record from others; not every store has ids."""
    return candidate.text if candidate.id is None else candidate.id
