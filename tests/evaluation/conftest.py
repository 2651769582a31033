"""A collection small enough to reason about, on disk and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2rank_integrations.evaluation.collection import Collection, load_collection
from tests.support.collections import write_beir

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
    return write_beir(folder, DOCUMENTS, QUERIES, QRELS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The collection on disk, to be spoiled at will."""
    return write_collection(tmp_path / "small")


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The collection as loaded."""
    return load_collection(write_collection(tmp_path_factory.mktemp("beir") / "small"))
