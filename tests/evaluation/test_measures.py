from __future__ import annotations

from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.measures import score, score_all
from e2rank_integrations.evaluation.runs import Hit, Run

IDS = [f"d{number}" for number in range(14)]


def ndcg_at_ten(order: list[str], grades: dict[str, int]) -> float:
    """trec_eval's nDCG@10: linear gain, logarithmic discount, ideal over all judged documents."""

    def gain(ranked: list[int]) -> float:
        return sum(max(grade, 0) / log2(rank + 1) for rank, grade in enumerate(ranked[:10], start=1))

    ideal = gain(sorted(grades.values(), reverse=True))
    return gain([grades.get(key, 0) for key in order]) / ideal if ideal else 0.0


@settings(deadline=None, max_examples=60)
@given(
    st.permutations(IDS),
    st.dictionaries(st.sampled_from([*IDS, "elsewhere"]), st.integers(0, 3), min_size=1),
    st.integers(0, len(IDS)),
)
def test_ndcg_is_trec_evals(order: list[str], grades: dict[str, int], depth: int):
    """Graded gain, ungraded documents as 0, judged documents that were not found in the ideal."""
    run = Run({"q": tuple(Hit(key, 1.0) for key in order[:depth])})
    assert score(run, {"q": grades}).mean == pytest.approx(ndcg_at_ten(order[:depth], grades))


def test_the_order_is_judged_and_not_the_scores():
    """Equal or even rising scores are not reordered behind the method's back."""
    for values in ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]):
        run = Run({"q": tuple(map(Hit, ("b", "a", "c"), values))})
        assert score(run, {"q": {"b": 1}}).mean == 1.0


def test_every_judged_query_counts_and_no_other():
    """A query without hits counts 0, one without a relevant document too, an unjudged one not at all."""
    run = Run({"found": (Hit("a", 1.0),), "empty": (), "hopeless": (Hit("a", 1.0),), "unjudged": (Hit("a", 1.0),)})
    scores = score(run, {"found": {"a": 1}, "empty": {"a": 1}, "absent": {"a": 1}, "hopeless": {"a": 0}})
    assert scores.per_query == {"found": 1.0, "empty": 0.0, "absent": 0.0, "hopeless": 0.0}
    assert scores.mean == 0.25


def test_a_run_without_any_hit_has_the_mean_zero():
    """Also where trec_eval would be handed nothing at all."""
    assert score(Run({}), {"q": {"a": 1}}).mean == 0.0


def test_other_measures_go_by_ir_measures_names():
    """Reciprocal rank, as an example."""
    run = Run({"q": (Hit("x", 2.0), Hit("a", 1.0))})
    assert score(run, {"q": {"a": 1}}, "RR@10").mean == 0.5


def test_several_measures_are_those_taken_one_by_one():
    """In the order asked for, each under the name asked for, though the library may write it another way."""
    run = Run({"q": (Hit("x", 2.0), Hit("a", 1.0)), "p": ()})
    qrels = {"q": {"a": 1, "b": 2}, "p": {"a": 1}}
    names = ["R@100", "RR(rel=2)@10", "nDCG@10", "RR@10", "RR(rel=1)@10"]
    found = score_all(run, qrels, names)
    assert [scores.measure for scores in found] == names
    assert [scores.per_query for scores in found] == [score(run, qrels, name).per_query for name in names]
    assert found[0].per_query == {"q": 0.5, "p": 0.0}
    assert found[1].mean == 0.0
    assert found[3].per_query == found[4].per_query == {"q": 0.5, "p": 0.0}


@pytest.mark.parametrize("measure", ["", "nDCG@", "unheard of", "nDCG(x=1)@10", "nDCG@10, AP"])
def test_an_unknown_measure_is_an_input_error(measure: str):
    """Not an error of the library behind it."""
    with pytest.raises(InputError, match="ir-measures"):
        score(Run({"q": (Hit("a", 1.0),)}), {"q": {"a": 1}}, measure)


def test_nothing_judged_is_an_input_error():
    """There would be no mean."""
    with pytest.raises(InputError, match="judged query"):
        score(Run({}), {})
