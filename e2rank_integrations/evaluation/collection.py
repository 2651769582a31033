"""A judged collection in BEIR's layout: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2rank_integrations.errors import InputError
from e2rank_integrations.text.checks import expect_text

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from collections.abc import Set as AbstractSet

Qrels = dict[str, dict[str, int]]
"""Grades by query id and document id; 0 is judged and not relevant."""


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """Documents, judged queries and their grades.

    Attributes:
        name: How tables call it, such as `scifact test`.
        documents: Text by id, in the corpus's order: title, a space, text.
        queries: Text by id, in the order of the judgements; only judged ones.
        qrels: Grades by query id and document id. A judged document may be absent from the corpus; then no
            ranking can find it, and it counts against all of them, as trec_eval has it.
        excluded: Ids of documents that are no candidates for a query, by query id, as BRIGHT has them.
        pool: Whether `documents` are only those of some runs. A search over them would be easier than over the
            corpus they came from, so none is measured.
    """

    name: str
    documents: Mapping[str, str] = field(repr=False)
    queries: Mapping[str, str] = field(repr=False)
    qrels: Mapping[str, Mapping[str, int]] = field(repr=False)
    excluded: Mapping[str, AbstractSet[str]] = field(default_factory=dict, repr=False)
    pool: bool = False

    def __post_init__(self) -> None:
        if not self.qrels or self.queries.keys() != self.qrels.keys():
            raise InputError(f"{self.name}: expected judgements for each query, and for at least one")

    def document(self, document_id: str) -> str:
        """A document's text.

        Raises:
            InputError: the corpus has no such document.
        """
        if document_id not in self.documents:
            raise InputError(f"{self.name}: no document with id {document_id!r} in the corpus")
        return self.documents[document_id]


def load_collection(
    folder: str | Path,
    split: str = "test",
    *,
    excluded: Mapping[str, AbstractSet[str]] | None = None,
    pool: AbstractSet[str] | None = None,
) -> Collection:
    """Read a collection.

    Args:
        folder: Holds the three files.
        split: Which judgements: `qrels/<split>.tsv`. Their queries are in `queries_<split>.jsonl` if there is such a
            file, else in `queries.jsonl`.
        excluded: Ids of documents that are no candidates, by query id, such as `read_excluded` reads.
        pool: Ids of the documents to read; None for the whole corpus. See `Collection.pool`.

    Raises:
        InputError: a file is missing or a row is not what BEIR writes, with the file and the line's number; or the
            corpus lacks a document of the pool.
    """
    folder = Path(folder)
    _expect_split(folder, split)
    qrels = _read_qrels(folder / "qrels" / f"{split}.tsv")
    own = folder / f"queries_{split}.jsonl"
    asked = own if own.is_file() else folder / "queries.jsonl"
    queries = _read_texts(asked, qrels)
    unknown = next((query for query in qrels if query not in queries), None)
    if unknown is not None:
        raise InputError(f"{asked}: no query with id {unknown!r}, which {split}.tsv judges")
    documents = _read_texts(folder / "corpus.jsonl", pool)
    missing = (pool or set()) - documents.keys()
    if missing:
        raise InputError(f"{folder / 'corpus.jsonl'}: no document with id {min(missing)!r}, which the pool names")
    return Collection(
        name=f"{folder.resolve().name} {split}",
        documents=documents,
        queries={query: _expect_words(queries[query], asked, query) for query in qrels},
        qrels=qrels,
        excluded=excluded or {},
        pool=pool is not None,
    )


def _expect_split(folder: Path, split: str) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with corpus.jsonl, queries.jsonl and qrels/")
    asked, found = folder / "qrels" / f"{split}.tsv", sorted(path.stem for path in folder.glob("qrels/*.tsv"))
    if found and not asked.exists():
        raise InputError(f"{asked}: cannot be read (FileNotFoundError); its splits are: {', '.join(found)}")


def load_documents(path: str | Path) -> dict[str, str]:
    """Documents by id from a file like BEIR's `corpus.jsonl`.

    Raises:
        InputError: no such file, or a row is not what BEIR writes, with the line's number.
    """
    return _read_texts(Path(path), None)


def read_excluded(path: str | Path) -> dict[str, frozenset[str]]:
    """Read which documents are no candidates: a JSON object with, for a query's id, a list of document ids.

    Raises:
        InputError: the file cannot be read, or is not of that form.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a JSON object ({type(error).__name__})") from None
    if not isinstance(table, dict) or not all(_is_ids(ids) for ids in table.values()):
        raise InputError(f"{path}: expected a JSON object with a list of document ids for each query's id")
    return {query: frozenset(ids) for query, ids in table.items()}


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, without its end, after its place (`corpus.jsonl, line 3`).

    Raises:
        InputError: no such file, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                where = f"{path}, line {number}"
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise InputError(f"{where}: expected UTF-8, found byte 0x{raw[error.start]:02X}") from None
                if line.strip():
                    yield where, line
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({type(error).__name__})") from error


def _read_texts(path: Path, wanted: Container[str] | None) -> dict[str, str]:
    """Title and text, or text alone, by id; of the wanted ids, or of all."""
    texts: dict[str, str] = {}
    for where, line in numbered_lines(path):
        row = _row(where, line)
        key = row.get("_id")
        if not isinstance(key, str) or not key:
            raise InputError(f"{where}: expected a string under '_id', found {type(key).__name__}")
        if key in texts:
            raise InputError(f"{where}: id {key!r} a second time; ids must be unique")
        if wanted is not None and key not in wanted:
            continue
        title = expect_text(row.get("title") or "", f"{where}, title")
        texts[key] = document_text(title, expect_text(row.get("text"), f"{where}, text"))
    return texts


def document_text(title: str, text: str) -> str:
    """What is embedded of a document: title, a space, text."""
    return f"{title} {text}".strip()


def json_object(line: str) -> dict[str, Any]:
    """What a line of JSONL holds; the caller knows which line it is.

    Raises:
        InputError: no JSON object.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected a JSON object ({type(error).__name__})") from None
    if not isinstance(row, dict):
        raise InputError(f"expected a JSON object, found {type(row).__name__}")
    return row


def _row(where: str, line: str) -> dict[str, Any]:
    try:
        return json_object(line)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _read_qrels(path: Path) -> Qrels:
    qrels: Qrels = {}
    for position, (where, line) in enumerate(numbered_lines(path)):
        columns = line.split("\t")
        if len(columns) != 3:  # noqa: PLR2004
            raise InputError(f"{where}: expected query, document and grade between tabs, found {len(columns)} columns")
        query, document, grade = columns
        if position == 0 and not _is_grade(grade):
            continue  # the head of the table
        if not _is_grade(grade):
            raise InputError(f"{where}: expected a whole number as the grade")
        if document in qrels.setdefault(query, {}):
            raise InputError(f"{where}: query {query!r} judges document {document!r} a second time")
        qrels[query][document] = int(grade)
    if not qrels:
        raise InputError(f"{path}: it judges no query")
    return qrels


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(key, str) for key in value)


def _is_grade(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()


def _expect_words(query: str, path: Path, key: str) -> str:
    if not query:
        raise InputError(f"{path}: query {key!r} is blank")
    return query
