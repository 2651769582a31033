"""The embedded model under a counter, as LlamaIndex components, over real vector stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.vector_stores.chroma import ChromaVectorStore

from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank
from tests.llama_index.helpers import KINDS, found_nodes, text_nodes
from tests.support.chroma import unique_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chromadb.api import ClientAPI
    from llama_index.core.schema import BaseNode, NodeWithScore, TextNode

    from e2rank_integrations import E2RankEncoder


@pytest.fixture
def embed_model(encoder: E2RankEncoder) -> E2RankEmbedding:
    """The embedded model, counted."""
    return E2RankEmbedding(encoder=encoder)


@pytest.fixture
def rerank(embed_model: E2RankEmbedding) -> E2RankRerank:
    """A reranker that returns all nodes."""
    return E2RankRerank(embed_model=embed_model, top_n=None)


@pytest.fixture
def nodes() -> list[TextNode]:
    """All passages, with metadata that are not part of the embedded text."""
    return text_nodes()


@pytest.fixture
def found() -> list[NodeWithScore]:
    """Twelve passages of three topics, with a retriever's scores."""
    return found_nodes(("bread", "orbit", "law"))


@pytest.fixture
def make_index(memory: ClientAPI, embed_model: E2RankEmbedding) -> Callable[..., VectorStoreIndex]:
    """Makes an index of its own over given nodes, or all passages, in a store of LlamaIndex's or in Chroma."""

    def make(kind: str = "simple", nodes: Sequence[BaseNode] | None = None, **options: Any) -> VectorStoreIndex:
        store = {"simple": SimpleVectorStore, "chroma": lambda: chroma_store(memory)}[kind]()
        return VectorStoreIndex(
            text_nodes() if nodes is None else list(nodes),
            storage_context=StorageContext.from_defaults(vector_store=store),
            **{"embed_model": embed_model, **options},
        )

    return make


@pytest.fixture(params=KINDS)
def index(request: pytest.FixtureRequest, make_index: Callable[..., VectorStoreIndex]) -> VectorStoreIndex:
    """All passages, in a `SimpleVectorStore` and in Chroma."""
    return make_index(request.param)


def chroma_store(client: ClientAPI, **metadata: str) -> ChromaVectorStore:
    """LlamaIndex's own store over a new collection with cosine space."""
    settings = {"hnsw:space": "cosine", **metadata}
    collection = client.create_collection(unique_name(), metadata=settings, embedding_function=None)
    return ChromaVectorStore(chroma_collection=collection)
