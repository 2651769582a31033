"""The other settings: orders, passes and sliding windows, which lose nothing and spend what they say."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2rank_integrations import Candidate, E2RankEncoder, Reranker
from e2rank_integrations.errors import EngineMemoryError, InputError
from e2rank_integrations.evaluation.settings import WHOLE_LIST, PromptSettings, add_arguments, from_options, rank
from tests.support.engines import Failing
from tests.support.reranking import QUERY, TEXTS, assert_same, random_vectors, stored, texts_of, watched

some = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
any_settings = st.builds(
    PromptSettings,
    order=st.sampled_from(["initial", "reversed", "random"]),
    passes=st.integers(1, 3),
    window=st.none() | st.integers(1, 6),
    seed=st.integers(0, 5),
)


def many(count: int) -> list[Candidate]:
    """Candidates that bring vectors."""
    return stored([f"Text number {number}." for number in range(count)], random_vectors(count))


def ids(items: Any) -> list[str]:
    return [item.candidate.id for item in items]


# The values themselves


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"order": "backwards"}, "order"), ({"passes": 0}, "passes"), ({"passes": True}, "passes"),
        ({"passes": 1.0}, "passes"), ({"window": 0}, "window"), ({"window": 20, "step": 0}, "step"),
        ({"window": 20, "step": 21}, "step"), ({"step": 10}, "step"), ({"seed": "x"}, "seed"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_refused(fields: dict[str, Any], named: str):
    """At construction, by the field's name."""
    with pytest.raises(InputError, match=f"^{named}: "):
        PromptSettings(**fields)


def test_the_windows_of_the_paper():
    """Window 20, step 10 over 100 candidates: nine windows from the end to the front, each half over the last one."""
    windows = PromptSettings(window=20, step=10).windows(100)
    assert [(part.start, part.stop) for part in windows] == [(start, start + 20) for start in range(80, -1, -10)]
    assert PromptSettings(window=20).windows(100) == windows
    assert PromptSettings(window=20).windows(7) == (slice(0, 7),)
    assert [(part.start, part.stop) for part in PromptSettings(window=20).windows(25)] == [(5, 25), (0, 15)]
    assert PromptSettings(window=20).windows(0) == ()
    assert WHOLE_LIST.windows(100) == (slice(0, 100),)


@given(count=st.integers(1, 130), window=st.integers(1, 40), data=st.data())
def test_windows_cover_the_list_and_carry_to_the_front(count: int, window: int, data: st.DataObject):
    """Every place is in a window, the last one begins at the front, and each reaches into the one before by what it
    did not move."""
    step = data.draw(st.integers(1, window))
    parts = PromptSettings(window=window, step=step).windows(count)
    assert {place for part in parts for place in range(part.start, part.stop)} == set(range(count))
    assert (parts[0].stop, parts[-1].start) == (count, 0)
    assert all(0 < part.stop - part.start <= window for part in parts)
    for before, after in pairwise(parts):
        assert before.stop - after.stop == step
        assert after.start < before.start
        assert after.stop - before.start == window - step


@given(count=st.integers(0, 60), seed=st.integers(0, 9), query=st.text(max_size=5))
def test_first_orders_are_permutations(count: int, seed: int, query: str):
    """Nothing is lost; reversed is the initial one from its end; random depends on seed and query alone."""
    orders = {
        name: PromptSettings(order=name, seed=seed).first_order(query, count)
        for name in ("initial", "reversed", "random")
    }
    assert all(sorted(order) == list(range(count)) for order in orders.values())
    assert orders["initial"] == tuple(range(count)) == orders["reversed"][::-1]
    assert orders["random"] == PromptSettings(order="random", seed=seed).first_order(query, count)


def test_random_orders_differ_by_seed_and_by_query():
    """So that one unlucky permutation is not measured on every query; and they are the same tomorrow."""
    base = PromptSettings(order="random", seed=1).first_order("a", 30)
    assert base != PromptSettings(order="random", seed=2).first_order("a", 30)
    assert base != PromptSettings(order="random", seed=1).first_order("b", 30)
    assert PromptSettings(order="random").first_order("What?", 5) == FROZEN


FROZEN = (3, 1, 2, 0, 4)


def test_a_description_says_what_differs():
    """For the line below a table; the default has none, whatever its seed."""
    assert PromptSettings(seed=3).description == ""
    assert PromptSettings(order="reversed", passes=2, window=20).description == (
        "reversed order, 2 passes, window 20/10"
    )


