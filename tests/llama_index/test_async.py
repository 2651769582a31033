"""Async methods leave the event loop alone: no blocking, no thread of its default executor."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.storage.kvstore import SimpleKVStore

from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever
from e2rank_integrations.threads import MAX_THREADS
from tests.llama_index.helpers import expect_alike, found_nodes, ids, text_nodes
from tests.support.engines import Gated
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llama_index.core import VectorStoreIndex

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.engines.base import Engine

    Call = Callable[[E2RankEmbedding, VectorStoreIndex], Awaitable[Any]]

QUERY = QUERIES[0]


def rerank(embed_model: E2RankEmbedding, store: Any = None) -> E2RankRerank:
    return E2RankRerank(embed_model=embed_model, vector_store=store)


def retriever(embed_model: E2RankEmbedding, index: VectorStoreIndex, **options: Any) -> E2RankRetriever:
    return E2RankRetriever(index, rerank(embed_model, index), fetch_k=6, **options)


def cached(embed_model: E2RankEmbedding) -> E2RankEmbedding:
    return E2RankEmbedding(encoder=embed_model.encoder, embeddings_cache=SimpleKVStore())


CALLS: dict[str, Call] = {
    "aget_query_embedding": lambda model, index: model.aget_query_embedding(QUERY),
    "aget_query_embedding cached": lambda model, index: cached(model).aget_query_embedding(QUERY),
    "aget_text_embedding": lambda model, index: model.aget_text_embedding(TEXTS[0]),
    "aget_text_embedding_batch": lambda model, index: model.aget_text_embedding_batch(TEXTS[:2]),
    "aget_text_embedding_batch cached": lambda model, index: cached(model).aget_text_embedding_batch(TEXTS[:2]),
    "acall": lambda model, index: model.acall(text_nodes(["law"])),
    "apostprocess_nodes": lambda model, index: rerank(model).apostprocess_nodes(found_nodes(["law"]), query_str=QUERY),
    "apostprocess_nodes with a store": lambda model, index: rerank(model, index).apostprocess_nodes(
        found_nodes(["law"]), query_str=QUERY
    ),
    "aretrieve": lambda model, index: retriever(model, index).aretrieve(QUERY),
    "aretrieve searching again": lambda model, index: retriever(model, index, search_again=True).aretrieve(QUERY),
}


@pytest.fixture
def gated(remembering: Engine) -> Gated:
    """The embedded model, which answers nothing before its gate is opened."""
    return Gated(remembering)


@pytest.fixture
def slow(embedded_encoder: E2RankEncoder, gated: Gated) -> E2RankEmbedding:
    return E2RankEmbedding(encoder=replace(embedded_encoder, custom_engine=gated))


async def beats(count: int = 50) -> None:
    """Some rounds of the loop, which end only where nothing blocks it."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["simple", "chroma"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_slow_engine_does_not_block_the_loop(
    slow: E2RankEmbedding, gated: Gated, make_index: Callable[..., VectorStoreIndex], name: str, kind: str
) -> None:
    """The loop goes on while the engine waits; it is the loop that opens the gate."""
    index = make_index(kind)
    task = asyncio.ensure_future(CALLS[name](slow, index))
    await beats()
    assert not task.done()
    gated.gate.set()
    assert len(await task) > 0


@pytest.mark.parametrize("name", CALLS)
async def test_the_default_executor_is_not_used(
    embed_model: E2RankEmbedding, make_index: Callable[..., VectorStoreIndex], name: str
) -> None:
    """Others may have filled it, so that work handed to it would wait for theirs."""
    index = make_index("simple")

    class Full(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("the loop's default executor was used")

    asyncio.get_running_loop().set_default_executor(Full(1))
    assert len(await CALLS[name](embed_model, index)) > 0


async def test_more_calls_than_threads_all_end(
    slow: E2RankEmbedding, gated: Gated, make_index: Callable[..., VectorStoreIndex]
) -> None:
    """Calls that wait for one another's threads do not lock up, and each gets its own answer."""
    used = retriever(slow, make_index("simple"), search_again=True)
    queries = [f"{query} {number}" for number in range(MAX_THREADS) for query in QUERIES]
    tasks = [asyncio.ensure_future(used.aretrieve(query)) for query in queries]
    await beats(20)
    gated.gate.set()
    found = await asyncio.gather(*tasks)
    assert [ids(nodes) for nodes in found] == [ids(used.retrieve(query)) for query in queries]


async def test_a_slow_engine_inside_a_query_engine(
    slow: E2RankEmbedding, gated: Gated, make_index: Callable[..., VectorStoreIndex]
) -> None:
    """LlamaIndex's query engine awaits this package's reranker."""
    index = make_index("simple")
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(similarity_top_k=6), llm=MockLLM(max_tokens=5), node_postprocessors=[rerank(slow)]
    )
    task = asyncio.ensure_future(engine.aquery(QUERY))
    await beats(200)
    assert not task.done()
    gated.gate.set()
    assert len((await task).source_nodes) == 5


async def test_concurrent_reranks_do_not_mix(embed_model: E2RankEmbedding) -> None:
    """Several queries at once over one list of nodes: each as if it were alone."""
    found, used = found_nodes(), rerank(embed_model)
    ranked = await asyncio.gather(*(used.apostprocess_nodes(found, query_str=query) for query in QUERIES * 3))
    for query, results in zip(QUERIES * 3, ranked, strict=True):
        expect_alike(results, used.postprocess_nodes(found, query_str=query))
