"""Reranking: nothing lost, stable, deterministic, as cheap as promised, and equal to the formula of the paper."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations import Candidate, E2RankEncoder, Ranking, Reranker
from e2rank_integrations.errors import (
    CheckpointError,
    EngineMemoryError,
    InputError,
    NonFiniteError,
    PromptBudgetError,
    TransientError,
    VectorError,
)
from e2rank_integrations.profiles import E2RANK, Caps
from e2rank_integrations.values import Encoded, TokenInput, Usage
from tests.support.engines import Failing, Gated, Recording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

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
quick = settings(deadline=None, max_examples=25)
texts = st.lists(st.sampled_from([*TEXTS, "a", "b", "c"]), min_size=1, max_size=12)
seeds = st.integers(0, 2**32 - 1)


def random_vectors(count: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


def stored(rows: Sequence[str], vectors: Sequence[Any], **fields: Any) -> list[Candidate]:
    """Candidates that bring their vectors."""
    return [Candidate(text, id=f"d{i}", vector=row, **fields) for i, (text, row) in enumerate(zip(rows, vectors))]


def texts_of(ranking: Sequence) -> list[str]:
    return [item.candidate.text for item in ranking]


def scores_of(ranking: Ranking) -> dict[int, float]:
    """Scores by the candidate's place in the caller's list."""
    return {item.old_position: item.score for item in ranking.ranked}


def assert_same(one: Ranking, other: Ranking) -> None:
    """Same order, same scores to 1e-6."""
    assert [item.old_position for item in one.ranked] == [item.old_position for item in other.ranked]
    assert len(one.results) == len(other.results)
    np.testing.assert_allclose(
        [item.score for item in one.ranked], [item.score for item in other.ranked], rtol=0, atol=1e-6
    )


@pytest.fixture
def recording(qwen_encoder: E2RankEncoder) -> Recording:
    """Notes what the engine is asked."""
    return Recording(qwen_encoder.engine)


@pytest.fixture
def recorded(qwen_encoder: E2RankEncoder, recording: Recording) -> E2RankEncoder:
    """The tiny Qwen3 behind the recording."""
    return replace(qwen_encoder, custom_engine=recording)


# The formula


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.7, 1.0])
def test_scores_are_cosines_to_the_blend_of_query_and_prompt(qwen_encoder: E2RankEncoder, weight: float) -> None:
    """`score(d) = cos(normalise(w·e_q + (1−w)·e_q̂), e_d)`, computed here from the three embeddings apart."""
    plain = qwen_encoder.encode_queries([QUERY])[0].astype(np.float64)
    prompt = qwen_encoder.encode_listwise(QUERY, TEXTS)[0][0].astype(np.float64)
    blend = weight * plain + (1 - weight) * prompt
    expected = qwen_encoder.encode_documents(TEXTS) @ (blend / np.linalg.norm(blend))
    ranking = Reranker(qwen_encoder, query_weight=weight).rank(QUERY, TEXTS)
    scores = scores_of(ranking)
    np.testing.assert_allclose([scores[i] for i in range(len(TEXTS))], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ranking.query_vector, blend / np.linalg.norm(blend), rtol=0, atol=1e-5)
    assert [item.old_position for item in ranking.ranked] == np.argsort(-expected, kind="stable").tolist()


def test_the_profiles_weight_and_window_are_the_defaults(embedded_encoder: E2RankEncoder) -> None:
    """The embedded profile lists its few documents and leans on the plain query without being told."""
    profile = embedded_encoder.profile
    by_default = Reranker(embedded_encoder).rank(QUERY, TEXTS)
    stated = Reranker(embedded_encoder, num_input_docs=profile.num_input_docs, query_weight=profile.query_weight).rank(
        QUERY, TEXTS
    )
    assert_same(by_default, stated)
    assert by_default.plan.documents_used == profile.num_input_docs
    assert by_default.usage.queries == 1
    assert texts_of(by_default)[:2] != TEXTS[:2]


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_query_similarity_is_the_cosine_of_query_and_prompt(qwen_encoder: E2RankEncoder, weight: float) -> None:
    """It is reported wherever the plain query's vector is known, computed or given, and nowhere else."""
    plain, prompt = qwen_encoder.encode_queries([QUERY])[0], qwen_encoder.encode_listwise(QUERY, TEXTS)[0][0]
    reranker = Reranker(qwen_encoder, query_weight=weight)
    known = reranker.rank(QUERY, TEXTS, query_vector=3 * plain)
    assert known.query_similarity == pytest.approx(float(plain @ prompt), abs=1e-5)
    alone = reranker.rank(QUERY, TEXTS).query_similarity
    assert alone is None if weight == 0 else alone == pytest.approx(known.query_similarity, abs=1e-6)


