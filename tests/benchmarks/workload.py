"""The same query and candidates for every row: real English words, lengths as they are in practice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from e2rank_integrations.evaluation.demo import demo_collection
from tests.support.qwen import qwen_ranks

MEAN, SPREAD, SHORTEST, LONGEST = 150, 0.7, 10, 512
"""Tokens of a document: lognormal, clipped."""
LISTED = 20
"""Documents in the prompt, k in the paper."""
SEED = 27
"""One whose 100 lengths have the mean that was asked for, also those of the listed 20: a prompt of 3,000 tokens."""
_TOKENS_OF_QUERY = range(18, 27)


@dataclass(frozen=True, slots=True)
class Workload:
    """One rerank.

    Attributes:
        queries: The first is every row's; the others, of like length, are follow-up queries.
        documents: The candidates, best first.
        listed: How many of them the prompt lists.
    """

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    listed: int

    @property
    def query(self) -> str:
        """What is asked."""
        return self.queries[0]

    @property
    def small(self) -> Workload:
        """A few documents of the same kind, to warm up with."""
        return replace(self, documents=self.documents[:3], listed=2)


def workload(candidates: int, *, seed: int = SEED) -> Workload:
    """Draw documents and queries; the same numbers give the same texts."""
    lengths = document_lengths(candidates, seed)
    return Workload(_queries(), tuple(texts(lengths, seed)), min(LISTED, candidates))


def document_lengths(count: int, seed: int = SEED) -> list[int]:
    """Lengths in tokens, of the mean `MEAN` before they are clipped."""
    random = np.random.RandomState(seed)  # the one generator whose stream numpy promises to keep
    drawn = random.lognormal(np.log(MEAN) - SPREAD**2 / 2, SPREAD, size=count)
    return [int(length) for length in np.clip(drawn.round(), SHORTEST, LONGEST)]


def _queries() -> tuple[str, ...]:
    ranks = qwen_ranks()
    found = demo_collection().queries.values()
    return tuple(query for query in found if len(ranks.encode_ordinary(query)) in _TOKENS_OF_QUERY)


def texts(lengths: list[int], seed: int) -> list[str]:
    """Cut the passages, joined in a drawn order and begun again where they end, into texts."""
    ranks, passages = qwen_ranks(), list(demo_collection().documents.values())
    order = np.random.RandomState(seed).permutation(len(passages))
    ids = ranks.encode_ordinary(" ".join(passages[place] for place in order))
    starts = np.cumsum([0, *lengths])
    ids *= -(-int(starts[-1]) // len(ids))
    cut = [ids[start : start + length] for start, length in zip(starts[:-1], lengths, strict=True)]
    return [ranks.decode(part).replace("\ufffd", "").strip() for part in cut]
