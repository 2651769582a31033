"""What the tests of reranking share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations import Candidate
from tests.support.engines import Recording

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from e2rank_integrations import E2RankEncoder, RankedCandidate, Ranking
    from e2rank_integrations.values import Matrix

QUERY = "What is the capital of China?"
TEXTS = [
    "Gravity attracts two bodies towards each other.",
    "The capital of China is Beijing.",
    "Paris is the capital of France.",
    "重力は引力です。",
    "",
    "Bread is baked from flour, water, salt and yeast.",
    "China's seat of government is in Beijing.",
]
WIDTH = 64
SECRET = "xyzzy-plugh"
"""A text of a user, which no message and no log may repeat."""


def watched(encoder: E2RankEncoder) -> tuple[E2RankEncoder, Recording]:
    """The encoder behind a recording of what its engine is asked."""
    recording = Recording(encoder.engine)
    return replace(encoder, custom_engine=recording), recording


def random_vectors(count: int, seed: int = 0) -> Matrix:
    """Vectors of many lengths, shape (count, 64)."""
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


def stored(rows: Sequence[str], vectors: Sequence[Any], **fields: Any) -> list[Candidate]:
    """Candidates that bring their vectors."""
    pairs = zip(rows, vectors, strict=True)
    return [Candidate(text, id=f"d{i}", vector=vector, **fields) for i, (text, vector) in enumerate(pairs)]


def texts_of(items: Iterable[RankedCandidate]) -> list[str]:
    """Their texts, in order."""
    return [item.candidate.text for item in items]


def scores_of(ranking: Ranking) -> list[float]:
    """Scores in the order in which the caller gave the candidates."""
    return [item.score for item in sorted(ranking.ranked, key=lambda item: item.old_position)]


def assert_same(one: Ranking, other: Ranking) -> None:
    """Same order, same results, same scores to 1e-6."""
    assert [item.old_position for item in one.ranked] == [item.old_position for item in other.ranked]
    assert len(one.results) == len(other.results)
    np.testing.assert_allclose(
        [item.score for item in one.ranked], [item.score for item in other.ranked], rtol=0, atol=1e-6
    )
