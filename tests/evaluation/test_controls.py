from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations.evaluation.controls import cosine_rerank, feedback_vector, reciprocal_rank_fusion
from e2rank_integrations.evaluation.first_stage import VectorIndex
from e2rank_integrations.evaluation.runs import Hit, Hits


def hits(ids: str) -> Hits:
    return tuple(Hit(key, 0.0) for key in ids)


def random_index(seed: int = 0) -> VectorIndex:
    rows = np.random.default_rng(seed).normal(size=(6, 8)).astype(np.float32)
    return VectorIndex(tuple("abcdef"), rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_fusion_sums_reciprocal_ranks_from_sixty_one():
    """1/(60 + rank), ranks from 1, summed over the lists that hold the document."""
    fused = reciprocal_rank_fusion([hits("abc"), hits("cad")])
    assert {hit.id: hit.score for hit in fused} == pytest.approx(
        {"a": 1 / 61 + 1 / 62, "b": 1 / 62, "c": 1 / 63 + 1 / 61, "d": 1 / 63}
    )
    assert [hit.id for hit in fused] == ["a", "c", "b", "d"]


@settings(deadline=None, max_examples=50)
@given(st.permutations("abcdef"), st.permutations("defghi"))
def test_fusion_loses_nothing_and_repeats_nothing(first: list[str], second: list[str]):
    """Every document of every list once, best score first."""
    fused = reciprocal_rank_fusion([hits("".join(first)), hits("".join(second))])
    assert sorted(hit.id for hit in fused) == list("abcdefghi")
    assert [hit.score for hit in fused] == sorted((hit.score for hit in fused), reverse=True)


def test_fusing_a_list_with_itself_or_nothing_keeps_its_order():
    """So a query that one method cannot answer is answered by the other."""
    assert [hit.id for hit in reciprocal_rank_fusion([hits("bac"), hits("bac")])] == list("bac")
    assert [hit.id for hit in reciprocal_rank_fusion([hits("bac"), ()])] == list("bac")
    assert reciprocal_rank_fusion([(), ()]) == ()


@settings(deadline=None, max_examples=30)
@given(st.permutations("abcdef"), st.integers(0, 6))
def test_cosine_rerank_reorders_the_candidates_and_only_those(order: list[str], depth: int):
    """The result is the candidates by their cosine, whatever order they came in."""
    index = random_index()
    query = index.of("c")[0]
    given_hits = hits("".join(order[:depth]))
    expected = [hit.id for hit in index.search(query, 6) if hit.id in order[:depth]]
    assert [hit.id for hit in cosine_rerank(given_hits, query, index)] == expected


def test_feedback_is_the_query_plus_six_tenths_of_the_mean_of_the_first_three():
    """The README's control: length one, later hits without effect."""
    index = random_index()
    query = index.of("f")[0]
    moved = query + 0.6 * (index.of("a")[0] + index.of("b")[0] + index.of("c")[0]) / 3
    found = feedback_vector(query, hits("abcde"), index)
    assert found == pytest.approx(moved / np.linalg.norm(moved), abs=1e-6)
    assert np.array_equal(found, feedback_vector(query, hits("abced"), index))
    assert found.dtype == np.float32


def test_feedback_without_hits_is_the_query_itself():
    """Nothing was found, so nothing is learned."""
    query = random_index().of("a")[0]
    assert np.array_equal(feedback_vector(query, (), random_index()), query)
