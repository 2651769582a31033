"""The suites that LangChain has for embeddings and retrievers, none overridden, on the real embedded model."""

from __future__ import annotations

from functools import cache
from typing import Any

import chromadb
from langchain_chroma import Chroma
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from e2rank_integrations.langchain import E2RankEmbeddings, E2RankRetriever
from tests.langchain.helpers import documents
from tests.support.chroma import unique_name
from tests.support.passages import QUERIES

PARAMS = {"model": "embedded", "device": "cpu", "dtype": "float32"}


@cache
def chroma() -> Chroma:
    """The passages in a real Chroma."""
    store = Chroma(
        client=chromadb.EphemeralClient(),
        collection_name=unique_name(),
        embedding_function=E2RankEmbeddings(**PARAMS),
    )
    store.add_documents(documents())
    return store


@cache
def in_memory() -> InMemoryVectorStore:
    """The passages in LangChain's own store."""
    store = InMemoryVectorStore(E2RankEmbeddings(**PARAMS))
    store.add_documents(documents())
    return store


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[E2RankEmbeddings]:
        return E2RankEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return PARAMS


class TestEmbeddingsIntegration(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[E2RankEmbeddings]:
        return E2RankEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return PARAMS


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[E2RankRetriever]:
        return E2RankRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": chroma()}

    @property
    def retriever_query_example(self) -> str:
        return QUERIES[0]


class TestRetrieverSearchingAgain(TestRetriever):
    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": chroma(), "search_again": True, "fetch_k": 3}


class TestRetrieverInMemory(TestRetriever):
    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"vectorstore": in_memory()}
