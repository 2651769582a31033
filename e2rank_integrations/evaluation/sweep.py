"""How many documents the listwise prompt should list: the measure over k (the paper's figure 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from e2rank_integrations.evaluation.measures import NDCG, score
from e2rank_integrations.evaluation.methods import Methods, hits_of
from e2rank_integrations.evaluation.progress import tracked
from e2rank_integrations.evaluation.runs import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.values import Ranking

LISTED = (1, 2, 3, 5, 10, 20)


@dataclass(frozen=True, slots=True)
class Point:
    """One number of listed documents.

    Attributes:
        num_input_docs: Documents asked for, k in the paper.
        documents_used: How many the prompt then listed, the mean over queries and prompts: a window of few tokens
            has no room for many.
        score: Mean of the measure.
    """

    num_input_docs: int
    documents_used: float
    score: float


def sweep(
    methods: Methods, candidates: Run, numbers: Sequence[int] = LISTED, *, measure: str = NDCG, progress: bool = True
) -> tuple[Point, ...]:
    """Rerank the same candidates with another number of listed documents each time.

    Args:
        methods: What reranks.
        candidates: Of each query, in the first stage's order.
        numbers: Of listed documents, each at least 1.
        measure: In ir-measures' words.
        progress: Whether to show bars on a terminal's stderr.
    """
    vectors = {query: methods.query(query).value for query in methods.collection.queries if candidates[query]}
    points = []
    for number in numbers:
        asked = replace(methods, reranker=replace(methods.reranker, num_input_docs=number))
        queries = tracked(list(vectors), f"{number} listed", show=progress)
        rankings = {query: asked.listwise(query, candidates[query], vectors[query]) for query in queries}
        points.append(_point(number, rankings, methods, measure))
    return tuple(points)


def _point(number: int, rankings: dict[str, Ranking], methods: Methods, measure: str) -> Point:
    run = Run({query: hits_of(ranking) for query, ranking in rankings.items()})
    used = [ranking.plan.documents_used for ranking in rankings.values() if ranking.plan is not None]
    mean = sum(used) / len(used) if used else 0.0
    return Point(number, mean, score(run, methods.collection.qrels, measure).mean)
