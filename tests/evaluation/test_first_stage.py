from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.first_stage import BM25, VectorIndex, best

WORDS = {"a": ["cat", "dog", "cat"], "b": ["dog"], "c": ["bird", "fish", "tree", "cat"], "d": ["tree"]}
TEXTS = {key: " ".join(words) for key, words in WORDS.items()}


def lucene_bm25(term: str, words: list[str]) -> float:
    """Lucene's formula, with k1 = 1.2 and b = 0.75, written down anew."""
    holding = sum(term in other for other in WORDS.values())
    rarity = log(1 + (len(WORDS) - holding + 0.5) / (holding + 0.5))
    average = sum(map(len, WORDS.values())) / len(WORDS)
    count = words.count(term)
    return rarity * count / (count + 1.2 * (0.25 + 0.75 * len(words) / average))


def test_bm25_is_lucenes_formula():
    """Scores equal the formula, summed over the query's words."""
    hits = BM25(TEXTS).search("cat dog", 10)
    expected = {key: lucene_bm25("cat", words) + lucene_bm25("dog", words) for key, words in WORDS.items()}
    assert {hit.id: hit.score for hit in hits} == pytest.approx({k: v for k, v in expected.items() if v}, rel=1e-5)
    assert [hit.id for hit in hits] == ["a", "b", "c"]


def test_bm25_reads_stems_and_no_stop_words(collection: Collection):
    """`attracting` finds `attracts` and `attract`; `the` and `is` find nothing."""
    bm25 = BM25(collection.documents)
    assert {hit.id for hit in bm25.search("attracting")} == {"gravity", "newton"}
    assert bm25.search("the is a") == ()


def test_ties_keep_the_corpus_order():
    """Equal texts have equal scores and stay as they were, also at the cut."""
    bm25 = BM25(dict.fromkeys("zyxw", "one cat") | {"other": "a dog"})
    assert [hit.id for hit in bm25.search("cat", 3)] == ["z", "y", "x"]


@pytest.mark.parametrize("query", ["cat", "unheard", "", "!?", "日本語"])
def test_documents_that_match_no_word_are_hits_only_where_the_list_is_to_be_filled(query: str):
    """A filled list begins with the same hits and goes on in the corpus's order, with score 0."""
    hits, filled = BM25(TEXTS).search(query, 4), BM25(TEXTS, fill=True).search(query, 4)
    assert all(hit.score > 0 for hit in hits)
    assert filled[: len(hits)] == hits
    assert len(filled) == 4
    added = [hit.id for hit in filled[len(hits) :]]
    assert added == [key for key in TEXTS if key in added]
    assert len(BM25(TEXTS, fill=True).search(query, 2)) == 2


@pytest.mark.parametrize("texts", [{}, {"a": ""}, {"a": "the", "b": "!"}])
def test_a_corpus_without_words_is_an_error(texts: dict[str, str]):
    """There would be nothing to search."""
    with pytest.raises(InputError, match="word"):
        BM25(texts)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=30), st.integers(1, 40))
def test_best_is_a_stable_sort_cut_to_its_depth(scores: list[float], depth: int):
    """Highest first, ties as given, never more than asked for."""
    ids = [f"d{position}" for position in range(len(scores))]
    expected = sorted(zip(ids, scores, strict=True), key=lambda pair: -pair[1])[:depth]
    assert [tuple(hit) for hit in best(ids, np.array(scores), depth)] == expected


def test_a_vector_index_ranks_by_cosine_and_gives_rows_in_the_order_asked():
    """Search is by inner product of unit rows; rows come by id, repeated ids included."""
    index = VectorIndex(("x", "y", "z"), np.eye(3, dtype=np.float32))
    query = np.array([0.0, 0.6, 0.8], dtype=np.float32)
    assert [hit.id for hit in index.search(query, 2)] == ["z", "y"]
    assert index.search(query, 1)[0].score == pytest.approx(0.8)
    assert np.array_equal(index.of(["z", "x", "z"]), np.eye(3, dtype=np.float32)[[2, 0, 2]])
    assert index.of([]).shape == (0, 3)


def test_a_vector_index_refuses_what_does_not_fit():
    """One row per id, and only known ids."""
    with pytest.raises(InputError, match="2 rows"):
        VectorIndex(("x", "y"), np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match="'nobody'"):
        VectorIndex(("x",), np.ones((1, 3), dtype=np.float32)).of(["x", "nobody"])
