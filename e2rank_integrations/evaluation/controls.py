"""What a listwise reranker has to be compared with: cheap ways to the same end.

Much of what pseudo-relevance feedback gains over a lexical list is the fusion of words and vectors alone, so a
figure without these beside it says little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.evaluation.first_stage import best
from e2rank_integrations.evaluation.runs import Hit, Hits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.evaluation.first_stage import VectorIndex
    from e2rank_integrations.values import Vector

RRF_K = 60
PRF_DOCUMENTS = 3
PRF_WEIGHT = 0.6


def cosine_rerank(hits: Hits, query_vector: Vector, index: VectorIndex) -> Hits:
    """The same documents by cosine to the plain query; ties keep their order."""
    ids = [hit.id for hit in hits]
    return best(ids, index.of(ids) @ query_vector, len(ids)) if ids else ()


def reciprocal_rank_fusion(lists: Sequence[Hits], k: int = RRF_K) -> Hits:
    """All documents of several lists by the sum of 1 / (k + rank), ranks from 1; ties in the order of the lists."""
    scores: dict[str, float] = {}
    for hits in lists:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (k + rank)
    ordered = sorted(scores.items(), key=lambda item: -item[1])
    return tuple(Hit(document, value) for document, value in ordered)


def feedback_vector(
    query_vector: Vector,
    hits: Hits,
    index: VectorIndex,
    *,
    documents: int = PRF_DOCUMENTS,
    weight: float = PRF_WEIGHT,
) -> Vector:
    """Vector PRF: the query's vector plus `weight` times the mean of the first documents' vectors, of length one.

    Without hits it is the query's own vector.
    """
    if not hits:
        return query_vector
    moved = query_vector + weight * index.of([hit.id for hit in hits[:documents]]).mean(axis=0)
    unit: Vector = (moved / np.linalg.norm(moved)).astype(np.float32)
    return unit
