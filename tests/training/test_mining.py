from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.controls import reciprocal_rank_fusion
from e2rank_integrations.evaluation.first_stage import BM25, VectorIndex
from e2rank_integrations.evaluation.runs import Hit
from e2rank_integrations.training.candidates import in_list_order
from e2rank_integrations.training.cloze import inverse_cloze
from e2rank_integrations.training.mining import mine
from e2rank_integrations.training.slates import TrainingSlate
from e2rank_integrations.training.teachers import CosineTeacher

WIDTH = 4
WORDS = ("cat", "dog", "bird", "fish")


class FourWords:
    """Stands for an encoder: a text's vector counts four words."""

    def query_inputs(self, queries: list[str]) -> list[str]:
        return queries

    def run(self, inputs: list[str]) -> Any:
        vectors = np.array([[text.count(word) + 0.1 for word in WORDS] for text in inputs], dtype=np.float32)
        return type("Encoded", (), {"vectors": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)})


def small_index(collection: Collection) -> VectorIndex:
    return VectorIndex(tuple(collection.documents), FourWords().run(list(collection.documents.values())).vectors)


@pytest.fixture(scope="module")
def mined(claims: Collection, claims_index: VectorIndex, embedded_encoder: E2RankEncoder) -> list[TrainingSlate]:
    return mine(claims, embedded_encoder, index=claims_index)


def relevant_texts(collection: Collection, query: str) -> set[str]:
    return {collection.documents[key] for key, grade in collection.qrels[query].items() if grade > 0}


def test_each_claim_gives_a_slate_in_both_orders_with_all_its_evidence(claims: Collection, mined: list[TrainingSlate]):
    """16 distinct abstracts, the judged ones among them and ranked first; two slates a claim in the claims' order."""
    assert [slate.query for slate in mined] == [text for text in claims.queries.values() for _ in range(2)]
    for slate, query in zip(mined, [key for key in claims.queries for _ in range(2)], strict=True):
        expected = relevant_texts(claims, query)
        assert len(set(slate.documents)) == len(slate.documents) == 16
        assert sorted(slate.ranking) == list(range(16))
        assert {slate.documents[place] for place in slate.positives} == expected
        assert {slate.documents[place] for place in slate.ranking[: len(expected)]} == expected
        assert slate.source == "SciFact subset"


def test_both_orders_hold_the_same_documents_with_the_same_labels(mined: list[TrainingSlate]):
    """Only what the prompt lists first differs."""
    for bm25, dense in zip(mined[::2], mined[1::2], strict=True):
        assert [bm25.documents[place] for place in bm25.ranking] == [dense.documents[place] for place in dense.ranking]
    assert any(bm25.documents != dense.documents for bm25, dense in zip(mined[::2], mined[1::2], strict=True))


def test_negatives_are_the_heads_of_both_lists_in_the_order_of_one(
    claims: Collection, claims_index: VectorIndex, embedded_encoder: E2RankEncoder, mined: list[TrainingSlate]
):
    """The first hit of either list that is not evidence is in the slate, and each list's hits keep its order."""
    bm25 = BM25(claims.documents)
    vectors = embedded_encoder.encode_queries(list(claims.queries.values()))
    for number, (query, text) in enumerate(claims.queries.items()):
        lists = [bm25.search(text, 500), claims_index.search(vectors[number], 500)]
        for slate, hits in zip(mined[2 * number : 2 * number + 2], lists, strict=True):
            found = [claims.documents[hit.id] for hit in hits]
            negatives = [text for text in slate.documents if text not in relevant_texts(claims, query)]
            head = next(text for text in found if text not in relevant_texts(claims, query))
            assert head in negatives
            listed = [found.index(text) for text in negatives if text in found[:100]]
            assert listed == sorted(listed)


def test_equal_grades_are_ranked_by_the_fusion_of_both_lists(
    claims: Collection, claims_index: VectorIndex, embedded_encoder: E2RankEncoder, mined: list[TrainingSlate]
):
    """The default teacher is reciprocal rank fusion."""
    text = next(iter(claims.queries.values()))
    depth = 100 + len(claims.qrels[next(iter(claims.queries))])
    vector = embedded_encoder.encode_queries([text])[0]
    fused = reciprocal_rank_fusion([BM25(claims.documents).search(text, depth), claims_index.search(vector, depth)])
    places = {claims.documents[hit.id]: place for place, hit in enumerate(fused)}
    slate = mined[0]
    rest = [places[slate.documents[place]] for place in slate.ranking[len(slate.positives) :]]
    assert rest == sorted(rest)


def test_texts_are_the_collections_own_objects(claims: Collection, mined: list[TrainingSlate]):
    """A large collection's slates cost references, not copies."""
    own = {id(text) for text in claims.documents.values()}
    assert all(id(text) in own for slate in mined for text in slate.documents)