@pytest.mark.parametrize(
    ("model", "order", "scores", "prompt_tokens", "tokens"),
    [
        pytest.param(
            "qwen_encoder",
            [4, 5, 2, 3, 1, 6, 0],
            [0.26922, 0.11147, -0.02011, -0.02531, -0.12193, -0.20524, -0.26191],
            115,
            172,
            id="qwen3",
        ),
        pytest.param(
            "embedded_encoder",
            [1, 6, 2, 0, 3, 5, 4],
            [0.85148, 0.68092, 0.40872, 0.15727, 0.13324, 0.12336, 0.03639],
            64,
            139,
            id="embedded",
        ),
    ],
)
def test_the_frozen_case(
    request: pytest.FixtureRequest,
    model: str,
    order: list[int],
    scores: list[float],
    prompt_tokens: int,
    tokens: int,
) -> None:
    """Fixed weights, real tokenizers, each profile's own prompt: order, scores and counts are what they were."""
    ranking = Reranker(request.getfixturevalue(model)).rank(QUERY, TEXTS)
    assert [item.old_position for item in ranking] == order
    np.testing.assert_allclose([item.score for item in ranking], scores, rtol=0, atol=1e-4)
    assert (ranking.plan.tokens, ranking.usage.tokens) == (prompt_tokens, tokens)


# Nothing lost, in a stable order


@given(rows=texts, seed=seeds, holes=st.sets(st.integers(0, 11)), top_n=st.none() | st.integers(1, 15))
@quick
def test_every_candidate_is_ranked_exactly_once(
    qwen_encoder: E2RankEncoder, rows: list[str], seed: int, holes: set[int], top_n: int | None
) -> None:
    """Whatever is duplicated, empty, stored or missing: the caller's own objects, each once, best first."""
    vectors = random_vectors(len(rows), seed)
    given_ones = [Candidate(text, id="same", vector=None if i in holes else vectors[i]) for i, text in enumerate(rows)]
    ranking = Reranker(qwen_encoder, num_input_docs=3).rank(QUERY, given_ones, top_n=top_n)
    assert sorted(item.old_position for item in ranking.ranked) == list(range(len(rows)))
    assert [item.position for item in ranking.ranked] == list(range(len(rows)))
    assert all(item.candidate is given_ones[item.old_position] for item in ranking.ranked)
    assert all(one.score >= other.score for one, other in pairwise(ranking.ranked))
    assert ranking.results == ranking.ranked[:top_n]
    assert all(isinstance(item.score, float) and -1.00001 <= item.score <= 1.00001 for item in ranking)


@given(rows=st.lists(st.sampled_from("abc"), min_size=2, max_size=15), with_vectors=st.booleans(), seed=seeds)
@quick
def test_ties_keep_the_order_given(qwen_encoder: E2RankEncoder, rows: list[str], with_vectors: bool, seed: int) -> None:
    """Equal texts, or equal stored vectors, get equal scores and stay in retrieval order."""
    vectors = dict(zip("abc", random_vectors(3, seed), strict=True))
    candidates = [Candidate(row, vector=vectors[row] if with_vectors else None) for row in rows]
    ranking = Reranker(qwen_encoder, num_input_docs=2).rank(QUERY, candidates)
    for row in set(rows):
        same = [item for item in ranking.ranked if item.candidate.text == row]
        assert len({item.score for item in same}) == 1
        assert [item.old_position for item in same] == sorted(item.old_position for item in same)


@given(order=st.permutations(range(4, 12)), seed=seeds)
@quick
def test_shuffling_beyond_the_prompt_changes_no_score(qwen_encoder: E2RankEncoder, order: list[int], seed: int) -> None:
    """Only the first k candidates write the prompt; the others' order counts for ties alone."""
    candidates = stored([f"text {i}" for i in range(12)], random_vectors(12, seed))
    reranker = Reranker(qwen_encoder, num_input_docs=4)
    straight = {item.candidate.id: item.score for item in reranker.rank(QUERY, candidates).ranked}
    shuffled = reranker.rank(QUERY, [*candidates[:4], *(candidates[i] for i in order)])
    assert {item.candidate.id: item.score for item in shuffled.ranked} == straight


