"""Answering one query by every method, each with what it cost.

```
first stage ──► candidates ─┬─► plain cosine ─► reciprocal rank fusion of the two
                            ├─► vector PRF
                            └─► listwise ─► search again with the vector of the prompt
```

Every method sees the same candidates and the same stored vectors; no document is embedded for a query. Where the
first stage is the model's own retrieval, plain cosine only repeats it; then the fusion takes BM25's list instead of
the first stage's, so that it is lexical always, and may bring in documents that are no candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from e2rank_integrations.checks import expect_positive
from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.controls import cosine_rerank, feedback_vector, reciprocal_rank_fusion
from e2rank_integrations.evaluation.first_stage import BM25, DENSE, DEPTH, VectorIndex
from e2rank_integrations.evaluation.report import Cost
from e2rank_integrations.evaluation.runs import Hit, Hits, Run, without
from e2rank_integrations.evaluation.settings import WHOLE_LIST, PromptSettings, rank
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.evaluation.first_stage import TextSearch
    from e2rank_integrations.reranker import Reranker
    from e2rank_integrations.values import Ranking, Vector

T = TypeVar("T")

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
        first_stage: Where the candidates come from; an index stands for the model's own retrieval.
        lexical: What the fusion takes beside the model's own retrieval; None where the first stage is another.
        depth: Candidates of a query, at most, and hits of every other search.
        settings: How the candidates are put before the model.

    Raises:
        InputError: the collection is a pool, and the first stage is a search over it.
    """

    collection: Collection
    reranker: Reranker
    index: VectorIndex
    first_stage: TextSearch | VectorIndex | Run
    lexical: TextSearch | None
    depth: int
    settings: PromptSettings = WHOLE_LIST

    @classmethod
    def of(
        cls,
        collection: Collection,
        reranker: Reranker,
        index: VectorIndex,
        first_stage: TextSearch | VectorIndex | Run | None,
        *,
        depth: int = DEPTH,
        settings: PromptSettings = WHOLE_LIST,
    ) -> Methods:
        """With BM25 where no first stage is given, and for the fusion where the first stage is the index.

        The reranker's `top_n`, `score_threshold` and `on_error` are set aside: every candidate is judged, and a
        failure is an error, not a figure.
        """
        reranker = replace(reranker, top_n=None, score_threshold=None, on_error="raise")
        if first_stage is None:
            first_stage = BM25(collection.documents)
        lexical = BM25(collection.documents) if isinstance(first_stage, VectorIndex) else None
        return cls(collection, reranker, index, first_stage, lexical, depth, settings)

    def __post_init__(self) -> None:
        expect_positive("depth", self.depth)
        if self.collection.pool and not isinstance(self.first_stage, Run):
            raise InputError(f"{self.collection.name}: a pool is no corpus; its first stage must be a run")

    @property
    def first_name(self) -> str:
        """How tables call the first stage; a run may have any name, also a method's."""
        name = self.first_stage.name
        return f"{name} (first stage)" if name in {COSINE, LISTWISE, SEARCH_AGAIN, RRF, PRF} else name

    def answer(self, query_id: str) -> Mapping[str, Answer]:
        """Answer a query by each method, by the method's name."""
        query = self.query(query_id)
        dense = _timed(lambda: self._nearest(query_id, query.value), query.cost)
        first = _timed(lambda: self._candidates(query_id, dense.value), dense.cost if self.lexical else None)
        # What has been paid when the candidates and the plain query's vector are there.
        ready = first.cost if self.lexical else first.cost + query.cost
        cosine = _timed(lambda: cosine_rerank(first.value, query.value, self.index), ready)
        words = _timed(lambda: self._words(query_id, first.value))
        ranking = self.listwise(query_id, first.value, query.value)
        paid = ready if self._gives_query and first.value else first.cost
        listed = paid + Cost.of(ranking.usage, ranking.seconds)
        answers = {
            self.first_name: first,
            DENSE: dense,
            **({self.lexical.name: words} if self.lexical else {}),
            COSINE: cosine,
            LISTWISE: Step(hits_of(ranking), listed),
            SEARCH_AGAIN: _timed(lambda: self._search_again(query_id, ranking), listed),
            RRF: _timed(lambda: reciprocal_rank_fusion([words.value, cosine.value]), cosine.cost + words.cost),
            PRF: _timed(lambda: self._feedback(query.value, first.value), ready),
        }
        return {name: answer for name, answer in answers.items() if name not in self._hidden}

    def with_encoder(self, encoder: E2RankEncoder) -> Methods:
        """The same with another encoder, one that makes the same vectors of documents."""
        return replace(self, reranker=replace(self.reranker, encoder=encoder))

    def candidates(self, query_id: str, query_vector: Vector) -> Hits:
        """What the first stage hands on for a query whose plain vector is at hand."""
        return self._candidates(query_id, self._nearest(query_id, query_vector))

    def query(self, query_id: str) -> Step[Vector]:
        """The plain query's vector."""
        encoder, started = self.reranker.encoder, perf_counter()
        encoded = encoder.run(encoder.query_inputs([self.collection.queries[query_id]]))
        return Step(encoded.vectors[0], Cost.of(encoded.usage, perf_counter() - started))

    def listwise(self, query_id: str, candidates: Hits, query_vector: Vector) -> Ranking:
        """The candidates reranked."""
        query, texts = self.collection.queries[query_id], self._stored(candidates)
        given = query_vector if self._gives_query else None
        return rank(self.reranker, query, texts, self.settings, query_vector=given)

    @property
    def _gives_query(self) -> bool:
        """Whether the plain query's vector goes into the listwise ranking from here, rather than being made there."""
        return query_weight(self.reranker) > 0

    @property
    def _hidden(self) -> AbstractSet[str]:
        """Methods that cannot be measured: searches over what is no corpus, or with what is no one prompt's vector."""
        searches = {DENSE, SEARCH_AGAIN} if self.collection.pool else set()
        return searches | ({SEARCH_AGAIN} if self.settings.window is not None else set())

    def _excluded(self, query_id: str) -> AbstractSet[str]:
        return self.collection.excluded.get(query_id, frozenset())

    def _candidates(self, query_id: str, dense: Hits) -> Hits:
        if isinstance(self.first_stage, VectorIndex):
            return dense
        if isinstance(self.first_stage, Run):
            return without(self.first_stage[query_id], self._excluded(query_id), self.depth)
        return self._found(query_id, self.first_stage)

    def _found(self, query_id: str, stage: TextSearch) -> Hits:
        excluded = self._excluded(query_id)
        hits = stage.search(self.collection.queries[query_id], self.depth + len(excluded))
        return without(hits, excluded, self.depth)

    def _nearest(self, query_id: str, vector: Vector) -> Hits:
        excluded = self._excluded(query_id)
        return without(self.index.search(vector, self.depth + len(excluded)), excluded, self.depth)

    def _words(self, query_id: str, candidates: Hits) -> Hits:
        """The lexical list that the fusion takes: BM25's, or else that of the first stage."""
        return self._found(query_id, self.lexical) if self.lexical else candidates

    def _feedback(self, query_vector: Vector, candidates: Hits) -> Hits:
        return cosine_rerank(candidates, feedback_vector(query_vector, candidates, self.index), self.index)

    def _search_again(self, query_id: str, ranking: Ranking) -> Hits:
        if ranking.query_vector is None:  # no candidates, or no one prompt
            return ()
        known = {item.candidate.id for item in ranking.ranked}
        found = self._nearest(query_id, ranking.query_vector)
        return hits_of(self.reranker.extend(ranking, self._stored(hit for hit in found if hit.id not in known)))

    def _stored(self, hits: Iterable[Hit]) -> list[Candidate]:
        """Candidates with their text, their stored vector and the score that a template may show."""
        hits = list(hits)
        rows = self.index.of([hit.id for hit in hits])
        return [
            Candidate(
                self.collection.document(hit.id),
                id=hit.id,
                vector=row,
                vector_source="store",
                retrieval_score=hit.score,
            )
            for hit, row in zip(hits, rows, strict=True)
        ]


def query_weight(reranker: Reranker) -> float:
    """The share of the plain query that a reranker works with, in [0, 1]."""
    return reranker.encoder.profile.query_weight if reranker.query_weight is None else reranker.query_weight


def _timed(call: Callable[[], T], before: Cost | None = None) -> Step[T]:
    """What a call gives, with its time on top of what was paid before."""
    started = perf_counter()
    value = call()
    return Step(value, (before or Cost()) + Cost(seconds=perf_counter() - started))


def hits_of(ranking: Ranking) -> Hits:
    """A ranking's order; where its scores are none (after a sliding window), its places stand for them."""
    return tuple(
        Hit(item.candidate.id or "", float(-item.position) if item.score is None else item.score)
        for item in ranking.ranked
    )
