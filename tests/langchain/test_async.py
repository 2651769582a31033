"""Async methods leave the event loop alone: no blocking, no thread of its default executor."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever

from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
from e2rank_integrations.threads import MAX_THREADS
from tests.langchain.helpers import documents, ids
from tests.support.engines import Gated
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_chroma import Chroma

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.engines.base import Engine

    Call = Callable[[E2RankEmbeddings, Chroma], Awaitable[Any]]

QUERY = QUERIES[0]


def reranker(embeddings: E2RankEmbeddings, store: Chroma) -> E2RankReranker:
    return E2RankReranker(embeddings=embeddings, vectorstore=store)


CALLS: dict[str, Call] = {
    "aembed_query": lambda embeddings, store: embeddings.aembed_query(QUERY),
    "aembed_documents": lambda embeddings, store: embeddings.aembed_documents(TEXTS[:2]),
    "acompress_documents": lambda embeddings, store: reranker(embeddings, store).acompress_documents(
        documents(["law"]), QUERY
    ),
    "acompress_documents computing vectors": lambda embeddings, store: E2RankReranker(
        embeddings=embeddings
    ).acompress_documents(documents(["law"]), QUERY),
    "retriever": lambda embeddings, store: E2RankRetriever(
        vectorstore=store, reranker=reranker(embeddings, store), search_again=True
    ).ainvoke(QUERY),
}


@pytest.fixture
def gated(remembering: Engine) -> Gated:
    """The embedded model, which answers nothing before its gate is opened."""
    return Gated(remembering)


@pytest.fixture
def slow(embedded_encoder: E2RankEncoder, gated: Gated) -> E2RankEmbeddings:
    return E2RankEmbeddings(encoder=replace(embedded_encoder, custom_engine=gated))


@pytest.mark.parametrize("name", CALLS)
async def test_a_slow_engine_does_not_block_the_loop(
    slow: E2RankEmbeddings, gated: Gated, store: Chroma, name: str
) -> None:
    """The loop goes on while the engine waits; it is the loop that opens the gate."""
    task = asyncio.ensure_future(CALLS[name](slow, store))
    beats = 0
    while beats < 50:
        await asyncio.sleep(0)
        beats += 1
    assert not task.done()
    gated.gate.set()
    assert len(await task) > 0


@pytest.mark.parametrize("name", CALLS)
async def test_the_default_executor_is_not_used(embeddings: E2RankEmbeddings, store: Chroma, name: str) -> None:
    """Others may have filled it, so that work handed to it would wait for theirs."""

    class Full(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("the loop's default executor was used")

    asyncio.get_running_loop().set_default_executor(Full(1))
    assert len(await CALLS[name](embeddings, store)) > 0


async def test_more_calls_than_threads_all_end(slow: E2RankEmbeddings, gated: Gated, store: Chroma) -> None:
    """Calls that wait for one another's threads do not lock up, and each gets its own answer."""
    retriever = E2RankRetriever(vectorstore=store, reranker=E2RankReranker(embeddings=slow), search_again=True)
    queries = [f"{query} {number}" for number in range(MAX_THREADS) for query in QUERIES]
    tasks = [asyncio.ensure_future(retriever.ainvoke(query)) for query in queries]
    for _ in range(20):
        await asyncio.sleep(0)
    gated.gate.set()
    found = await asyncio.gather(*tasks)
    assert [ids(documents_) for documents_ in found] == [ids(retriever.invoke(query)) for query in queries]


async def test_a_slow_engine_inside_compression(slow: E2RankEmbeddings, gated: Gated, store: Chroma) -> None:
    """LangChain's own retriever awaits this package's reranker."""
    found = store.as_retriever()
    gated.gate.set()
    expected = await found.ainvoke(QUERY)
    gated.gate.clear()

    class Known(type(found)):  # type: ignore[misc]  # the first stage is not what is tested
        async def _aget_relevant_documents(self, query: str, *, run_manager: Any, **kwargs: Any) -> Any:
            return expected

    base = Known(vectorstore=store)
    retriever = ContextualCompressionRetriever(base_compressor=E2RankReranker(embeddings=slow), base_retriever=base)
    task = asyncio.ensure_future(retriever.ainvoke(QUERY))
    for _ in range(50):
        await asyncio.sleep(0)
    gated.gate.set()
    assert len(await task) == 3