def test_a_limit_draws_queries_by_seed_and_changes_no_slate(
    claims: Collection, claims_index: VectorIndex, embedded_encoder: E2RankEncoder, mined: list[TrainingSlate]
):
    """Some of the same slates, in the same order; the seed decides which; asked again, the same."""
    some = partial(mine, claims, embedded_encoder, index=claims_index, limit=10, order="dense")
    first = some()
    assert first == some()
    assert len(first) == 10
    assert [slate for slate in mined[1::2] if slate.query in {item.query for item in first}] == first
    assert {slate.query for slate in some(seed=1)} != {slate.query for slate in first}


def test_without_an_index_the_documents_are_embedded(claims: Collection, embedded_encoder: E2RankEncoder):
    """As in `compare`, the vectors may be left to the function."""
    few = dict(list(claims.documents.items())[:12])
    made = inverse_cloze(few)
    index = VectorIndex(tuple(few), embedded_encoder.encode_documents(list(few.values())))
    assert mine(made, embedded_encoder, size=4) == mine(made, embedded_encoder, size=4, index=index)


def test_a_bigger_models_cosine_may_teach(
    claims: Collection, claims_index: VectorIndex, embedded_encoder: E2RankEncoder
):
    """Any encoder: here the same one, so that negatives come in the order of their stored vectors."""
    slates = mine(claims, embedded_encoder, index=claims_index, teacher=CosineTeacher(embedded_encoder), limit=3)
    row = {text: place for place, text in enumerate(claims.documents.values())}
    for slate in slates:
        vector = embedded_encoder.encode_queries([slate.query])[0]
        negatives = [slate.documents[place] for place in slate.ranking[len(slate.positives) :]]
        cosines = [claims_index.vectors[row[text]] @ vector for text in negatives]
        assert np.diff(cosines).max() < 1e-5


SMALL = {
    "c1": "cat cat", "c2": "cat dog", "c3": "cat bird", "c4": "cat fish", "twin": "cat cat", "d1": "dog dog",
    "d2": "dog bird", "b1": "bird bird", "f1": "fish", "blank": " ",
}  # fmt: skip


def small(**judged: int) -> Collection:
    return Collection("small", SMALL, {"q": "cat"}, {"q": judged})


def mine_small(collection: Collection, **options: Any) -> list[TrainingSlate]:
    options = {"size": 4, "order": "bm25", **options}
    return mine(collection, FourWords(), index=small_index(collection), **options)  # type: ignore[arg-type]


def test_grades_come_before_the_teacher():
    """Higher grade first, whatever the teacher says; the teacher orders only what is graded alike."""

    def longest_last_word(query: str, documents: Any) -> list[float]:
        return [float("fish" in text) for text in documents]

    (slate,) = mine_small(small(d1=1, b1=2, c4=0), size=6, teacher=longest_last_word)
    ranked = [slate.documents[place] for place in slate.ranking]
    assert ranked[:2] == ["bird bird", "dog dog"]
    assert [slate.documents[place] for place in slate.positives] == ["bird bird", "dog dog"]
    assert ranked[2] == "cat fish"


def test_at_most_half_a_slate_is_relevant_and_the_rest_is_no_negative(caplog: pytest.LogCaptureFixture):
    """The highest grades stay, and the log says that some were left out."""
    with caplog.at_level(logging.WARNING, "e2rank_integrations"):
        (slate,) = mine_small(small(c2=1, c3=2, c4=3, d1=1))
    assert {slate.documents[place] for place in slate.positives} == {"cat fish", "cat bird"}
    assert not {"cat dog", "dog dog"} & set(slate.documents)
    (record,) = caplog.records
    assert "1 have more positives than half a slate" in record.getMessage()


def test_a_text_like_a_positives_is_no_negative_and_no_text_is_there_twice():
    """`twin` says what `c1` says: labelled worse, it would teach nonsense. A blank document is none."""
    (slate,) = mine_small(small(c1=1), size=10)
    assert sorted(slate.documents) == sorted(set(SMALL.values()) - {" "})
    assert slate.documents[slate.ranking[0]] == "cat cat"
    (slate,) = mine_small(small(d1=1), size=10)
    assert slate.documents.count("cat cat") == 1


def test_skipped_hits_are_unjudged_ones_of_either_list():
    """The nearest unjudged documents may be answers; a judged one is known not to be."""
    (slate,) = mine_small(small(c2=1), size=10)
    assert "cat cat" in slate.documents
    (slate,) = mine_small(small(c2=1, twin=0), size=10, skip=1)
    assert "cat cat" in slate.documents  # c1 is skipped, and its judged twin is not
    (slate,) = mine_small(small(c2=1), size=10, skip=2)
    assert "cat cat" not in slate.documents


def test_documents_excluded_for_a_query_are_no_negatives():
    """BRIGHT's exclusions hold in training as they do in measuring."""
    (slate,) = mine_small(replace(small(c1=1), excluded={"q": {"c2", "f1"}}), size=10)
    assert not {"cat dog", "fish"} & set(slate.documents)
    assert "cat bird" in slate.documents


