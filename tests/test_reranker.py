"""One rerank: equal to the paper's formula, nothing lost, stable, and as cheap as promised."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations import Candidate, E2RankEncoder, Reranker
from e2rank_integrations.profiles import E2RANK, Caps
from e2rank_integrations.values import Usage
from tests.support.reranking import (
    QUERY,
    SECRET,
    TEXTS,
    assert_same,
    random_vectors,
    scores_of,
    stored,
    texts_of,
    watched,
)

# The formula

quick = settings(deadline=None, max_examples=25)
texts = st.lists(st.sampled_from([*TEXTS, "a", "b", "c"]), min_size=1, max_size=12)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.7, 1.0])
def test_scores_are_cosines_to_the_blend_of_query_and_prompt(qwen_encoder: E2RankEncoder, weight: float) -> None:
    """`score(d) = cos(normalise(w·e_q + (1−w)·e_q̂), e_d)`, computed here from the three embeddings apart."""
    plain = qwen_encoder.encode_queries([QUERY])[0].astype(np.float64)
    prompt = qwen_encoder.encode_listwise(QUERY, TEXTS)[0][0].astype(np.float64)
    blend = weight * plain + (1 - weight) * prompt
    expected = qwen_encoder.encode_documents(TEXTS) @ (blend / np.linalg.norm(blend))
    ranking = Reranker(qwen_encoder, query_weight=weight).rank(QUERY, TEXTS)
    np.testing.assert_allclose(scores_of(ranking), expected, rtol=0, atol=1e-5)
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
    assert by_default[0].candidate.text == "The capital of China is Beijing."


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_query_similarity_is_the_cosine_of_query_and_prompt(qwen_encoder: E2RankEncoder, weight: float) -> None:
    """It is reported wherever the plain query's vector is known, computed or given, and nowhere else."""
    plain, prompt = qwen_encoder.encode_queries([QUERY])[0], qwen_encoder.encode_listwise(QUERY, TEXTS)[0][0]
    reranker = Reranker(qwen_encoder, query_weight=weight)
    known = reranker.rank(QUERY, TEXTS, query_vector=3 * plain)
    assert known.query_similarity == pytest.approx(float(plain @ prompt), abs=1e-5)
    alone = reranker.rank(QUERY, TEXTS).query_similarity
    assert alone is None if weight == 0 else alone == pytest.approx(known.query_similarity, abs=1e-6)


# By fixture: the order found, its scores, the prompt's tokens, and all tokens.
FROZEN = {
    "qwen_encoder": (
        [4, 5, 2, 3, 1, 6, 0],
        [0.26922, 0.11147, -0.02011, -0.02531, -0.12193, -0.20524, -0.26191],
        115,
        172,
    ),
    "embedded_encoder": (
        [1, 6, 2, 0, 3, 5, 4],
        [0.88834, 0.70177, 0.49536, 0.2288, 0.14652, 0.13097, 0.03267],
        34,
        109,
    ),
}


@pytest.mark.parametrize("encoder", FROZEN)
def test_the_frozen_case(request: pytest.FixtureRequest, encoder: str) -> None:
    """Fixed weights, real tokenizers, each profile's own prompt: order, scores and counts are what they were."""
    order, scores, prompt_tokens, tokens = FROZEN[encoder]
    # Stated here, since the embedded profile's are tuned now and then.
    options = {"num_input_docs": 3, "query_weight": 0.7} if encoder == "embedded_encoder" else {}
    ranking = Reranker(request.getfixturevalue(encoder), **options).rank(QUERY, TEXTS)
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


def test_with_stored_vectors_a_rerank_costs_one_forward(qwen_encoder: E2RankEncoder) -> None:
    """However many candidates: the prompt goes through the model, no document does, and no plain query."""
    recorded, recording = watched(qwen_encoder)
    ranking = Reranker(recorded).rank(QUERY, stored(["text"] * 100, random_vectors(100)))
    ((only,),) = recording.calls
    assert only.role == "listwise"
    assert ranking.usage == Usage(documents=0, queries=0, prompts=1, tokens=len(only.ids))
    assert ranking.usage.forwards == 1
    assert ranking.plan.tokens == len(only.ids)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_a_given_query_vector_saves_the_querys_forward(qwen_encoder: E2RankEncoder, weight: float) -> None:
    """Given at any length and as any kind of array, it stands for the computed one."""
    recorded, recording = watched(qwen_encoder)
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
    np.testing.assert_allclose(scores_of(ranking), scores_of(reranker.rank(QUERY, rows)), rtol=0, atol=1e-5)
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
    np.testing.assert_allclose(from_store, computed, rtol=0, atol=tolerance)


def test_no_candidates_cost_nothing(qwen_encoder: E2RankEncoder) -> None:
    """An empty list is an empty ranking, and the engine is not asked."""
    recorded, recording = watched(qwen_encoder)
    ranking = Reranker(recorded, query_weight=0.5).rank(QUERY, [])
    assert (list(ranking), ranking.ranked, ranking.plan, ranking.usage) == ([], (), None, Usage())
    assert not ranking.kept_order
    assert recording.calls == []


def test_planning_asks_no_engine(qwen_encoder: E2RankEncoder) -> None:
    """`plan` is pure: what must be embedded is known before anything is."""
    recorded, recording = watched(qwen_encoder)
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
    np.testing.assert_allclose(scores_of(ranking), expected, rtol=0, atol=1e-5)


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
