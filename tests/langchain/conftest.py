"""The embedded model under a counter, as LangChain components, over real Chromas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_chroma import Chroma

from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker
from tests.langchain.helpers import documents
from tests.support.chroma import unique_name
from tests.support.passages import IDS, METADATAS, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from chromadb.api import ClientAPI

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import Matrix


@pytest.fixture
def embeddings(encoder: E2RankEncoder) -> E2RankEmbeddings:
    """The embedded model, counted."""
    return E2RankEmbeddings(encoder=encoder)


@pytest.fixture
def reranker(embeddings: E2RankEmbeddings) -> E2RankReranker:
    """A reranker that returns all documents."""
    return E2RankReranker(embeddings=embeddings, top_n=None)


@pytest.fixture
def make_store(memory: ClientAPI, embeddings: E2RankEmbeddings) -> Callable[..., Chroma]:
    """Makes a collection of its own with LangChain's store, of given documents or of all passages."""

    def make(found: list[Any] | None = None, **options: Any) -> Chroma:
        settings = {"client": memory, "collection_name": unique_name(), "embedding_function": embeddings, **options}
        store = Chroma(**settings)
        if found != []:  # Chroma refuses an empty list
            store.add_documents(documents() if found is None else found)
        return store

    return make


@pytest.fixture
def store(make_store: Callable[..., Chroma], passage_vectors: Matrix) -> Chroma:
    """All passages in LangChain's store, with vectors that were computed once for all tests."""
    store = make_store([])
    store._collection.add(ids=IDS, documents=TEXTS, metadatas=METADATAS, embeddings=passage_vectors)
    return store
