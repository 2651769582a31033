"""Answering one query by every method, each with what it cost.

```
first stage ──► candidates ─┬─► plain cosine ─► reciprocal rank fusion of the two
                            ├─► vector PRF
                            └─► listwise ─► search again with the vector of the prompt
```

Every method sees the same candidates and the same stored vectors; no document is embedded for a query.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from e2rank_integrations.evaluation.controls import cosine_rerank, feedback_vector, reciprocal_rank_fusion
from e2rank_integrations.evaluation.report import Cost
from e2rank_integrations.evaluation.runs import Hit, Hits, Run
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.evaluation.first_stage import TextSearch, VectorIndex
    from e2rank_integrations.reranker import Reranker
    from e2rank_integrations.values import Ranking, Vector

T = TypeVar("T")

DENSE = "dense retrieval"
COSINE = "plain cosine"
LISTWISE = "listwise"
SEARCH_AGAIN = "search again"
RRF = "control: RRF"
PRF = "control: vector PRF"


class Step(NamedTuple, Generic[T]):
    """A result and what it took."""

    value: T
    cost: Cost


Answer = Step[Hits]
"""What a method found for one query, and all that it needed."""


@dataclass(frozen=True, slots=True, eq=False)
class Methods:
    """All methods on one collection.

    Attributes:
        collection: Texts of queries and documents.
        reranker: Settings of the listwise prompt, and the encoder.
        index: Every document's vector, by this encoder.
        first_stage: Where the candidates come from.
        depth: Candidates of a query, at most, and hits of the second search.
    """

    collection: Collection
    reranker: Reranker
    index: VectorIndex
    first_stage: TextSearch | Run
    depth: int

    def answer(self, query_id: str) -> Mapping[str, Answer]:
        """Answer a query by each method, by the method's name."""
        first = _timed(lambda: self._candidates(query_id))
        query = _timed(lambda: self._query_vector(query_id), forwards=1)
        dense = _timed(lambda: self.index.search(query.value, self.depth))
        cosine = _timed(lambda: cosine_rerank(first.value, query.value, self.index))
        fused = _timed(lambda: reciprocal_rank_fusion([first.value, cosine.value]))
        feedback = _timed(lambda: self._feedback(query.value, first.value))
        ranking = self._listwise(query_id, first.value)
        again = _timed(lambda: self._search_again(ranking))
        listed = Cost(ranking.usage.forwards, ranking.seconds)
        return {
            self.first_stage.name: first,
            DENSE: Step(dense.value, query.cost + dense.cost),
            COSINE: Step(cosine.value, first.cost + query.cost + cosine.cost),
            LISTWISE: Step(_hits(ranking), first.cost + listed),
            SEARCH_AGAIN: Step(_hits(again.value), first.cost + listed + again.cost),
            RRF: Step(fused.value, first.cost + query.cost + cosine.cost + fused.cost),
            PRF: Step(feedback.value, first.cost + query.cost + feedback.cost),
        }

    def _candidates(self, query_id: str) -> Hits:
        if isinstance(self.first_stage, Run):
            return self.first_stage[query_id][: self.depth]
        return self.first_stage.search(self.collection.queries[query_id], self.depth)

    def _query_vector(self, query_id: str) -> Vector:
        vector: Vector = self.reranker.encoder.encode_queries([self.collection.queries[query_id]])[0]
        return vector

    def _feedback(self, query_vector: Vector, candidates: Hits) -> Hits:
        return cosine_rerank(candidates, feedback_vector(query_vector, candidates, self.index), self.index)

    def _listwise(self, query_id: str, candidates: Hits) -> Ranking:
        return self.reranker.rank(self.collection.queries[query_id], self._stored(hit.id for hit in candidates))

    def _search_again(self, ranking: Ranking) -> Ranking:
        if ranking.query_vector is None:  # no candidates, so no prompt
            return ranking
        known = {item.candidate.id for item in ranking.ranked}
        found = self.index.search(ranking.query_vector, self.depth)
        return self.reranker.extend(ranking, self._stored(hit.id for hit in found if hit.id not in known))

    def _stored(self, ids: Iterable[str]) -> list[Candidate]:
        """Candidates with their text and stored vector."""
        ids = list(ids)
        rows = self.index.of(ids)
        return [
            Candidate(self.collection.document(key), id=key, vector=row, vector_source="store")
            for key, row in zip(ids, rows, strict=True)
        ]


def _timed(call: Callable[[], T], forwards: int = 0) -> Step[T]:
    started = perf_counter()
    value = call()
    return Step(value, Cost(forwards, perf_counter() - started))


def _hits(ranking: Ranking) -> Hits:
    return tuple(Hit(item.candidate.id or "", item.score or 0.0) for item in ranking.ranked)
