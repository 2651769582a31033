"""Documents, stores and a tracer for tests of the LangChain side."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tracers.base import BaseTracer
from langchain_core.vectorstores import VectorStore

from tests.support.passages import METADATAS, PASSAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from langchain_core.embeddings import Embeddings
    from langchain_core.tracers.schemas import Run

RUN_NAME = "E2RankReranker"


def documents(topics: Iterable[str] = ()) -> list[Document]:
    """The passages, of some topics or of all, as new documents."""
    wanted = set(topics)
    return [
        Document(text, id=id_, metadata=dict(data))
        for (id_, text), data in zip(PASSAGES.items(), METADATAS, strict=True)
        if not wanted or data["topic"] in wanted
    ]


def snapshot(found: Iterable[Document]) -> list[tuple[Any, ...]]:
    """All of the documents, copied deeply, with their class."""
    return [(type(document), copy.deepcopy(document.__dict__)) for document in found]


def ids(found: Iterable[Document]) -> list[str | None]:
    return [document.id for document in found]


def scores(found: Iterable[Document]) -> list[float]:
    return [document.metadata["relevance_score"] for document in found]


def expect_alike(found: Sequence[Document], expected: Sequence[Document]) -> None:
    """The same documents in the same order; scores may differ by rounding, which other threads do otherwise."""
    assert without_scores(found) == without_scores(expected)
    assert scores(found) == pytest.approx(scores(expected), abs=1e-5)


def without_scores(found: Iterable[Document]) -> list[tuple[Any, ...]]:
    kept = [doc.model_copy(update={"metadata": {**doc.metadata, "relevance_score": None}}) for doc in found]
    return snapshot(kept)


class Runs(BaseTracer):
    """Keeps every run tree that ends."""

    run_inline = True

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)

    @property
    def all(self) -> list[Run]:
        return [run for root in self.roots for run in _walk(root)]

    @property
    def reranks(self) -> list[Run]:
        """The runs that this package opened."""
        return [run for run in self.all if run.name == RUN_NAME]

    def parent_of(self, run: Run) -> Run:
        (parent,) = (other for other in self.all if other.id == run.parent_run_id)
        return parent


def _walk(run: Run) -> Iterator[Run]:
    yield run
    for child in run.child_runs:
        yield from _walk(child)


class WordsRetriever(BaseRetriever):
    """A lexical first stage: documents by the number of the query's words in them, without ids or vectors."""

    texts: list[str]
    k: int = 4

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        words = {word.strip("?.,").lower() for word in query.split()}
        hits = sorted(self.texts, key=lambda text: -len(words & {w.strip("?.,").lower() for w in text.split()}))
        return [Document(text, metadata={"from": "words"}) for text in hits[: self.k]]


class FlatStore(VectorStore):
    """As LangChain's FAISS: it searches by vector, knows ids, takes `filter` and ignores what else it is given."""

    def __init__(self, embedding: Embeddings) -> None:
        self._embedding = embedding
        self.records: dict[str, tuple[Document, list[float]]] = {}

    @property
    def embeddings(self) -> Embeddings:
        return self._embedding

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        vectors = self._embedding.embed_documents([document.page_content for document in documents])
        new = {str(doc.id): (doc, vector) for doc, vector in zip(documents, vectors, strict=True)}
        self.records.update(new)
        return list(new)

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: dict[str, Any] | None = None,  # noqa: A002 - as all of LangChain's stores call it
        **kwargs: Any,
    ) -> list[Document]:
        assert all(type(value) is float for value in embedding), "FAISS takes floats, not numpy's"
        found = [pair for pair in self.records.values() if (filter or {}).items() <= pair[0].metadata.items()]
        found.sort(key=lambda pair: -float(np.dot(pair[1], embedding)))
        return [document for document, _ in found[:k]]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return self.similarity_search_by_vector(self._embedding.embed_query(query), k, **kwargs)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [self.records[id_][0] for id_ in ids if id_ in self.records]

    def vectors(self, ids: list[str]) -> dict[str, list[float]]:
        """A `vector_lookup`."""
        return {id_: self.records[id_][1] for id_ in ids if id_ in self.records}

    @classmethod
    def from_texts(cls, texts: list[str], embedding: Embeddings, metadatas: Any = None, **kwargs: Any) -> FlatStore:
        raise NotImplementedError