def test_shuffling_inside_the_prompt_is_allowed_to_change_scores(qwen_encoder: E2RankEncoder) -> None:
    """The prompt lists documents in the order given: that is the method."""
    one = Reranker(qwen_encoder).rank(QUERY, TEXTS)
    other = Reranker(qwen_encoder).rank(QUERY, TEXTS[::-1])
    np.testing.assert_raises(
        AssertionError, np.testing.assert_allclose, one.query_vector, other.query_vector, rtol=0, atol=1e-4
    )


def test_the_same_call_gives_the_same_ranking(qwen_encoder: E2RankEncoder) -> None:
    """Asking twice changes nothing, to the bit."""
    one, other = (Reranker(qwen_encoder).rank(QUERY, TEXTS) for _ in range(2))
    assert [item.score for item in one] == [item.score for item in other]


def test_a_candidates_score_does_not_depend_on_its_neighbours(qwen_encoder: E2RankEncoder) -> None:
    """With the prompt fixed, the score of a stored candidate is the same bit for bit alone and among thousands."""
    vectors = random_vectors(3000)
    reranker = Reranker(qwen_encoder, num_input_docs=1)
    many = reranker.rank(QUERY, stored(["first"] * 3000, vectors))
    scores = scores_of(many)
    for i in (1, 17, 2999):
        few = reranker.rank(QUERY, stored(["first", "second"], vectors[[0, i]]))
        assert scores_of(few)[1] == scores[i]


def test_duplicate_ids_and_texts_are_all_kept(qwen_encoder: E2RankEncoder) -> None:
    """An id is a label and no key."""
    ranking = Reranker(qwen_encoder).rank(QUERY, [Candidate("same", id="x")] * 3 + [Candidate("other", id="x")])
    assert len(ranking) == 4
    assert sorted(texts_of(ranking)) == ["other", "same", "same", "same"]


# What it costs


def test_with_stored_vectors_a_rerank_costs_one_forward(recorded: E2RankEncoder, recording: Recording) -> None:
    """However many candidates: the prompt goes through the model, no document does, and no plain query."""
    ranking = Reranker(recorded).rank(QUERY, stored(["text"] * 100, random_vectors(100)))
    ((only,),) = recording.calls
    assert only.role == "listwise"
    assert ranking.usage == Usage(documents=0, queries=0, prompts=1, tokens=len(only.ids))
    assert ranking.usage.forwards == 1
    assert ranking.plan.tokens == len(only.ids)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_a_given_query_vector_saves_the_querys_forward(
    recorded: E2RankEncoder, recording: Recording, weight: float
) -> None:
    """Given at any length and as any kind of array, it stands for the computed one."""
    reranker = Reranker(recorded, query_weight=weight)
    candidates = stored(TEXTS, random_vectors(len(TEXTS)))
    computed = reranker.rank(QUERY, candidates)
    assert recording.calls.pop()[1].role == "query"
    vector = (5 * recorded.encode_queries([QUERY])[0].astype(np.float64)).tolist()
    recording.calls.clear()
    from_vector = reranker.rank(QUERY, candidates, query_vector=vector)
    assert [item.role for call in recording.calls for item in call] == ["listwise"]
    assert_same(from_vector, computed)


@given(rows=texts, holes=st.sets(st.integers(0, 11)))
@quick
def test_only_missing_vectors_are_computed(qwen_encoder: E2RankEncoder, rows: list[str], holes: set[int]) -> None:
    """A hybrid of candidates with and without vectors embeds the latter alone, and each distinct text once."""
    vectors = qwen_encoder.encode_documents(rows)
    candidates = [Candidate(text, vector=None if i in holes else vectors[i]) for i, text in enumerate(rows)]
    reranker = Reranker(qwen_encoder, num_input_docs=2)
    lacking = {rows[i] for i in holes if i < len(rows)}
    job = reranker.plan(QUERY, candidates)
    documents = [item for item in job.inputs if item.role == "document"]
    assert sorted(item.ids for item in documents) == sorted(
        item.ids for item in qwen_encoder.document_inputs(sorted(lacking))
    )
    ranking = reranker.rank(QUERY, candidates)
    assert ranking.usage.documents == len(lacking)
    assert ranking.usage.tokens == sum(len(item.ids) for item in job.inputs)
    assert_same(ranking, reranker.rank(QUERY, rows)) if len(set(rows)) == len(rows) else None
    sources = {item.old_position: item.vector_source for item in ranking.ranked}
    assert sources == {i: "computed" if i in holes else "given" for i in range(len(rows))}


