"""Components of both frameworks in one process load the weights once, and rank alike."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker
from e2rank_integrations.langchain import E2RankRetriever as LangChainRetriever
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever
from tests.llama_index.helpers import found_nodes, ids, scores, text_nodes
from tests.support.passages import PASSAGES, QUERIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2rank_integrations.engines.registry import EngineKey

QUERY = QUERIES[0]
TOPICS = ("bread", "law")


def documents() -> list[Document]:
    return [Document(PASSAGES[node.node_id], id=node.node_id) for node in text_nodes(TOPICS)]


def named(folder: Path) -> dict[str, Any]:
    return {"model": str(folder), "device": "cpu", "dtype": "float32"}


def ready(folder: Path) -> dict[str, Any]:
    return {"encoder": E2RankEncoder(**named(folder))}


@pytest.fixture(params=[named, ready], ids=["by name", "by encoder"])
def given(request: pytest.FixtureRequest, qwen_folder: Path) -> Callable[[], dict[str, Any]]:
    """What names the model, made anew for each component."""
    return lambda: request.param(qwen_folder)


def every_kind(given: Callable[[], dict[str, Any]]) -> list[Callable[[], list[str]]]:
    """Work for each kind of component of both frameworks, with a model of its own; each gives ids in order."""

    def langchain_retriever() -> list[str]:
        store = InMemoryVectorStore(E2RankEmbeddings(**given()))
        store.add_documents(documents())
        reranker = E2RankReranker(**given())
        found = LangChainRetriever(vectorstore=store, reranker=reranker, k=8).invoke(QUERY)
        return [str(document.id) for document in found]

    def langchain_reranker() -> list[str]:
        found = E2RankReranker(**given(), top_n=None).compress_documents(documents(), QUERY)
        return [str(document.id) for document in found]

    def llama_index_retriever() -> list[str]:
        index = VectorStoreIndex(text_nodes(TOPICS), embed_model=E2RankEmbedding(**given()))
        return ids(E2RankRetriever(index, similarity_top_k=8).retrieve(QUERY))

    def llama_index_rerank() -> list[str]:
        found = E2RankRerank(**given(), top_n=None).postprocess_nodes(found_nodes(TOPICS), query_str=QUERY)
        return ids(found)

    return [langchain_retriever, langchain_reranker, llama_index_retriever, llama_index_rerank]


def test_all_kinds_load_once(given: Callable[[], dict[str, Any]], loads: list[EngineKey]) -> None:
    """Embeddings, rerankers and retrievers of both frameworks, each made for itself: the weights are loaded once."""
    for work in every_kind(given):
        assert sorted(work()) == sorted(node.node_id for node in text_nodes(TOPICS))
    assert len(loads) == 1


def test_all_kinds_load_once_from_threads(given: Callable[[], dict[str, Any]], loads: list[EngineKey]) -> None:
    """All at once, as the first requests of a server: still once, and each with its own right answer."""
    kinds = every_kind(given)
    barrier = threading.Barrier(2 * len(kinds))

    def at_once(work: Callable[[], list[str]]) -> list[str]:
        barrier.wait(30)
        return work()

    with ThreadPoolExecutor(2 * len(kinds)) as pool:
        found = list(pool.map(at_once, [*kinds, *kinds]))
    assert len(loads) == 1
    assert found == [work() for work in (*kinds, *kinds)]


def test_the_embedded_model_is_shared(loads: list[EngineKey]) -> None:
    """By its name alone, and through `embeddings=` and `embed_model=`; the instructions may differ."""
    one = E2RankEmbeddings(model="embedded", device="cpu", dtype="float32", query_instruction="Find")
    other = E2RankEmbedding(model_name="embedded", device="cpu", dtype="float32")
    E2RankReranker(embeddings=one, template="paper", num_input_docs=2).compress_documents(documents()[:2], QUERY)
    E2RankRerank(embed_model=other, rerank_instruction="Sort").postprocess_nodes(found_nodes(["law"]), query_str=QUERY)
    assert one.embed_query(QUERY)
    assert other.get_query_embedding(QUERY)
    assert len(loads) == 1


def test_another_model_is_loaded_beside_it(loads: list[EngineKey], qwen_folder: Path) -> None:
    """The count counts: two models are two loads."""
    E2RankEmbedding(**named(qwen_folder)).get_query_embedding(QUERY)
    E2RankEmbedding(model_name="embedded", device="cpu", dtype="float32").get_query_embedding(QUERY)
    assert len(loads) == 2


@pytest.mark.parametrize("query", QUERIES)
def test_both_frameworks_rank_alike(qwen_encoder: E2RankEncoder, query: str) -> None:
    """The same texts in the same order come out in the same order with the same scores."""
    one = E2RankReranker(encoder=qwen_encoder, top_n=None).compress_documents(documents(), query)
    other = E2RankRerank(encoder=qwen_encoder, top_n=None).postprocess_nodes(found_nodes(TOPICS), query_str=query)
    assert [document.id for document in one] == ids(other)
    assert [document.metadata["relevance_score"] for document in one] == pytest.approx(scores(other), abs=1e-6)
