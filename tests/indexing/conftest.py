"""Corpora of a few rows, and stores to index them into."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2rank_integrations.indexing.job import index_corpus
from e2rank_integrations.indexing.manifest import Manifest
from e2rank_integrations.indexing.sources import open_source
from e2rank_integrations.stores.chroma import open_collection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.indexing.report import IndexReport
    from e2rank_integrations.indexing.sources import Source
    from e2rank_integrations.stores.chroma import ChromaStore
    from e2rank_integrations.values import Candidate

COLLECTION = "articles"


def rows(count: int) -> list[dict[str, Any]]:
    """Documents with a title, some of them, and metadata."""
    return [
        {"_id": f"d{n}", "title": f"Title {n}" if n % 3 else "", "text": f"Article {n} is about {n * 7}.", "year": n}
        for n in range(1, count + 1)
    ]


def write_lines(path: Path, values: Sequence[object]) -> Path:
    """JSON lines; a string or bytes are a line as they are."""
    lines = [value if isinstance(value, str | bytes) else json.dumps(value) for value in values]
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return path


@dataclass(frozen=True)
class Place:
    """Where a job reads and writes."""

    corpus: Path
    chroma: Path
    manifest: Path
    rows_per_part: int = 3
    where: str | None = None

    def index(self, encoder: E2RankEncoder, **options: Any) -> IndexReport:
        """As `e2rank index` does, in this process."""
        settings = {"rows_per_part": self.rows_per_part, **options}
        with self.store(encoder) as store, Manifest(self.manifest) as manifest:
            return index_corpus(open_source(self.corpus), encoder, store, manifest, **settings)

    @contextmanager
    def store(self, encoder: E2RankEncoder | None = None) -> Iterator[ChromaStore]:
        """The collection, made if it is not there."""
        fingerprint = None if encoder is None else encoder.fingerprint.to_json()
        store = open_collection(self.where or self.chroma, COLLECTION, fingerprint=fingerprint)
        try:
            yield store
        finally:
            store.close()

    def records(self, ids: Sequence[str] | None = None) -> dict[str, Candidate]:
        """What is stored, all of it or by ids."""
        with self.store() as store:
            wanted = store._collection.get(include=[])["ids"] if ids is None else ids
            return dict(store.get(wanted))

    def errors(self) -> list[tuple[int, str | None, str]]:
        """What the manifest lists."""
        with Manifest(self.manifest) as manifest:
            return [(error.position, error.id, error.reason) for error in manifest.errors()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Ten rows in four parts, to go into a folder."""
    corpus = write_lines(tmp_path / "corpus.jsonl", rows(10))
    return Place(corpus, tmp_path / "chroma", tmp_path / "done.manifest")


def read(source: Source, rows_per_part: int = 4) -> list[Any]:
    """Every row, part by part."""
    return [row for part in source.parts(rows_per_part) for row in source.read(part)]


def expect_same(ours: Mapping[str, Candidate], theirs: Mapping[str, Candidate], tolerance: float = 0.0) -> None:
    """The same records: ids, texts, metadata, and vectors to a tolerance."""
    assert ours.keys() == theirs.keys()
    for id_, record in ours.items():
        other = theirs[id_]
        assert (record.text, record.metadata) == (other.text, other.metadata)
        np.testing.assert_allclose(np.asarray(record.vector), np.asarray(other.vector), rtol=0, atol=tolerance)


@dataclass
class Memory:
    """A store in this process's memory, whose writes can be made to fail half-way."""

    records: dict[str, Candidate] = field(default_factory=dict)
    identity: str = "memory"
    fingerprint: str | None = None
    fails_after: int | None = None

    def upsert(self, records: Sequence[Candidate]) -> None:
        for record in records:
            if self.fails_after == 0:
                self.fails_after = None
                raise Killed
            if self.fails_after is not None:
                self.fails_after -= 1
            self.records[str(record.id)] = record

    def count(self) -> int:
        return len(self.records)

    def sample(self) -> list[Candidate]:
        return []


class Killed(BaseException):
    """Stands for the end of the process."""
