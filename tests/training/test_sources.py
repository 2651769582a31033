"""What a training learns from: which queries of a folder are read, and how sources are told apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import load_collection, load_documents
from e2rank_integrations.training.sources import Mining, judged, mined_from, unjudged

TEXT = "The first sentence of this text has more than eight words. The second one has even more words than that one."


def write_rows(path: Path, texts: dict[str, str]) -> None:
    path.write_text("".join(f"{json.dumps({'_id': key, 'text': text})}\n" for key, text in texts.items()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A collection with two sets of queries, one of them in a file of its own."""
    folder = tmp_path / "manual"
    (folder / "qrels").mkdir(parents=True)
    write_rows(folder / "corpus.jsonl", {"d": TEXT, "e": "Another text."})
    write_rows(folder / "queries.jsonl", {"a": "main query"})
    write_rows(folder / "queries_ict.jsonl", {"a": "query made by a cloze"})
    for split in ("train", "ict"):
        (folder / "qrels" / f"{split}.tsv").write_text("a\td\t1\n")
    return folder


def test_a_split_may_have_a_file_of_queries_of_its_own(folder: Path) -> None:
    """`queries_<split>.jsonl` where there is one, else `queries.jsonl`."""
    assert load_collection(folder, "ict").queries == {"a": "query made by a cloze"}
    assert load_collection(folder, "train").queries == {"a": "main query"}


def test_a_query_that_the_splits_own_file_lacks_is_named_with_that_file(folder: Path) -> None:
    """It is not looked for in the other one."""
    write_rows(folder / "queries_ict.jsonl", {"b": "another"})
    with pytest.raises(InputError, match=r"queries_ict\.jsonl: no query with id 'a'"):
        load_collection(folder, "ict")


def test_documents_are_read_without_queries(folder: Path) -> None:
    """All of them, in their order; a missing file is named."""
    assert load_documents(folder / "corpus.jsonl") == {"d": TEXT, "e": "Another text."}
    with pytest.raises(InputError, match="nowhere"):
        load_documents(folder / "nowhere.jsonl")


def test_the_split_is_said_after_a_colon_and_train_by_default(folder: Path) -> None:
    """As `FOLDER:SPLIT`."""
    assert judged(str(folder)).name == "manual train"
    assert judged(f"{folder}:ict").name == "manual ict"


def test_documents_alone_are_called_after_their_folder(folder: Path, tmp_path: Path) -> None:
    """Two files of the usual name are two sources; the seed decides the queries."""
    (tmp_path / "other").mkdir()
    write_rows(tmp_path / "other" / "corpus.jsonl", {"d": TEXT})
    one, two = (unjudged(tmp_path / name / "corpus.jsonl", 0) for name in ("manual", "other"))
    assert (one.name, two.name) == ("manual/corpus.jsonl", "other/corpus.jsonl")
    assert one.queries == unjudged(folder / "corpus.jsonl", 0).queries
    assert len({tuple(unjudged(folder / "corpus.jsonl", seed).queries.values()) for seed in range(9)}) > 1


def test_a_teacher_decides_the_labels_of_equal_grade(folder: Path, embedded_encoder: E2RankEncoder) -> None:
    """What is not judged is ranked by the teacher asked for, not by the fusion."""
    write_rows(folder / "corpus.jsonl", {"d": TEXT, "near": "A main query, more or less.", "far": "Another text."})

    def longest_last(query: str, documents: list[str]) -> list[int]:
        return [-len(text) for text in documents]

    how = Mining(size=3, order="dense", limit=None, seed=0, cache=None)
    labels = []
    for teacher in (None, longest_last):
        (slate,) = mined_from(
            judged(str(folder)), embedded_encoder, replace(how, teacher=teacher), progress=False
        ).slates
        labels.append([slate.documents[place] for place in slate.ranking])
    fused, taught = labels
    assert fused == [TEXT, "A main query, more or less.", "Another text."]
    assert taught == [TEXT, "Another text.", "A main query, more or less."]