@pytest.mark.parametrize("scale", [1.0, 1e-6, 37.5, 1e6])
@pytest.mark.parametrize("form", [np.float16, np.float32, np.float64, list])
def test_given_vectors_rank_as_computed_ones(qwen_encoder: E2RankEncoder, form: type, scale: float) -> None:
    """Stored at any length, in any float dtype, as array or list, they give the computed scores."""
    if form is np.float16 and scale != 1.0:
        scale = 37.5  # what half precision can hold
    rows = qwen_encoder.encode_documents(TEXTS).astype(np.float64) * scale
    given_rows = rows.tolist() if form is list else rows.astype(form)
    from_store, computed = (
        scores_of(Reranker(qwen_encoder).rank(QUERY, candidates)) for candidates in (stored(TEXTS, given_rows), TEXTS)
    )
    tolerance = 2e-3 if form is np.float16 else 1e-5
    np.testing.assert_allclose(
        [from_store[i] for i in range(len(TEXTS))], [computed[i] for i in range(len(TEXTS))], rtol=0, atol=tolerance
    )


def test_no_candidates_cost_nothing(recorded: E2RankEncoder, recording: Recording) -> None:
    """An empty list is an empty ranking, and the engine is not asked."""
    ranking = Reranker(recorded, query_weight=0.5).rank(QUERY, [])
    assert (list(ranking), ranking.ranked, ranking.plan, ranking.usage) == ([], (), None, Usage())
    assert not ranking.kept_order
    assert recording.calls == []


def test_planning_asks_no_engine(recorded: E2RankEncoder, recording: Recording) -> None:
    """`plan` is pure: what must be embedded is known before anything is."""
    job = Reranker(recorded, query_weight=0.5).plan(QUERY, TEXTS)
    assert recording.calls == []
    assert [item.role for item in job.inputs] == ["listwise", "query", *["document"] * len(TEXTS)]


def test_seconds_are_told(qwen_encoder: E2RankEncoder) -> None:
    """The wall time of the call is positive."""
    assert Reranker(qwen_encoder).rank(QUERY, ["a"]).seconds > 0


# The prompt's text


def test_the_prompts_text_is_listed_and_the_text_is_embedded(qwen_encoder: E2RankEncoder) -> None:
    """A shorter `prompt_text` changes the prompt as if it were the text, and the document's vector not at all."""
    short, reranker = [text[:10] for text in TEXTS], Reranker(qwen_encoder)
    candidates = [Candidate(text, prompt_text=cut) for text, cut in zip(TEXTS, short, strict=True)]
    ranking = reranker.rank(QUERY, candidates)
    np.testing.assert_array_equal(ranking.query_vector, reranker.rank(QUERY, short).query_vector)
    expected = qwen_encoder.encode_documents(TEXTS) @ ranking.query_vector
    found = scores_of(ranking)
    np.testing.assert_allclose([found[i] for i in range(len(TEXTS))], expected, rtol=0, atol=1e-5)


def test_an_empty_prompt_text_is_a_text(qwen_encoder: E2RankEncoder) -> None:
    """Only None stands for `text`."""
    with_empty = Reranker(qwen_encoder).plan(QUERY, [Candidate("a", prompt_text="")])
    assert with_empty.prompt == Reranker(qwen_encoder).plan(QUERY, [""]).prompt


def test_each_candidate_says_whether_it_was_listed_and_cut(qwen_encoder: E2RankEncoder) -> None:
    """With a window of three and a cap on the line, the long one of the first three is listed cut."""
    narrow = replace(qwen_encoder, profile=replace(E2RANK, caps=Caps(listed=64, floor=64)))
    rows = ["short", "word " * 500, "short too", "word " * 500, "last"]
    ranking = Reranker(narrow, num_input_docs=3).rank(QUERY, rows)
    facts = {item.old_position: (item.in_prompt, item.truncated) for item in ranking.ranked}
    assert facts == {0: (True, False), 1: (True, True), 2: (True, False), 3: (False, False), 4: (False, False)}
    assert (ranking.plan.documents_asked, ranking.plan.documents_used, ranking.plan.documents_truncated) == (3, 3, 1)