def test_queries_that_give_no_slate_are_counted_in_one_record(caplog: pytest.LogCaptureFixture):
    """One whose document is not in the corpus, one judged without a positive grade, one whose document is blank."""
    queries = {"q": "cat", "gone": "dog", "zero": "dog", "blank": "dog"}
    qrels = {"q": {"c1": 1}, "gone": {"absent": 1}, "zero": {"d1": 0}, "blank": {"blank": 1}}
    with caplog.at_level(logging.WARNING, "e2rank_integrations"):
        slates = mine_small(Collection("small", SMALL, queries, qrels))
    assert [slate.query for slate in slates] == ["cat"]
    (record,) = caplog.records
    assert "of 4 judged queries: 3 have no document of positive grade in the corpus and 0 no negative" in record.message


def test_if_no_query_gives_a_slate_it_is_an_error():
    """Neither without positives nor without negatives is there anything to learn."""
    with pytest.raises(InputError, match="positive grade"):
        mine_small(small(absent=1))
    alone = Collection("alone", {"c1": "cat", "twin": "cat"}, {"q": "cat"}, {"q": {"c1": 1}})
    with pytest.raises(InputError, match="not relevant"):
        mine_small(alone)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"size": 1}, "size"),
        ({"size": 0}, "size"),
        ({"skip": -1}, "skip"),
        ({"limit": 0}, "limit"),
        ({"order": "reverse"}, "order"),
        ({"teacher": lambda query, documents: [1.0]}, r"'q': expected 4 scores"),
        ({"teacher": lambda query, documents: [float("nan")] * 4}, r"'q': expected finite"),
        ({"teacher": lambda query, documents: ["good"] * 4}, r"'q': expected numbers"),
    ],
)
def test_bad_options_and_bad_teachers_are_refused(options: dict[str, Any], found: str):
    """A message names the option, or the query that the teacher failed on."""
    with pytest.raises(InputError, match=found):
        mine_small(small(c1=1), **options)


def test_an_index_of_other_documents_and_a_query_too_long_are_refused(embedded_encoder: E2RankEncoder):
    """Each by what is wrong, before a slate is made of it."""
    collection = small(c1=1)
    with pytest.raises(InputError, match="index: expected the vectors of small's documents"):
        mine(collection, embedded_encoder, index=small_index(replace(collection, documents={"c1": "cat"})))
    long = replace(collection, queries={"q": "cat " * 600})
    with pytest.raises(InputError, match=r"small, query 'q': .*shorten it"):
        mine(long, embedded_encoder, index=small_index(collection))


ids = st.lists(st.integers(0, 30).map(str), unique=True, max_size=20)


@given(first=ids, second=ids, deep=st.integers(1, 3), head=st.integers(1, 8), seed=st.text(max_size=3))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_negatives_keep_the_lists_order_and_only_deep_positives_stray(
    first: list[str], second: list[str], deep: int, head: int, seed: str
):
    """Each member once; those of the first list in its order, then those of the second alone in theirs."""
    lists = [tuple(Hit(key, 0.0) for key in found) for found in (first, second)]
    members = list(dict.fromkeys([*first, *second]))
    positives = [f"absent{number}" for number in range(deep)] + members[::4]
    negatives = [key for key in members if key not in positives]
    placed = in_list_order(positives, negatives, lists, head, seed)
    assert sorted(placed) == sorted([*positives, *negatives])
    fixed = [key for key in placed if key not in positives or key in first[:head]]
    assert fixed == [key for key in members if key in fixed]
    assert placed == in_list_order(positives, negatives, lists, head, seed)


def test_a_deep_positive_is_not_always_at_the_same_place():
    """Were it always the last document, that is what a model would learn."""
    lists = [tuple(Hit(str(number), 0.0) for number in range(15))]
    negatives = [hit.id for hit in lists[0]]
    places = {in_list_order(["deep"], negatives, lists, 16, f"seed {number}").index("deep") for number in range(200)}
    assert places == set(range(16))


@given(
    words=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), min_size=2, max_size=14),
    grades=st.dictionaries(st.integers(0, 15), st.integers(-1, 3), min_size=1, max_size=8),
    size=st.integers(2, 9),
    seed=st.integers(0, 9),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_positives_always_precede_negatives(words: list[list[str]], grades: dict[int, int], size: int, seed: int):
    """Whatever is judged: full rankings, distinct texts, positives first, grades that never rise."""
    documents = {str(number): " ".join(text) for number, text in enumerate(words)}
    judged = {str(number): grade for number, grade in grades.items()}
    collection = Collection("drawn", documents, {"q": "cat dog"}, {"q": judged})
    best_grade: dict[str, int] = {}
    for key, grade in judged.items():
        if grade > 0 and key in documents:
            best_grade[documents[key]] = max(grade, best_grade.get(documents[key], 0))
    assume(best_grade and set(documents.values()) - best_grade.keys())
    slates = mine_small(collection, order="both", size=size, seed=seed)
    assert len(slates) == 2
    for slate in slates:
        assert len(set(slate.documents)) == len(slate.documents) <= size
        ranked = [best_grade.get(slate.documents[place], 0) for place in slate.ranking]
        assert ranked == sorted(ranked, reverse=True)
        assert slate.positives == slate.ranking[: len(slate.positives)]
        assert len(slate.positives) == min(len(best_grade), size // 2)
        assert ranked[len(slate.positives)] == 0
