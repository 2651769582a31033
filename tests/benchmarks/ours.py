"""This package: documents embedded again, stored vectors, a follow-up query, and the plain query."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from e2rank_integrations import Candidate, Reranker
from e2rank_integrations.engines.prefixes import PrefixCache
from tests.benchmarks.outputs import Outcome
from tests.benchmarks.rows import OURS, Row

if TYPE_CHECKING:
    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import Ranking
    from tests.benchmarks.options import Options
    from tests.benchmarks.rows import Bench
    from tests.benchmarks.workload import Workload

DOCUMENTS = "E2Rank, documents alone"
AGAIN = "E2Rank, documents embedded again"
STORED = "E2Rank, stored vectors"
FOLLOW_UP = "E2Rank, follow-up query"
PLAIN = "E2Rank, plain query"
_PREFIXED = "ours with a prefix cache"
_PREFIX_BYTES = 4 * 2**30


def rows(options: Options, dtype: str) -> list[Row]:
    """The documents first: the vectors that they give are those that are stored."""
    shared: dict[str, Any] = {
        "model": lambda bench: bench.engine_model,
        "needs": (OURS,),
        "dtype": dtype,
        "layers": options.layers,
        "ours": True,
    }
    prefixed = {**shared, "needs": (OURS, _PREFIXED), "prepare": _fill_prefixes, "expected": _without_prefixes}
    stored = {**shared, "prepare": lambda bench, work: bench.stored(work)}
    return [
        Row(name=DOCUMENTS, call=_documents, weight="middle", exact=True, lengths=_document_lengths, **shared),
        Row(name=AGAIN, call=_again, weight="middle", exact=True, **shared),
        Row(name=STORED, call=_stored, weight="light", exact=True, lengths=_prompt_length, **stored),
        Row(
            name=FOLLOW_UP, call=_follow_up, weight="light", exact=True,
            note="Another query each round; compared with the same query without the cache.", **prefixed,
        ),
        Row(name=PLAIN, call=_plain, weight="light", note="Another ranking: the plain query's cosines.", **stored),
    ]  # fmt: skip


def stored_candidates(bench: Bench, work: Workload) -> list[Candidate]:
    """Candidates that bring their vectors."""
    return [Candidate(text, vector=vector) for text, vector in zip(work.documents, bench.stored(work), strict=True)]


def outcome(ranking: Ranking) -> Outcome:
    """Scores in the order in which the candidates came, and the prompt's vector."""
    assert ranking.plan is not None
    assert ranking.plan.documents_truncated == 0, "a listed document was cut, so the prompt is not the reference's"
    scores = sorted((item.old_position, item.score) for item in ranking.ranked)
    return Outcome(np.array([score for _, score in scores]), ranking.query_vector[None])


def _documents(bench: Bench, work: Workload, round_: int) -> Outcome:
    vectors = bench.encoder.encode_documents(work.documents)
    bench.store(work, vectors)
    return Outcome(documents=vectors)


def _again(bench: Bench, work: Workload, round_: int) -> Outcome:
    return outcome(Reranker(bench.encoder, num_input_docs=work.listed).rank(work.query, work.documents))


def _stored(bench: Bench, work: Workload, round_: int) -> Outcome:
    return _ranked(bench.encoder, bench, work, 0)


def _follow_up(bench: Bench, work: Workload, round_: int) -> Outcome:
    return _ranked(_prefixed(bench), bench, work, 1 + round_)


def _plain(bench: Bench, work: Workload, round_: int) -> Outcome:
    vectors = bench.stored(work)
    return Outcome(vectors @ bench.encoder.encode_queries([work.query])[0])


def _ranked(encoder: E2RankEncoder, bench: Bench, work: Workload, query: int) -> Outcome:
    asked = work.queries[query % len(work.queries)]
    return outcome(Reranker(encoder, num_input_docs=work.listed).rank(asked, stored_candidates(bench, work)))


def _prefixed(bench: Bench) -> E2RankEncoder:
    return bench.held(_PREFIXED, lambda: replace(bench.encoder, prefix_cache=PrefixCache(_PREFIX_BYTES)))


def _fill_prefixes(bench: Bench, work: Workload) -> None:
    _ranked(_prefixed(bench), bench, work, 0)


def _without_prefixes(bench: Bench, work: Workload, round_: int) -> Outcome:
    return _ranked(bench.encoder, bench, work, 1 + round_)


def _document_lengths(bench: Bench, work: Workload) -> list[int]:
    return [len(item.ids) for item in bench.encoder.document_inputs(work.documents)]


def _prompt_length(bench: Bench, work: Workload) -> list[int]:
    prompt, _ = bench.encoder.listwise_input(work.query, work.documents, work.listed)
    return [len(prompt.ids)]