def test_the_options_of_a_command():
    """Each of them reaches its setting, and none given is the default."""
    parser = ArgumentParser()
    add_arguments(parser)
    assert from_options(parser.parse_args([])) == WHOLE_LIST
    line = "--order random --passes 2 --window 20 --step 5 --order-seed 7"
    assert from_options(parser.parse_args(line.split())) == PromptSettings(
        order="random", passes=2, window=20, step=5, seed=7
    )
    with pytest.raises(InputError, match="step"):
        from_options(parser.parse_args(["--step", "5"]))


# Ranking


def test_the_default_is_the_reranker(qwen_encoder: E2RankEncoder):
    """Its limits included; the same inputs go to the engine."""
    encoder, recording = watched(qwen_encoder)
    reranker = Reranker(encoder, top_n=2, query_weight=0.5)
    one, other = rank(reranker, QUERY, TEXTS), reranker.rank(QUERY, TEXTS)
    assert_same(one, other)
    assert len(one) == 2
    assert one.usage == other.usage
    assert recording.calls[0] == recording.calls[1]


@some
@given(count=st.integers(1, 14), chosen=any_settings)
def test_no_candidate_is_lost(qwen_encoder: E2RankEncoder, count: int, chosen: PromptSettings):
    """Whatever the settings, each candidate is ranked once, as the caller gave it, with its place of old."""
    candidates = many(count)
    ranking = rank(Reranker(qwen_encoder, query_weight=0.5), QUERY, candidates, chosen)
    assert sorted(item.old_position for item in ranking.ranked) == list(range(count))
    assert all(item.candidate is candidates[item.old_position] for item in ranking.ranked)
    assert [item.position for item in ranking.ranked] == list(range(count))
    assert ranking.results == ranking.ranked


@some
@given(count=st.integers(1, 14), chosen=any_settings)
def test_usage_is_what_the_engine_saw(qwen_encoder: E2RankEncoder, count: int, chosen: PromptSettings):
    """A prompt a window and pass; the plain query once, and a missing document's vector once."""
    encoder, recording = watched(qwen_encoder)
    candidates = [replace(item, vector=item.vector if place else None) for place, item in enumerate(many(count))]
    ranking = rank(Reranker(encoder, query_weight=0.5), QUERY, candidates, chosen)
    assert ranking.usage == recording.usage
    assert ranking.usage.prompts == chosen.passes * len(chosen.windows(count))
    assert (ranking.usage.queries, ranking.usage.documents) == (1, 1)


def test_another_order_is_the_reranker_on_that_order(qwen_encoder: E2RankEncoder):
    """The same ranking as of the permuted list; places of old and slots of the plan are those of the list given."""
    candidates = many(30)
    reranker = Reranker(qwen_encoder, num_input_docs=5)
    turned = rank(reranker, QUERY, candidates, PromptSettings(order="reversed"))
    expected = reranker.rank(QUERY, candidates[::-1])
    assert ids(turned.ranked) == ids(expected.ranked)
    assert [item.score for item in turned.ranked] == [item.score for item in expected.ranked]
    np.testing.assert_array_equal(turned.query_vector, expected.query_vector)
    assert [item.old_position for item in turned.ranked] == [29 - item.old_position for item in expected.ranked]
    assert turned.plan.slots == expected.plan.slots[::-1]
    assert {item.old_position for item in turned.ranked if item.in_prompt} == set(range(25, 30))
    assert ids(turned.ranked) != ids(reranker.rank(QUERY, candidates).ranked)


def test_a_pass_begins_with_the_ranking_of_the_one_before(qwen_encoder: E2RankEncoder):
    """Two passes are two reranks by hand, the first one's order given to the second."""
    candidates = many(30)
    reranker = Reranker(qwen_encoder, num_input_docs=5, query_weight=0.3)
    twice = rank(reranker, QUERY, candidates, PromptSettings(passes=2))
    first = reranker.rank(QUERY, candidates)
    second = reranker.rank(QUERY, [item.candidate for item in first.ranked])
    assert ids(twice.ranked) == ids(second.ranked)
    np.testing.assert_allclose(
        [item.score for item in twice.ranked], [item.score for item in second.ranked], rtol=0, atol=1e-6
    )
    assert {item.candidate.id for item in twice.ranked if item.in_prompt} == set(ids(first.ranked[:5]))
    assert [slot.included for slot in twice.plan.slots].count(True) == 5
    assert {candidates[place].id for place, slot in enumerate(twice.plan.slots) if slot.included} == set(
        ids(first.ranked[:5])
    )


