from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations.evaluation.significance import bootstrap_interval, differences, holm, sign_flip_p

DIFFERENCES = st.lists(st.floats(-1, 1, allow_nan=False).map(lambda value: round(value, 3)), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(DIFFERENCES)
def test_few_queries_are_tested_exactly(values: list[float]):
    """p is the share of all sign patterns whose mean is at least as far from 0 as the one found."""
    patterns = product((1, -1), repeat=len(values))
    sums = [abs(sum(sign * value for sign, value in zip(signs, values, strict=True))) for signs in patterns]
    expected = sum(total >= abs(sum(values)) - 1e-9 for total in sums) / len(sums)
    assert sign_flip_p(np.array(values)) == pytest.approx(expected)


def test_drawn_signs_come_near_the_exact_p():
    """With too few draws for every pattern, the estimate is close, and is the same for the same seed."""
    values = np.array([0.3, -0.1, 0.2, 0.05, 0.4, -0.2, 0.1, 0.15, -0.05, 0.25])
    drawn = sign_flip_p(values, draws=1000)
    assert drawn == pytest.approx(sign_flip_p(values), abs=0.03)
    assert drawn == sign_flip_p(values, draws=1000) != sign_flip_p(values, draws=1000, seed=1)


def test_p_is_never_zero_and_one_without_a_difference():
    """An estimate from draws cannot claim more than the draws can show."""
    assert sign_flip_p(np.full(200, 0.1)) == pytest.approx(1 / 10_001)
    assert sign_flip_p(np.zeros(200)) == 1.0
    assert sign_flip_p(np.zeros(3)) == 1.0


def test_the_interval_holds_the_mean_and_widens_with_the_spread():
    """Percentiles of resampled means: about the normal interval for many queries."""
    values = np.random.default_rng(1).normal(0.1, 0.5, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)
    assert bootstrap_interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_a_matrix_of_draws_is_cut_into_bounded_parts(monkeypatch: pytest.MonkeyPatch):
    """Thousands of queries need no more memory, and no draw is lost at a seam."""
    values = np.random.default_rng(2).normal(0.02, 0.5, 50)
    whole = sign_flip_p(values, draws=999), bootstrap_interval(values, draws=999)
    monkeypatch.setattr("e2rank_integrations.evaluation.significance._CELLS", 7 * 50)
    parts = sign_flip_p(values, draws=999), bootstrap_interval(values, draws=999)
    assert parts[0] == pytest.approx(whole[0], abs=0.06)
    assert parts[1] == pytest.approx(whole[1], abs=0.03)


def test_holms_correction_is_the_textbooks():
    """The least times n, the next times n - 1, never falling, never above 1; in the order given."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_methods_are_compared_query_by_query_with_the_baseline():
    """The mean of the differences, whatever order a method's queries are in; the correction is over all methods."""
    baseline = {"a": 0.2, "b": 0.4, "c": 0.6}
    found = differences({"same": dict(baseline), "better": {"c": 0.8, "b": 0.5, "a": 0.5}}, baseline)
    assert found["same"].mean == 0.0
    assert found["same"].p == found["same"].p_holm == 1.0
    better = found["better"]
    assert better.mean == pytest.approx(0.2)
    assert better.low <= better.mean <= better.high
    assert better.low == pytest.approx(0.1)
    assert better.p == 0.25
    assert better.p_holm == 0.5
