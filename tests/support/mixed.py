"""Requests of all kinds and lengths, as the users of one encoder send them at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations import E2RankEncoder, Reranker
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2rank_integrations.values import Matrix

    Call = Callable[[E2RankEncoder], Matrix]


def calls(count: int) -> list[Call]:
    """So many requests, seeded: a query, one to six documents, or a rerank of three; of many different lengths."""
    random = np.random.default_rng(7)
    return [_call(int(kind), int(size), int(start)) for kind, size, start in random.integers(0, 24, (count, 3))]


def run_serially(encoder: E2RankEncoder, wanted: list[Call]) -> list[Matrix]:
    """One after another."""
    return [call(encoder) for call in wanted]


def run_at_once(encoder: E2RankEncoder, wanted: list[Call], *, threads: int) -> list[Matrix]:
    """By so many threads."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda call: call(encoder), wanted))


def _call(kind: int, size: int, start: int) -> Call:
    texts = [_text(start + place, size) for place in range(1 + size % 6)]
    if kind % 4 == 0:
        return lambda encoder: encoder.encode_queries([QUERIES[start % 3]])
    if kind % 4 == 1:
        return lambda encoder: _scores(encoder, QUERIES[start % 3], texts[:3])
    return lambda encoder: encoder.encode_documents(texts)


def _scores(encoder: E2RankEncoder, query: str, texts: list[str]) -> Matrix:
    ranking = Reranker(encoder).rank(query, texts)
    return np.array([item.score for item in sorted(ranking.ranked, key=lambda item: item.old_position)], np.float32)


def _text(place: int, size: int) -> str:
    return " ".join(islice(TEXTS[place % len(TEXTS)].split(), 2 + size % 13))
