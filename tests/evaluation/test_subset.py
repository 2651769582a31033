from __future__ import annotations

from pathlib import Path

from e2rank_integrations.evaluation.collection import Collection, load_collection
from e2rank_integrations.evaluation.runs import Hit, Hits
from e2rank_integrations.evaluation.subset import chosen_documents, chosen_queries, write_subset


def hits(ids: str) -> Hits:
    return tuple(Hit(key, 0.0) for key in ids)


def test_queries_are_drawn_by_their_ids_alone():
    """Neither their order nor their texts nor their judgements have a say."""
    queries = {f"q{number}": "text" for number in range(30)}
    ordered = Collection("c", {}, queries, {key: {"a": 1} for key in queries})
    turned = dict.fromkeys(reversed(queries), "other")
    reverse = Collection("c", {}, turned, {key: {"b": 2} for key in turned})
    assert set(chosen_queries(ordered, 7)) == set(chosen_queries(reverse, 7))
    assert len(chosen_queries(ordered, 7)) == 7


def test_documents_are_the_judged_and_then_the_first_of_every_list():
    """Rank by rank over the lists, until there are enough; a list that ends is passed over."""
    assert chosen_documents("xy", [hits("abcd"), hits("be"), ()], 5) == {"x", "y", "a", "b", "e"}
    assert chosen_documents("xy", [hits("xa"), hits("yb")], 4) == {"x", "y", "a", "b"}


def test_judged_documents_stay_and_short_lists_end_the_choice():
    """No judged document is dropped for the count, and too few hits are no error."""
    assert chosen_documents("xyz", [hits("abc")], 2) == {"x", "y", "z"}
    assert chosen_documents("x", [hits("a")], 9) == {"x", "a"}


def test_rows_are_copied_unaltered(folder: Path, tmp_path: Path):
    """What is kept is kept to the byte, in its order, and loads as a collection."""
    out = tmp_path / "out"
    write_subset(folder, out, {"q1", "q3"}, {"tea", "beijing", "paris"})
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        rows = (out / name).read_bytes().splitlines()
        assert rows == [row for row in (folder / name).read_bytes().splitlines() if row in rows]
    loaded = load_collection(out)
    assert list(loaded.documents) == ["beijing", "paris", "tea"]
    assert list(loaded.queries) == ["q1", "q3"]
