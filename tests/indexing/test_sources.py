"""Every kind of corpus gives each of its rows once, in order, part by part, and says what is wrong with the others."""

from __future__ import annotations

import errno
import os
import pickle
import random
import string
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chromadb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2rank_integrations.errors import InputError
from e2rank_integrations.indexing.rows import Fields, Row, RowError, row_of
from e2rank_integrations.indexing.sources import FolderSource, JsonLines, open_source
from tests.indexing.conftest import read, rows, write_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = 7
"""Rows of a row group: parts of four begin within groups and end with them."""


def table(path: Path, values: Sequence[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(values)), path, row_group_size=GROUP)
    return path


def folder(path: Path, values: Sequence[dict[str, Any]]) -> Path:
    for value in values:
        file = path / f"{value['year'] % 3}" / f"{value['_id']}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value["text"], encoding="utf-8")
    return path


KINDS = {
    "jsonl": lambda tmp_path, values: write_lines(tmp_path / "c.jsonl", values),
    "parquet": lambda tmp_path, values: table(tmp_path / "c.parquet", values),
    "folder": lambda tmp_path, values: folder(tmp_path / "c", values),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per_part", [1, 4, 7, 1000])
def test_every_row_comes_once_and_in_order(tmp_path: Path, kind: str, per_part: int) -> None:
    """Whatever the parts' size; positions count the rows, or the lines, from 1."""
    source = open_source(KINDS[kind](tmp_path, rows(20)))
    found = read(source, per_part)
    assert [row.position for row in found] == list(range(1, 21))
    texts = [f"{row['title']} {row['text']}".strip() if kind != "folder" else row["text"] for row in rows(20)]
    assert sorted(row.text for row in found) == sorted(texts)
    assert len({row.id for row in found}) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_can_be_read_alone_in_another_process(tmp_path: Path, kind: str) -> None:
    """In any order, from a pickled source and a pickled part, and more than once."""
    source = open_source(KINDS[kind](tmp_path, rows(20)))
    parts = list(source.parts(4))
    whole = [list(source.read(part)) for part in parts]
    again = pickle.loads(pickle.dumps(source))
    for place in [3, 0, 4, 4, 1]:
        assert list(again.read(pickle.loads(pickle.dumps(parts[place])))) == whole[place]


def test_a_folders_ids_are_its_paths(tmp_path: Path) -> None:
    """With forward slashes, subfolders included, in the paths' order; other files are no documents."""
    for name in ("b.md", "a/z.txt", "a/README.TXT", "a/picture.png", "c.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"It is {name}.", encoding="utf-8")
    found = read(open_source(tmp_path))
    assert [(row.id, row.text) for row in found] == [
        ("a/README.TXT", "It is a/README.TXT."), ("a/z.txt", "It is a/z.txt."), ("b.md", "It is b.md."),
    ]  # fmt: skip


def test_fields_have_the_names_that_are_given(tmp_path: Path) -> None:
    """And the others become metadata, those of the default names, too."""
    line = {"key": 7, "body": "B", "headline": "H", "text": "T", "_id": "I"}
    (row,) = read(open_source(write_lines(tmp_path / "c.jsonl", [line]), Fields("key", "body", "headline")))
    assert row == Row(1, "7", "H B", {"text": "T", "_id": "I"})


def test_a_title_that_is_the_text_is_not_put_before_it(tmp_path: Path) -> None:
    """Rows whose text is a headline."""
    path = write_lines(tmp_path / "c.jsonl", [{"_id": "a", "title": "Headline"}])
    assert read(open_source(path, Fields(text="title"))) == [Row(1, "a", "Headline")]


def test_a_folder_has_no_fields_to_be_named(tmp_path: Path) -> None:
    """Names without effect are refused."""
    with pytest.raises(InputError, match="has no fields"):
        open_source(tmp_path, Fields(text="body"))
    assert isinstance(open_source(tmp_path, Fields()), FolderSource)


def test_the_names_of_fields_are_not_sought_without_end(tmp_path: Path) -> None:
    """A file of another kind has none in its first thousand lines."""
    assert open_source(write_lines(tmp_path / "c.jsonl", ["{"] * 999 + [GOOD])).names == ["_id", "text"]
    assert open_source(write_lines(tmp_path / "c.jsonl", ["{"] * 1000 + [GOOD])).names == []


def test_a_table_with_a_name_twice_is_an_input_error(tmp_path: Path) -> None:
    """One of the two columns would be lost without a word."""
    columns = pa.table([["a"], ["T"], ["x"], ["y"]], names=["_id", "text", "tag", "tag"])
    pq.write_table(columns, tmp_path / "c.parquet")
    with pytest.raises(InputError, match="two columns are called 'tag'"):
        open_source(tmp_path / "c.parquet")


def test_metadata_are_what_every_store_keeps() -> None:
    """Strings, numbers and truth values; what is left out is named, and null is nothing."""
    kept = {"s": "x", "i": -(2**63), "f": 0.5, "b": True, "empty": ""}
    lost = {
        "list": [1], "object": {}, "nan": float("nan"), "infinite": float("inf"), "large": 2**63,
        "surrogate": "\ud800", "chroma:document": "x", "$ref": "x", "#": 1,
        "e2rank_text_sha256": "x", "": "x", "\ud800": "x", "bytes": b"",
    }  # fmt: skip
    row = row_of(1, {"_id": "a", "text": "t", "null": None, **kept, **lost}, Fields())
    assert isinstance(row, Row)
    assert row.metadata == kept
    assert set(row.left_out) == set(lost)


def test_chroma_keeps_every_name_and_value_that_is_kept(tmp_path: Path) -> None:
    """What it would refuse would stop the job at that row, again and again."""
    names = ["a", "a$b", "_x", "x y", "é", "\x00", "\n", "'", "\\", "id", " ", "chroma", "\U0001f600", "n" * 3000]
    names += [f"{mark}x" for mark in string.punctuation] + list(string.punctuation)
    values = ["", "x\x00", "\U0001f600", 2**63 - 1, -(2**63), 5e-324, 1e308, True]
    line = {"_id": "a", "text": "t", **dict.fromkeys(names, "x"), **{f"v{n}": v for n, v in enumerate(values)}}
    (row,) = read(open_source(write_lines(tmp_path / "c.jsonl", [line])))
    assert set(row.left_out) == {"$", "$x", "#", "#x"}
    collection = chromadb.EphemeralClient().create_collection("every-name", embedding_function=None)
    collection.upsert(ids=["a"], embeddings=[[1.0, 0.0]], metadatas=[dict(row.metadata)])
    assert collection.get(ids=["a"])["metadatas"] == [row.metadata]


GOOD = {"_id": "good", "text": "It is good."}
SECRET = "Confidential"
BAD = {
    "no JSON": ('{"_id": "x", "text": "Confidential"', None, "expected a JSON object (JSONDecodeError)"),
    "an array": ('["Confidential"]', None, "expected a JSON object, found list"),
    "a number": ("17", None, "expected a JSON object, found int"),
    "too deep": ("[" * 100_000, None, "expected a JSON object (RecursionError)"),
    "bytes": (b'{"_id": "x", "text": "Confidential \xff"}', None, "expected UTF-8, found byte 0xFF"),
    "no id": ({"text": SECRET}, None, "no id under '_id'"),
    "an empty id": ({"_id": "", "text": SECRET}, None, "no id under '_id'"),
    "a null id": ({"_id": None, "text": SECRET}, None, "no id under '_id'"),
    "a list as id": ({"_id": ["x"], "text": SECRET}, None, "id under '_id': expected a string, found list"),
    "a truth value as id": ({"_id": True, "text": SECRET}, None, "id under '_id': expected a string, found bool"),
    "no character in the id": ({"_id": "\ud800", "text": SECRET}, None, "id under '_id': expected text, found a lone"),
    "no text": ({"_id": "x", "title": SECRET}, "x", "no text under 'text'"),
    "a null text": ({"_id": "x", "text": None}, "x", "no text under 'text'"),
    "a list as text": ({"_id": "x", "text": [SECRET]}, "x", "text under 'text': expected a string, found list"),
    "no character": ({"_id": "x", "text": f"{SECRET} \udfff"}, "x", "text under 'text': expected text, found a lone"),
    "a number as title": ({"_id": "x", "text": SECRET, "title": 7}, "x", "title under 'title': expected a string"),
    "a blank text": ({"_id": "x", "text": " \n ", "title": "\t"}, "x", "the text under 'text' is blank"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_said_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    """With its line's number and its id, where it has one; never with its text."""
    line, id_, reason = BAD[name]
    found = read(open_source(write_lines(tmp_path / "c.jsonl", [GOOD, "", line, {**GOOD, "_id": "other"}])))
    assert [row.position for row in found] == [1, 3, 4], "blank lines are no rows, and count as lines"
    error = found[1]
    assert isinstance(error, RowError)
    assert (error.id, error.reason[: len(reason)]) == (id_, reason)
    assert SECRET not in error.reason
    assert [row.id for row in found if isinstance(row, Row)] == ["good", "other"]


def test_line_ends_and_a_mark_in_front_are_no_part_of_rows(tmp_path: Path) -> None:
    """Files of Windows, and a last line without an end."""
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"_id": "a", "text": "A"}\r\n{"_id": "b", "text": "B\xc2\x85\xe2\x80\xa8b"}')
    assert [(row.id, row.text) for row in read(open_source(path))] == [("a", "A"), ("b", "B\x85\u2028b")]


@given(st.lists(st.binary(max_size=8)), st.integers(1, 5))
def test_no_bytes_stop_the_reading(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], per_part: int) -> None:
    """Each line that is not blank gives one row or one error, whatever is in it."""
    path = tmp_path_factory.mktemp("bytes") / "c.jsonl"
    path.write_bytes(b"\n".join(lines))
    written = path.read_bytes().split(b"\n")
    expected = [place for place, line in enumerate(written, start=1) if line.strip()]
    assert [row.position for row in read(JsonLines(path), per_part)] == expected


def test_files_that_cannot_be_used_are_row_errors(tmp_path: Path) -> None:
    """One that is not UTF-8, one that is blank, one that nobody can open."""
    (tmp_path / "a.txt").write_bytes(b"Confidential \xff")
    (tmp_path / "b.txt").write_text("  \n")
    (tmp_path / "c.txt").write_text("Good.")
    source = open_source(tmp_path)
    (part,) = source.parts(9)
    (tmp_path / "c.txt").unlink()
    found = list(source.read(part))
    assert [(row.id, row.reason) for row in found] == [
        ("a.txt", "expected UTF-8, found byte 0xFF"),
        ("b.txt", "the file is blank"),
        ("c.txt", "the file cannot be read (FileNotFoundError)"),
    ]


def test_parquet_rows_that_cannot_be_used_are_row_errors(tmp_path: Path) -> None:
    """Null, blank and undecodable texts; integers are ids, dates and lists are no metadata."""
    texts = pa.array([b"One", None, b"Confidential \xff", b" "]).cast(pa.binary())
    texts = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())  # which checks nothing
    columns = {"_id": pa.array([1, 2, 3, 4]), "text": texts, "tags": pa.array([["a"]] * 4), "score": [0.5] * 4}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    first, *others = read(open_source(tmp_path / "c.parquet"))
    assert first == Row(1, "1", "One", {"score": 0.5}, ("tags",))
    assert [(row.position, row.id, row.reason) for row in others] == [
        (2, "2", "no text under 'text'"),
        (3, None, "expected UTF-8, found other bytes"),
        (4, "4", "the text under 'text' is blank"),
    ]


def test_parquet_columns_beyond_pythons_range_are_left_out(tmp_path: Path) -> None:
    """Dates before year 1 and after year 9999 are no errors; other columns, their names' parts too, are kept."""
    far = pa.array([-(2**50)], pa.int64())
    columns = {
        "_id": ["a"], "text": ["T"], "year": [7], "year.day": far.cast(pa.timestamp("ms")),
        "date": pa.array([2**30], pa.int32()).cast(pa.date32()),
        "lang": pa.array(["en"]).dictionary_encode(),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    assert read(open_source(tmp_path / "c.parquet")) == [
        Row(1, "a", "T", {"year": 7, "lang": "en"}, ("year.day", "date"))
    ]


@pytest.mark.parametrize("name", ["_id", "text", "title"])
def test_parquet_texts_of_another_kind_are_an_input_error(tmp_path: Path, name: str) -> None:
    """At once, rather than row by row."""
    columns: dict[str, Any] = {"_id": ["a"], "text": ["T"], "title": ["t"], name: pa.array([[1]])}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    with pytest.raises(InputError, match=f"expected text in column '{name}', found list.*--text-field"):
        open_source(tmp_path / "c.parquet")


def test_a_row_group_is_not_held_whole(tmp_path: Path) -> None:
    """Reading its first rows takes memory for some of it."""
    texts = [random.Random(n).randbytes(500).hex() for n in range(20_000)]
    size = sum(map(len, texts))
    columns = pa.table({"_id": range(20_000), "text": texts})
    pq.write_table(columns, tmp_path / "c.parquet", use_dictionary=False, write_batch_size=64)
    del texts, columns
    source = open_source(tmp_path / "c.parquet")
    before = pa.total_allocated_bytes()
    assert len(list(source.read(next(iter(source.parts(10)))))) == 10
    assert pa.total_allocated_bytes() - before < size / 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.jsonl", None, "no such file or folder"),
        ("n" * 300, None, "cannot be read|no such file"),
        ("c.parquet", b"no parquet", "cannot be read as a Parquet file"),
        ("c.parquet", b"", "cannot be read as a Parquet file"),
    ],
)
def test_what_cannot_be_opened_is_an_input_error(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    """Before anything is embedded, with the path."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        open_source(tmp_path / name)
    assert name in str(caught.value)


def test_a_table_without_the_columns_names_those_that_it_has(tmp_path: Path) -> None:
    """And the options that name them."""
    path = table(tmp_path / "c.parquet", [{"key": "a", "body": "b"}])
    with pytest.raises(InputError, match=r"'_id'.*'key', 'body'.*--id-field"):
        open_source(path)
    assert read(open_source(path, Fields(id="key", text="body"))) == [Row(1, "a", "b")]


def test_a_damaged_table_is_an_input_error(tmp_path: Path) -> None:
    """Its end is whole, so it opens, and a row group is not."""
    path = table(tmp_path / "c.parquet", rows(20))
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)
    with pytest.raises(InputError, match="row group 0"):
        read(open_source(path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_corpus_is_another_one(tmp_path: Path, kind: str) -> None:
    """One more row changes the identity; reading does not."""
    source = open_source(KINDS[kind](tmp_path, rows(5)))
    before = source.identity
    read(source)
    assert open_source(source.path).identity == before
    assert open_source(KINDS[kind](tmp_path, rows(6))).identity != before


def test_a_folder_without_texts_is_an_input_error(tmp_path: Path) -> None:
    """With the endings that were looked for."""
    with pytest.raises(InputError, match=r"\.txt or \.md"):
        list(open_source(tmp_path).parts(4))


def test_a_folder_of_tables_says_how_they_are_given(tmp_path: Path) -> None:
    """Their endings, and that it is one at a time."""
    (tmp_path / "part-1.PARQUET").touch()
    with pytest.raises(InputError, match=r"holds \.PARQUET files: give them one at a time"):
        list(open_source(tmp_path).parts(4))


def test_a_files_ending_may_be_in_capitals(tmp_path: Path) -> None:
    """A table is no file of JSON lines then."""
    assert len(read(open_source(table(tmp_path / "C.PARQUET", rows(2))))) == 2


def test_hidden_files_are_no_documents_and_links_are_said(tmp_path: Path) -> None:
    """Nor are those of hidden folders; a link to a folder is not followed, but listed."""
    for name in (".git/a.md", "b/.c/d.md", ".e.txt", "b/f.md"):
        (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / name).write_text("Text.")
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "corpus" / "b")
    first, second = read(open_source(tmp_path / "corpus"))
    assert first.id == "b/f.md"
    assert (second.id, second.reason[:33]) == ("link", "a link to a folder is not followe")


def test_links_that_lead_nowhere_are_row_errors(tmp_path: Path) -> None:
    """To what is not there, to themselves, to what no system can have; what is no document stays left out."""
    targets = {"circular.md": "circular.md", "far.txt": "x" * 300, "gone.txt": "none", "folder": "none/at/all"}
    for name, target in targets.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "z.txt").write_text("Text.")
    (tmp_path / "picture.png").touch()
    os.mkfifo(tmp_path / "waits.txt")
    source = open_source(tmp_path)
    before, (*bad, good) = source.identity, read(source)
    assert good.id == "z.txt"
    assert [row.id for row in bad] == sorted(targets)
    assert {row.reason[:23] for row in bad} == {"the file cannot be read"}
    (tmp_path / "none").write_text("Text.")
    assert source.identity != before, "a link that was mended is another corpus"


def test_a_fault_that_may_pass_is_no_row_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the row would be lost for good; its file is named."""
    (tmp_path / "a.txt").write_text("Text.")
    source = open_source(tmp_path)

    def failing(path: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(InputError, match=r"a\.txt: cannot be read"):
        read(source)


@pytest.mark.parametrize("name", ["new.txt", "deep/new.txt"])
def test_a_file_that_comes_while_a_folder_is_read_changes_it(tmp_path: Path, name: str) -> None:
    """Its row was not read, so the job must say so."""
    (tmp_path / "a.txt").write_text("Text.")
    source = open_source(tmp_path)
    before = source.identity
    read(source)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("New.")
    assert source.identity != before


@pytest.mark.skipif(sys.platform != "linux", reason="file names there are any bytes")
def test_a_files_name_that_is_no_text_is_a_row_error(tmp_path: Path) -> None:
    """With its bytes escaped; the corpus has an identity all the same."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.txt")).write_text("Text.")
    (tmp_path / "a.txt").write_text("Text.")
    source = open_source(tmp_path)
    assert "2 files" in source.identity
    first, second = read(source)
    assert (first.id, second) == ("a.txt", RowError(2, "b\\udcff.txt", "the file's name is not UTF-8; rename it"))
