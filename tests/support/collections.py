"""Small judged collections, written in BEIR's layout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def write_beir(
    folder: Path,
    documents: Mapping[str, str | tuple[str, str]],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    split: str = "test",
) -> Path:
    """Write a collection; a document is its text, or title and text."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    pairs = {key: ("", given) if isinstance(given, str) else given for key, given in documents.items()}
    _write_rows(folder / "corpus.jsonl", ({"_id": key, "title": a, "text": b} for key, (a, b) in pairs.items()))
    _write_rows(folder / "queries.jsonl", ({"_id": key, "text": text, "metadata": {}} for key, text in queries.items()))
    grades = [f"{query}\t{key}\t{grade}\n" for query, judged in qrels.items() for key, grade in judged.items()]
    table = "query-id\tcorpus-id\tscore\n" + "".join(grades)
    (folder / "qrels" / f"{split}.tsv").write_text(table, encoding="utf-8")
    return folder


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