def test_cut_documents_are_reported_once_per_call(
    qwen_encoder: E2RankEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """One record for a call, also where several of its queries bring documents that are cut."""
    small = replace(qwen_encoder, profile=replace(E2RANK, caps=Caps(document=16)))
    with caplog.at_level(logging.INFO):
        Reranker(small).rank_many([(QUERY, ["word " * 50, "b"]), ("Why?", ["c", f"{SECRET} " * 50])])
    assert len([record for record in caplog.records if "cut" in record.getMessage()]) == 1
    assert SECRET not in caplog.text


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


def test_a_shared_input_is_computed_and_billed_once(recorded: E2RankEncoder, recording: Recording) -> None:
    """Queries over the same candidates embed them once; the bills add up to what the engine was asked."""
    first, second, third = Reranker(recorded).rank_many([(QUERY, TEXTS), ("Explain gravity", TEXTS), (QUERY, TEXTS)])
    assert len(recording.calls) == 1
    assert (first.usage.documents, second.usage.documents, third.usage.documents) == (len(TEXTS), 0, 0)
    assert (first.usage.prompts, second.usage.prompts, third.usage.prompts) == (1, 1, 0)
    assert first.usage + second.usage + third.usage == recording.usage


def test_each_request_may_bring_its_query_vector(recorded: E2RankEncoder, recording: Recording) -> None:
    """Given vectors and None may be mixed; only the missing one is computed."""
    reranker = Reranker(recorded, query_weight=0.5)
    vector = recorded.encode_queries(["Explain gravity"])[0]
    recording.calls.clear()
    found = reranker.rank_many([(QUERY, TEXTS), ("Explain gravity", TEXTS)], query_vectors=[None, vector])
    assert [ranking.usage.queries for ranking in found] == [1, 0]
    for ranking, query in zip(found, (QUERY, "Explain gravity"), strict=True):
        assert_same(ranking, reranker.rank(query, TEXTS))


def test_no_requests_give_no_rankings(recorded: E2RankEncoder, recording: Recording) -> None:
    """And ask nothing of the engine."""
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


# Results: top_n and threshold


@pytest.mark.parametrize(("top_n", "expected"), [(None, 7), (1, 1), (3, 3), (7, 7), (8, 7), (10**9, 7)])
def test_top_n_cuts_the_results_and_not_the_ranking(
    qwen_encoder: E2RankEncoder, top_n: int | None, expected: int
) -> None:
    """None is all, and more than there are is all; `ranked` keeps everyone."""
    for ranking in (
        Reranker(qwen_encoder, top_n=top_n).rank(QUERY, TEXTS),
        Reranker(qwen_encoder).rank(QUERY, TEXTS, top_n=top_n),
        Reranker(qwen_encoder, top_n=2).rank(QUERY, TEXTS, top_n=top_n) if top_n else None,
    ):
        if ranking is not None:
            assert len(ranking) == expected
            assert len(ranking.ranked) == len(TEXTS)


@pytest.mark.parametrize("top_n", [0, -1, True, False, 2.5, "3", [3]])
def test_a_senseless_top_n_is_refused(qwen_encoder: E2RankEncoder, top_n: object) -> None:
    """At construction and per call, also for an empty list, before anything is computed."""
    with pytest.raises(InputError, match="top_n"):
        Reranker(qwen_encoder, top_n=top_n)
    for candidates in (TEXTS, []):
        with pytest.raises(InputError, match="top_n"):
            Reranker(qwen_encoder).rank(QUERY, candidates, top_n=top_n)


@pytest.mark.parametrize(
    "options",
    [
        {"num_input_docs": 0},
        {"num_input_docs": True},
        {"num_input_docs": 1.5},
        {"query_weight": -0.1},
        {"query_weight": 1.1},
        {"query_weight": float("nan")},
        {"query_weight": True},
        {"query_weight": "0.5"},
        {"score_threshold": -1.1},
        {"score_threshold": 2},
        {"score_threshold": float("nan")},
        {"score_threshold": "high"},
        {"on_error": "ignore"},
        {"on_error": None},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_at_construction(qwen_encoder: E2RankEncoder, options: dict[str, Any]) -> None:
    """By name, before the first query."""
    with pytest.raises(InputError, match=next(iter(options))):
        Reranker(qwen_encoder, **options)


@pytest.mark.parametrize("encoder", [None, "embedded", 5])
def test_a_reranker_without_an_encoder_is_refused_at_construction(encoder: object) -> None:
    """A model's name is not a model: said when it is given, not in the middle of a request."""
    with pytest.raises(InputError, match="encoder"):
        Reranker(encoder)


def test_the_threshold_cuts_the_results_before_top_n(qwen_encoder: E2RankEncoder) -> None:
    """A result reaches the threshold, exactly it included; `ranked` keeps everyone."""
    every = Reranker(qwen_encoder).rank(QUERY, TEXTS)
    bar = every[2].score
    ranking = Reranker(qwen_encoder, score_threshold=bar).rank(QUERY, TEXTS)
    assert texts_of(ranking) == texts_of(every)[:3]
    assert len(ranking.ranked) == len(TEXTS)
    assert len(Reranker(qwen_encoder, score_threshold=bar, top_n=2).rank(QUERY, TEXTS)) == 2
    assert len(Reranker(qwen_encoder, score_threshold=1.0).rank(QUERY, TEXTS)) == 0
    assert len(Reranker(qwen_encoder, score_threshold=-1).rank(QUERY, TEXTS)) == len(TEXTS)


# Failures


FAILURES = [TransientError("timed out"), EngineMemoryError("out of memory"), NonFiniteError("NaN")]
by_kind = pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)


@by_kind
def test_a_transient_failure_is_raised_by_default(qwen_encoder: E2RankEncoder, error: TransientError) -> None:
    """Nobody is left to take retrieval order for a ranking unless he asked for it."""
    failing = replace(qwen_encoder, custom_engine=Failing(qwen_encoder.engine, error))
    with pytest.raises(type(error)):
        Reranker(failing).rank(QUERY, TEXTS)
    with pytest.raises(type(error)):
        Reranker(failing).rank_many([(QUERY, TEXTS), (QUERY, TEXTS[:2])])


@by_kind
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_keep_order_gives_the_candidates_as_they_came(
    qwen_encoder: E2RankEncoder, error: TransientError, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut to `top_n`, no score, the failure attached, one warning without any text, nothing lost."""
    failing = replace(qwen_encoder, custom_engine=Failing(qwen_encoder.engine, error))
    reranker = Reranker(failing, on_error="keep_order", score_threshold=0.99)
    candidates = [Candidate(f"{SECRET} {i}", id=str(i)) for i in range(5)]
    with caplog.at_level(logging.DEBUG):
        call = reranker.arank(QUERY, candidates, top_n=2) if asynchronous else None
        ranking = await call if call is not None else reranker.rank(QUERY, candidates, top_n=2)
    assert [item.candidate for item in ranking.results] == candidates[:2]
    assert [item.candidate for item in ranking.ranked] == candidates
    assert [(item.position, item.old_position, item.score) for item in ranking.ranked] == [
        (i, i, None) for i in range(5)
    ]
    assert ranking.kept_order
    assert ranking.error is error
    assert ranking.query_vector is None
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert type(error).__name__ in warning.getMessage()
    assert SECRET not in caplog.text


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_of_many_only_the_one_that_fails_keeps_its_order(
    qwen_encoder: E2RankEncoder, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One query whose prompt the engine cannot embed does not spoil the others, sync and async."""
    bad = Reranker(qwen_encoder).plan("Explain gravity", TEXTS).prompt
    engine = Failing(qwen_encoder.engine, EngineMemoryError("too long"), lambda item: item == bad)
    reranker = Reranker(replace(qwen_encoder, custom_engine=engine), on_error="keep_order")
    requests = [(QUERY, TEXTS), ("Explain gravity", TEXTS), ("Bread?", TEXTS)]
    with caplog.at_level(logging.WARNING):
        found = await reranker.arank_many(requests) if asynchronous else reranker.rank_many(requests)
    assert [ranking.kept_order for ranking in found] == [False, True, False]
    assert texts_of(found[1].ranked) == TEXTS
    for place in (0, 2):
        assert_same(found[place], Reranker(qwen_encoder).rank(*requests[place]))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [CheckpointError("altered"), InputError("bad"), RuntimeError("a bug"), KeyError("k")])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_is_not_transient_is_raised_whatever_on_error_says(
    qwen_encoder: E2RankEncoder, error: Exception, asynchronous: bool
) -> None:
    """Configuration, input and faults of the code are never hidden behind retrieval order."""
    failing = replace(qwen_encoder, custom_engine=Failing(qwen_encoder.engine, error))
    reranker = Reranker(failing, on_error="keep_order")
    with pytest.raises(type(error)):
        await reranker.arank(QUERY, TEXTS) if asynchronous else reranker.rank(QUERY, TEXTS)


def test_bad_input_is_raised_whatever_on_error_says(qwen_encoder: E2RankEncoder) -> None:
    """A wrong vector is no passing failure."""
    with pytest.raises(VectorError):
        Reranker(qwen_encoder, on_error="keep_order").rank(QUERY, [Candidate("a", vector=[1.0])])


class Broken(Recording):
    """Returns NaN for prompts, as an engine that does not check would."""

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        encoded = super().encode(inputs)
        vectors = encoded.vectors.copy()
        vectors[[item.role == "listwise" for item in inputs]] = np.nan
        return Encoded(vectors, encoded.usage)


def test_nan_is_an_error_and_never_sorted(qwen_encoder: E2RankEncoder) -> None:
    """NaN scores would come out first; they raise, or keep the order."""
    broken = replace(qwen_encoder, custom_engine=Broken(qwen_encoder.engine))
    with pytest.raises(NonFiniteError, match="7 of 7 scores"):
        Reranker(broken).rank(QUERY, TEXTS)
    kept = Reranker(broken, on_error="keep_order").rank(QUERY, TEXTS)
    assert texts_of(kept) == TEXTS
    assert isinstance(kept.error, NonFiniteError)


# Input


@pytest.mark.parametrize("query", [None, 5, b"bytes", "", "  \n\t", "\u3000", "lone \ud800", ["q"]])
@pytest.mark.parametrize("candidates", [TEXTS, []])
def test_a_query_that_asks_nothing_is_refused(qwen_encoder: E2RankEncoder, query: object, candidates: list) -> None:
    """None, a number, blank, or not Unicode."""
    with pytest.raises(InputError, match="query"):
        Reranker(qwen_encoder).rank(query, candidates)


@pytest.mark.parametrize(
    ("candidates", "where"),
    [
        (None, "candidates"),
        (5, "candidates"),
        ("one text", "candidates"),
        (["a", 5], "candidate 1"),
        (["a", None], "candidate 1"),
        ([SECRET + "\ud800"], "candidate 0"),
        ([Candidate(SECRET, id="x", vector=[1.0, 2.0])], r"candidate 0 \(id 'x'\)"),
        ([Candidate(SECRET, vector=[float("nan")] * WIDTH)], "candidate 0"),
        ([Candidate(SECRET, vector=[0.0] * WIDTH)], "candidate 0"),
    ],
)
def test_bad_candidates_are_named_by_place_and_never_by_text(
    qwen_encoder: E2RankEncoder, candidates: object, where: str
) -> None:
    """The message is safe to log."""
    with pytest.raises(InputError, match=where) as caught:
        Reranker(qwen_encoder).rank(QUERY, candidates)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("vector", [[1.0], [float("nan")] * WIDTH, [0.0] * WIDTH, "text", np.ones((1, WIDTH))])
def test_a_bad_query_vector_is_named(qwen_encoder: E2RankEncoder, vector: object) -> None:
    """As candidates' vectors are."""
    with pytest.raises(VectorError, match="query_vector"):
        Reranker(qwen_encoder).rank(QUERY, TEXTS, query_vector=vector)


def test_a_query_that_leaves_no_room_is_a_budget_error(qwen_encoder: E2RankEncoder) -> None:
    """Neither query nor scaffold is cut; the message has the numbers and not the text."""
    narrow = replace(qwen_encoder, profile=replace(E2RANK, caps=Caps(prompt=1024, listed=256)))
    with pytest.raises(PromptBudgetError, match=r"take \d+ of the prompt's 1024") as caught:
        Reranker(narrow, on_error="keep_order").rank(f"{SECRET} " * 500, TEXTS)
    assert SECRET not in str(caught.value)


def test_inputs_are_never_written_to(qwen_encoder: E2RankEncoder) -> None:
    """Lists, metadata and vectors are afterwards what they were, also where vectors are of other lengths."""
    vectors = 7 * random_vectors(len(TEXTS))
    vectors.setflags(write=False)
    metadata = {"page": 1, "nested": {"score": 2}}
    candidates = stored(TEXTS, vectors, metadata=metadata)
    before = copy.deepcopy((candidates, metadata, vectors))
    items = list(candidates)
    Reranker(qwen_encoder).rank(QUERY, candidates)
    assert all(one is other for one, other in zip(candidates, items, strict=True))
    assert metadata == before[1]
    np.testing.assert_array_equal(vectors, before[2])


def test_the_callers_own_objects_come_back(qwen_encoder: E2RankEncoder) -> None:
    """Also those of a subclass."""

    class Passage(Candidate):
        pass

    mine = [Passage("a", metadata={"k": 1}), Passage("b")]
    assert {id(item.candidate) for item in Reranker(qwen_encoder).rank(QUERY, mine)} == set(map(id, mine))


def test_a_document_of_ten_megabytes_is_ranked(qwen_encoder: E2RankEncoder) -> None:
    """It is cut, said to be cut with a lower bound of its size, and neither lost nor an error."""
    huge = Candidate("word " * 2_000_000, vector=random_vectors(1)[0])
    ranking = Reranker(qwen_encoder).rank(QUERY, ["small", huge])
    assert {item.candidate.text[:5]: item.truncated for item in ranking.ranked} == {"small": False, "word ": True}
    assert ranking.plan.slots[1].lower_bound
    assert ranking.plan.slots[1].tokens_before >= 200_000
    assert ranking.plan.slots[1].tokens_after <= 1024


def test_ten_thousand_stored_candidates_cost_one_forward(recorded: E2RankEncoder, recording: Recording) -> None:
    """Every one is scored, in the order that numpy's stable sort gives."""
    vectors = random_vectors(10_000)
    ranking = Reranker(recorded).rank(QUERY, stored(["text"] * 10_000, vectors), top_n=10)
    assert recording.usage.forwards == 1
    assert (len(ranking), len(ranking.ranked)) == (10, 10_000)
    scores = scores_of(ranking)
    in_place = np.array([scores[i] for i in range(10_000)])
    assert [item.old_position for item in ranking.ranked] == np.argsort(-in_place, kind="stable").tolist()


# Extending a ranking


@pytest.mark.parametrize("with_vectors", [False, True])
def test_extend_scores_new_candidates_by_the_same_vector(
    recorded: E2RankEncoder, recording: Recording, with_vectors: bool
) -> None:
    """They are merged in by their cosine, have no old position, and cost no second prompt."""
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


# As a value


def test_a_ranking_is_a_sequence_of_its_results(qwen_encoder: E2RankEncoder) -> None:
    """Length, index, slice, iteration and membership are those of `results`."""
    ranking = Reranker(qwen_encoder, top_n=3).rank(QUERY, TEXTS)
    assert len(ranking) == 3
    assert list(ranking) == list(ranking.results)
    assert ranking[0] is ranking.results[0]
    assert ranking[-1] is ranking.results[-1]
    assert ranking[:2] == ranking.results[:2]
    assert ranking.results[1] in ranking
    with pytest.raises(IndexError):
        _ = ranking[3]


def test_rerankers_and_rankings_pickle_and_copy(qwen_encoder: E2RankEncoder) -> None:
    """A reranker is equal to its copies; a ranking keeps its order, scores and report."""
    reranker = Reranker(qwen_encoder, top_n=2, query_weight=0.5)
    assert pickle.loads(pickle.dumps(reranker)) == copy.deepcopy(reranker) == reranker
    assert hash(pickle.loads(pickle.dumps(reranker))) == hash(reranker)
    ranking = reranker.rank(QUERY, TEXTS)
    for clone in (pickle.loads(pickle.dumps(ranking)), copy.deepcopy(ranking)):
        assert repr(clone) == repr(ranking)
        assert clone.plan == ranking.plan
        assert_same(clone, ranking)


def test_results_are_native_types(qwen_encoder: E2RankEncoder) -> None:
    """Scores, positions and counts can be written as JSON as they are."""
    ranking = Reranker(qwen_encoder, query_weight=0.5).rank(QUERY, TEXTS)
    item = ranking[0]
    facts = [item.score, item.position, item.old_position, item.in_prompt, item.truncated, item.vector_source]
    facts += [ranking.query_similarity, ranking.seconds, ranking.usage.tokens, ranking.plan.tokens]
    assert json.loads(json.dumps(facts)) == facts
    assert type(item.score) is float
