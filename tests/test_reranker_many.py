"""Several reranks at once, in a running event loop, or with more candidates afterwards."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from e2rank_integrations import Candidate, E2RankEncoder, Reranker
from e2rank_integrations.errors import (
    EngineMemoryError,
    InputError,
    NonFiniteError,
)
from tests.support.engines import Failing, Gated
from tests.support.reranking import (
    QUERY,
    TEXTS,
    assert_same,
    random_vectors,
    stored,
    texts_of,
    watched,
)

# Several at once


REQUESTS = [
    (QUERY, TEXTS),
    ("Explain gravity", TEXTS[:3]),
    ("為什麼?", []),
    ("Bread?", [Candidate("a"), "b", TEXTS[0]]),
]


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_many_rank_as_one_by_one(qwen_encoder: E2RankEncoder, weight: float) -> None:
    """`rank_many` gives each query what `rank` gives it, scores to 1e-6, in the order of the requests."""
    reranker = Reranker(qwen_encoder, query_weight=weight, top_n=2)
    together = reranker.rank_many(REQUESTS)
    assert len(together) == len(REQUESTS)
    for ranking, (query, candidates) in zip(together, REQUESTS, strict=True):
        assert_same(ranking, reranker.rank(query, candidates))


def test_a_shared_input_is_computed_and_billed_once(qwen_encoder: E2RankEncoder) -> None:
    """Queries over the same candidates embed them once; the bills add up to what the engine was asked."""
    recorded, recording = watched(qwen_encoder)
    first, second, third = Reranker(recorded).rank_many([(QUERY, TEXTS), ("Explain gravity", TEXTS), (QUERY, TEXTS)])
    assert len(recording.calls) == 1
    assert (first.usage.documents, second.usage.documents, third.usage.documents) == (len(TEXTS), 0, 0)
    assert (first.usage.prompts, second.usage.prompts, third.usage.prompts) == (1, 1, 0)
    assert first.usage + second.usage + third.usage == recording.usage


def test_each_request_may_bring_its_query_vector(qwen_encoder: E2RankEncoder) -> None:
    """Given vectors and None may be mixed; only the missing one is computed."""
    recorded, recording = watched(qwen_encoder)
    reranker = Reranker(recorded, query_weight=0.5)
    vector = recorded.encode_queries(["Explain gravity"])[0]
    recording.calls.clear()
    found = reranker.rank_many([(QUERY, TEXTS), ("Explain gravity", TEXTS)], query_vectors=[None, vector])
    assert [ranking.usage.queries for ranking in found] == [1, 0]
    for ranking, query in zip(found, (QUERY, "Explain gravity"), strict=True):
        assert_same(ranking, reranker.rank(query, TEXTS))


def test_no_requests_give_no_rankings(qwen_encoder: E2RankEncoder) -> None:
    """And ask nothing of the engine."""
    recorded, recording = watched(qwen_encoder)
    assert Reranker(recorded).rank_many([]) == []
    assert recording.calls == []


@pytest.mark.parametrize(
    "requests", [None, 5, "ab", [None], [5], [("query",)], [("q", ["a"], 3)], [("q", None)], ["ab"]]
)
def test_malformed_requests_are_input_errors(qwen_encoder: E2RankEncoder, requests: object) -> None:
    """A request is a pair of a query and candidates."""
    with pytest.raises(InputError):
        Reranker(qwen_encoder).rank_many(requests)


def test_a_generator_of_requests_will_do(qwen_encoder: E2RankEncoder) -> None:
    """As will one of candidates."""
    reranker = Reranker(qwen_encoder)
    (ranking,) = reranker.rank_many((QUERY, (text for text in TEXTS)) for _ in range(1))
    assert_same(ranking, reranker.rank(QUERY, TEXTS))


@pytest.mark.parametrize("vectors", [[], [None] * 2])
def test_query_vectors_must_match_the_requests(qwen_encoder: E2RankEncoder, vectors: list) -> None:
    """One per request, or the pairing would be a guess."""
    with pytest.raises(InputError, match="query_vectors"):
        Reranker(qwen_encoder).rank_many([(QUERY, TEXTS)], query_vectors=vectors)


# Async


@pytest.mark.parametrize("weight", [0.0, 0.5])
async def test_the_async_forms_equal_the_sync_ones(qwen_encoder: E2RankEncoder, weight: float) -> None:
    """`arank` and `arank_many` give the same rankings and bills."""
    reranker = Reranker(qwen_encoder, query_weight=weight, top_n=3)
    assert_same(await reranker.arank(QUERY, TEXTS), reranker.rank(QUERY, TEXTS))
    for one, other in zip(await reranker.arank_many(REQUESTS), reranker.rank_many(REQUESTS), strict=True):
        assert_same(one, other)
        assert one.usage == other.usage


async def test_the_event_loop_runs_on_while_a_rerank_works(qwen_encoder: E2RankEncoder) -> None:
    """The engine waits in a thread for a signal that only a running loop can give."""
    gated = Gated(qwen_encoder.engine)
    waiting = asyncio.create_task(Reranker(replace(qwen_encoder, custom_engine=gated)).arank(QUERY, TEXTS))
    for _ in range(50):
        await asyncio.sleep(0)
        assert not waiting.done()
    gated.gate.set()
    assert len(await waiting) == len(TEXTS)


async def test_concurrent_reranks_do_not_mix(qwen_encoder: E2RankEncoder) -> None:
    """Ten at once, each with its own query and candidates, give what ten in turn give."""
    reranker = Reranker(qwen_encoder)
    requests = [(f"query {i}", TEXTS[i % 3 :]) for i in range(10)]
    together = await asyncio.gather(*(reranker.arank(*request) for request in requests))
    for ranking, request in zip(together, requests, strict=True):
        assert_same(ranking, reranker.rank(*request))


# Extending a ranking


@pytest.mark.parametrize("with_vectors", [False, True])
def test_extend_scores_new_candidates_by_the_same_vector(qwen_encoder: E2RankEncoder, with_vectors: bool) -> None:
    """They are merged in by their cosine, have no old position, and cost no second prompt."""
    recorded, recording = watched(qwen_encoder)
    reranker = Reranker(recorded, top_n=3)
    ranking = reranker.rank(QUERY, TEXTS[:4])
    vectors = recorded.encode_documents(TEXTS[4:])
    recording.calls.clear()
    new = stored(TEXTS[4:], vectors) if with_vectors else TEXTS[4:]
    extended = reranker.extend(ranking, new)
    assert [item.role for call in recording.calls for item in call] == ([] if with_vectors else ["document"] * 3)
    assert len(extended.ranked) == len(TEXTS)
    assert len(extended) == 3
    assert [item.position for item in extended.ranked] == list(range(len(TEXTS)))
    assert all(one.score >= other.score for one, other in pairwise(extended.ranked))
    by_text = {item.candidate.text: item for item in extended.ranked}
    for text, vector in zip(TEXTS[4:], vectors, strict=True):
        assert by_text[text].old_position is None
        assert not by_text[text].in_prompt
        assert by_text[text].score == pytest.approx(float(vector @ ranking.query_vector), abs=1e-6)
    for item in ranking.ranked:
        assert by_text[item.candidate.text].score == item.score
        assert by_text[item.candidate.text].old_position == item.old_position
    assert extended.usage == ranking.usage + recording.usage
    np.testing.assert_array_equal(extended.query_vector, ranking.query_vector)


def test_extend_leaves_the_ranking_as_it_was(qwen_encoder: E2RankEncoder) -> None:
    """A ranking is a value."""
    reranker = Reranker(qwen_encoder)
    ranking = reranker.rank(QUERY, TEXTS[:3])
    before = (ranking.results, ranking.ranked, ranking.usage)
    reranker.extend(ranking, TEXTS[3:])
    assert (ranking.results, ranking.ranked, ranking.usage) == before


def test_extending_by_nothing_changes_nothing(qwen_encoder: E2RankEncoder) -> None:
    """The second search may bring nothing new."""
    reranker = Reranker(qwen_encoder)
    ranking = reranker.rank(QUERY, TEXTS)
    assert_same(reranker.extend(ranking, []), ranking)


def test_old_candidates_win_ties_with_new_ones(qwen_encoder: E2RankEncoder) -> None:
    """At equal scores what was there first stays first."""
    reranker = Reranker(qwen_encoder)
    vector = random_vectors(1)[0]
    ranking = reranker.rank(QUERY, stored(["old"], [vector]))
    assert texts_of(reranker.extend(ranking, stored(["new"], [vector]))) == ["old", "new"]


def test_a_ranking_without_a_vector_cannot_be_extended(qwen_encoder: E2RankEncoder) -> None:
    """An empty one, or one that kept its order, has nothing to score by."""
    failing = replace(qwen_encoder, custom_engine=Failing(qwen_encoder.engine, NonFiniteError("NaN")))
    kept = Reranker(failing, on_error="keep_order").rank(QUERY, TEXTS)
    for ranking in (kept, Reranker(qwen_encoder).rank(QUERY, [])):
        with pytest.raises(InputError, match="ranking"):
            Reranker(qwen_encoder).extend(ranking, TEXTS)


def test_a_failure_while_extending_keeps_the_ranking(
    qwen_encoder: E2RankEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """With `keep_order` the first round stands, with one warning; by default the failure is raised."""
    failing = replace(qwen_encoder, custom_engine=Failing(qwen_encoder.engine, EngineMemoryError("memory")))
    ranking = Reranker(qwen_encoder).rank(QUERY, TEXTS[:3])
    with pytest.raises(EngineMemoryError):
        Reranker(failing).extend(ranking, TEXTS[3:])
    with caplog.at_level(logging.WARNING):
        assert_same(Reranker(failing, on_error="keep_order").extend(ranking, TEXTS[3:]), ranking)
    assert len(caplog.records) == 1
