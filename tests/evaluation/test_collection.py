from __future__ import annotations

from pathlib import Path

import pytest

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import Collection, load_collection, read_excluded
from tests.evaluation.conftest import DOCUMENTS, QRELS, QUERIES


def test_documents_keep_the_corpus_order_and_join_title_and_text(collection: Collection):
    """A document is its title, a space and its text; without a title it is the text alone."""
    assert list(collection.documents) == list(DOCUMENTS)
    assert collection.documents["beijing"] == "Beijing The capital of China is Beijing."
    assert collection.documents["newton"] == DOCUMENTS["newton"][1]


def test_only_judged_queries_are_kept_with_their_grades(collection: Collection):
    """A query without judgements is left out, and grades are whole numbers, 0 included."""
    assert collection.queries == {key: QUERIES[key] for key in QRELS}
    assert collection.qrels == QRELS
    assert collection.name == "small test"


def test_a_judged_document_may_be_absent_from_the_corpus(collection: Collection):
    """Pools judge more than a corpus may hold: the grade is kept, and asking for the text is an error with the id."""
    assert collection.qrels["q3"]["not-in-the-corpus"] == 1
    with pytest.raises(InputError, match="'not-in-the-corpus'"):
        collection.document("not-in-the-corpus")


def test_windows_line_ends_a_byte_order_mark_and_a_missing_head_are_read(folder: Path, collection: Collection):
    """Files that passed through other tools load as the same collection."""
    qrels = folder / "qrels" / "test.tsv"
    rows = qrels.read_text(encoding="utf-8").splitlines()[1:]
    qrels.write_bytes(("\r\n".join(rows) + "\r\n\r\n").encode())
    corpus = folder / "corpus.jsonl"
    corpus.write_bytes(b"\xef\xbb\xbf" + corpus.read_bytes().replace(b"\n", b"\r\n"))
    loaded = load_collection(folder)
    assert (loaded.documents, loaded.queries, loaded.qrels) == (
        collection.documents,
        collection.queries,
        collection.qrels,
    )


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("corpus.jsonl", b"{not json", "expected a JSON object"),
        ("corpus.jsonl", b"[" * 100_000, "expected a JSON object"),
        ("corpus.jsonl", b"[1, 2]", "found list"),
        ("corpus.jsonl", b'{"text": "x"}', "'_id', found NoneType"),
        ("corpus.jsonl", b'{"_id": 7, "text": "x"}', "'_id', found int"),
        ("corpus.jsonl", b'{"_id": "new"}', "text: expected a string, found NoneType"),
        ("corpus.jsonl", b'{"_id": "new", "title": 3, "text": "x"}', "title: expected a string, found int"),
        ("corpus.jsonl", b'{"_id": "new", "text": "a \\ud800"}', "lone surrogate"),
        ("corpus.jsonl", b'{"_id": "tea", "text": "x"}', "'tea' a second time"),
        ("corpus.jsonl", b'{"_id": "new", "text": "\xff"}', "expected UTF-8, found byte 0xFF"),
        ("qrels/test.tsv", b"q1\tbeijing", "found 2 columns"),
        ("qrels/test.tsv", b"q1\ttea\tvery", "whole number"),
        ("qrels/test.tsv", b"q1\ttea\t1.5", "whole number"),
        ("qrels/test.tsv", b"q1\tbeijing\t1", "a second time"),
    ],
)
def test_a_bad_row_is_an_error_with_file_and_line(folder: Path, file: str, line: bytes, found: str):
    """Whoever brings a broken file learns where it is broken."""
    path = folder / file
    rows = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*rows, line]))
    with pytest.raises(InputError) as caught:
        load_collection(folder)
    assert f"{path}, line {len(rows) + 1}" in str(caught.value)
    assert found in str(caught.value)


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_an_input_error(folder: Path, file: str):
    """Not an OSError, and it names the path."""
    (folder / file).unlink()
    with pytest.raises(InputError, match=file.rpartition("/")[2]):
        load_collection(folder)


def test_judging_a_query_that_is_not_there_is_an_error(folder: Path):
    """It cannot be asked, and leaving it out would raise every mean."""
    with (folder / "qrels" / "test.tsv").open("a", encoding="utf-8") as file:
        file.write("q9\ttea\t1\n")
    with pytest.raises(InputError, match="'q9'"):
        load_collection(folder)


def test_a_blank_query_or_no_judgement_at_all_is_an_error(folder: Path):
    """Neither can be measured."""
    queries = folder / "queries.jsonl"
    queries.write_text(queries.read_text(encoding="utf-8").replace(QUERIES["q2"], "  "), encoding="utf-8")
    with pytest.raises(InputError, match="'q2' is blank"):
        load_collection(folder)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n", encoding="utf-8")
    with pytest.raises(InputError, match="judges no query"):
        load_collection(folder)


def test_a_collection_made_by_hand_needs_judgements_for_each_query():
    """Queries and judgements must be of the same ids."""
    with pytest.raises(InputError, match="judgements for each query"):
        Collection("own", {"d": "text"}, {"a": "x"}, {"b": {"d": 1}})
    with pytest.raises(InputError, match="at least one"):
        Collection("own", {"d": "text"}, {}, {})


def test_a_pool_reads_only_its_documents(folder: Path):
    """In the corpus's order; a document that the corpus lacks is an error, with its id."""
    loaded = load_collection(folder, pool={"tea", "paris"})
    assert list(loaded.documents) == ["paris", "tea"]
    assert loaded.pool
    assert loaded.qrels == QRELS
    assert not load_collection(folder).pool
    with pytest.raises(InputError, match="'elsewhere'"):
        load_collection(folder, pool={"tea", "elsewhere"})


def test_exclusions_are_read_by_query(folder: Path):
    """A JSON object of lists of ids."""
    path = folder / "excluded.json"
    path.write_text('{"q1": ["tea", "paris"], "q2": []}', encoding="utf-8")
    assert read_excluded(path) == {"q1": {"tea", "paris"}, "q2": set()}
    assert load_collection(folder, excluded=read_excluded(path)).excluded["q1"] == {"tea", "paris"}


@pytest.mark.parametrize("content", ["", "[]", '{"q1": "tea"}', '{"q1": [1]}', "[" * 100_000])
def test_a_file_that_holds_no_exclusions_is_an_error(folder: Path, content: str):
    """Quietly excluding nothing would raise every figure."""
    path = folder / "excluded.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"excluded\.json: expected a JSON object"):
        read_excluded(path)
    with pytest.raises(InputError, match=r"nowhere\.json: cannot be read"):
        read_excluded(folder / "nowhere.json")


def test_a_folder_or_a_split_that_is_not_there_is_said_with_what_is(folder: Path):
    """The next step, not the name of a file that the user never wrote."""
    with pytest.raises(InputError, match=r"nowhere: no such folder; give one with corpus\.jsonl"):
        load_collection(folder / "nowhere")
    with pytest.raises(InputError, match=r"dev\.tsv: cannot be read .*its splits are: test"):
        load_collection(folder, "dev")
