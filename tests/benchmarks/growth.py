"""How a rerank's time grows with the number of stored candidates: the prompt stays the same."""

from __future__ import annotations

from itertools import cycle, islice
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations import Candidate, Reranker

if TYPE_CHECKING:
    from e2rank_integrations import E2RankEncoder
    from tests.benchmarks.rows import Bench
    from tests.benchmarks.workload import Workload

CANDIDATES = (10, 100, 1_000)
_LEAST_ROUNDS = 3


def growth(bench: Bench, work: Workload) -> dict[str, tuple[float, ...]]:
    """Seconds by round, by number of candidates; every prompt lists the same first few."""
    listed = min(*CANDIDATES, len(work.documents))
    reranker = Reranker(bench.encoder, num_input_docs=listed)
    sizes = {size: _candidates(bench.encoder, work, size) for size in CANDIDATES}
    reranker.rank(work.query, sizes[CANDIDATES[0]])
    rounds = max(_LEAST_ROUNDS, bench.options.rounds_of("light"))
    found: dict[str, list[float]] = {str(size): [] for size in sizes}
    for _ in range(rounds):
        for size, candidates in sizes.items():
            started = perf_counter()
            reranker.rank(work.query, candidates)
            found[str(size)].append(perf_counter() - started)
    return {size: tuple(seconds) for size, seconds in found.items()}


def _candidates(encoder: E2RankEncoder, work: Workload, size: int) -> list[Candidate]:
    """Candidates with vectors of the right width; what they hold costs nothing more or less."""
    vectors = np.random.RandomState(size).normal(size=(size, encoder.width)).astype(np.float32)
    return [
        Candidate(text, vector=vector)
        for text, vector in zip(islice(cycle(work.documents), size), vectors, strict=True)
    ]