def test_a_sliding_window_by_hand(qwen_encoder: E2RankEncoder):
    """From the end to the front, each window in the order of its own prompt, the best of one part of the next."""
    candidates = many(10)
    reranker = Reranker(qwen_encoder)
    order = list(candidates)
    for start, stop in ((6, 10), (4, 8), (2, 6), (0, 4)):
        order[start:stop] = [item.candidate for item in reranker.rank(QUERY, order[start:stop]).ranked]
    found = rank(reranker, QUERY, candidates, PromptSettings(window=4, step=2))
    assert ids(found.ranked) == [candidate.id for candidate in order]
    assert ids(found.ranked) != ids(reranker.rank(QUERY, candidates).ranked)


def test_a_window_over_all_has_the_order_of_one_prompt(qwen_encoder: E2RankEncoder):
    """Where the list is no longer than the window."""
    candidates = many(7)
    windowed = rank(Reranker(qwen_encoder), QUERY, candidates, PromptSettings(window=20))
    assert ids(windowed.ranked) == ids(Reranker(qwen_encoder).rank(QUERY, candidates).ranked)


def test_after_windows_there_is_no_one_score(qwen_encoder: E2RankEncoder):
    """No one prompt has seen all candidates, and nothing pretends that it has."""
    ranking = rank(Reranker(qwen_encoder), QUERY, many(7), PromptSettings(window=4))
    assert (ranking.query_vector, ranking.plan, ranking.query_similarity) == (None, None, None)
    assert {item.score for item in ranking.ranked} == {None}
    assert not ranking.kept_order
    assert ranking.seconds > 0


def test_vectors_are_said_to_come_from_where_they_came(qwen_encoder: E2RankEncoder):
    """A vector that was computed once for all prompts is no given one."""
    candidates = [*stored(["a"], random_vectors(1), vector_source="store"), Candidate("b", id="b")]
    for chosen in (PromptSettings(passes=2), PromptSettings(window=2)):
        ranking = rank(Reranker(qwen_encoder), QUERY, candidates, chosen)
        assert {item.candidate.text: item.vector_source for item in ranking.ranked} == {"a": "store", "b": "computed"}


def test_a_given_query_vector_is_not_computed_again(qwen_encoder: E2RankEncoder):
    """And takes its share in every pass."""
    encoder, recording = watched(qwen_encoder)
    reranker, (vector,) = Reranker(encoder, query_weight=0.5), qwen_encoder.encode_queries([QUERY])
    for chosen in (WHOLE_LIST, PromptSettings(passes=2), PromptSettings(window=3)):
        one = rank(reranker, QUERY, many(6), chosen, query_vector=vector)
        assert recording.usage.queries == 0
        other = rank(Reranker(qwen_encoder, query_weight=0.5), QUERY, many(6), chosen)
        assert ids(one.ranked) == ids(other.ranked)


def test_limits_and_keeping_the_order_are_set_aside(qwen_encoder: E2RankEncoder):
    """Every candidate is ranked, and a failure is an error rather than an order that looks like the model's."""
    limited = Reranker(qwen_encoder, top_n=1, score_threshold=0.99)
    assert len(rank(limited, QUERY, many(5), PromptSettings(passes=2))) == 5
    engine = Failing(qwen_encoder.engine, EngineMemoryError("no room"))
    failing = Reranker(replace(qwen_encoder, custom_engine=engine), on_error="keep_order")
    with pytest.raises(EngineMemoryError):
        rank(failing, QUERY, many(5), PromptSettings(window=3))


@pytest.mark.parametrize("chosen", [PromptSettings(passes=2), PromptSettings(window=4)], ids=["passes", "window"])
def test_nothing_to_rank(qwen_encoder: E2RankEncoder, chosen: PromptSettings):
    """No candidates are no prompt and no error; a blank query is one, as ever."""
    ranking = rank(Reranker(qwen_encoder), QUERY, [], chosen)
    assert (len(ranking), ranking.usage.prompts, ranking.plan) == (0, 0, None)
    with pytest.raises(InputError, match="blank"):
        rank(Reranker(qwen_encoder), " ", many(2), chosen)


def test_the_embedded_model_slides_too(embedded_encoder: E2RankEncoder):
    """With a real model: a candidate from the end of the list is carried to the front, from window to window."""
    filler = [f"Bread number {number} is baked from flour and water." for number in range(9)]
    texts = [*filler, "The capital of China is Beijing."]
    reranker = Reranker(embedded_encoder)
    ranking = rank(reranker, QUERY, texts, PromptSettings(window=4))
    assert texts_of(ranking.ranked)[0] == "The capital of China is Beijing."
    assert sorted(texts_of(ranking.ranked)) == sorted(texts)
