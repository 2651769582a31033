"""Options, bad input and failures: a typed error that may be logged, or the candidates as they came."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from e2rank_integrations import Candidate, E2RankEncoder, Reranker
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
from e2rank_integrations.reranker import finish
from e2rank_integrations.values import Encoded, TokenInput, Usage
from tests.support.engines import Failing, Recording
from tests.support.reranking import (
    QUERY,
    SECRET,
    TEXTS,
    WIDTH,
    assert_same,
    random_vectors,
    scores_of,
    stored,
    texts_of,
    watched,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# How many results


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
    with pytest.raises(NonFiniteError, match="the engine returned NaN"):
        Reranker(broken).rank(QUERY, TEXTS)
    job = Reranker(qwen_encoder).plan(QUERY, TEXTS)
    computed = dict.fromkeys(job.inputs, np.full(WIDTH, np.nan, dtype=np.float32))
    with pytest.raises(NonFiniteError, match="7 of 7 scores"):
        finish(job, computed, Usage(), 0.0)
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


def test_ten_thousand_stored_candidates_cost_one_forward(qwen_encoder: E2RankEncoder) -> None:
    """Every one is scored, in the order that numpy's stable sort gives."""
    recorded, recording = watched(qwen_encoder)
    vectors = random_vectors(10_000)
    ranking = Reranker(recorded).rank(QUERY, stored(["text"] * 10_000, vectors), top_n=10)
    assert recording.usage.forwards == 1
    assert (len(ranking), len(ranking.ranked)) == (10, 10_000)
    scores = scores_of(ranking)
    assert [item.old_position for item in ranking.ranked] == np.argsort(-np.array(scores), kind="stable").tolist()
