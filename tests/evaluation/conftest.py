"""A collection small enough to reason about, on disk and in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2rank_integrations.evaluation.collection import Collection, load_collection

DOCUMENTS = {
    "beijing": ("Beijing", "The capital of China is Beijing."),
    "paris": ("Paris", "Paris is the capital of France."),
    "gravity": ("Gravity", "Gravity is a force that attracts two bodies towards each other."),
    "newton": ("", "An apple fell, and Newton asked why bodies attract."),
    "tea": ("Tea", "Tea is a drink made by pouring hot water over leaves."),
    "rivers": ("Rivers", "The Seine flows through the largest city of France."),
}
QUERIES = {
    "q1": "What is the capital of China?",
    "q2": "Explain gravity",
    "q3": "Which city does the Seine cross?",
    "unjudged": "Nobody judged this one.",
}
QRELS = {
    "q1": {"beijing": 2, "paris": 0},
    "q2": {"gravity": 2, "newton": 1},
    "q3": {"rivers": 1, "paris": 2, "not-in-the-corpus": 1},
}


def write_collection(folder: Path) -> Path:
    """Write the collection in BEIR's layout."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    rows = [{"_id": key, "title": title, "text": text} for key, (title, text) in DOCUMENTS.items()]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    questions = [{"_id": key, "text": text, "metadata": {}} for key, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions), encoding="utf-8")
    grades = [f"{query}\t{key}\t{grade}\n" for query, judged in QRELS.items() for key, grade in judged.items()]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(grades), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The collection on disk, to be spoiled at will."""
    return write_collection(tmp_path / "small")


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The collection as loaded."""
    return load_collection(write_collection(tmp_path_factory.mktemp("beir") / "small"))
