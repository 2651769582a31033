"""A real server and this process embed and rank alike, through every way in, sync and async."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex

from e2rank_integrations import RemoteEngine, Reranker
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank
from e2rank_integrations.llama_index import E2RankRetriever as LlamaIndexRetriever
from e2rank_integrations.probe import probe
from tests.langchain import helpers as langchain
from tests.llama_index import helpers as llama_index
from tests.support.passages import LONG_PASSAGE, QUERIES, TEXTS

if TYPE_CHECKING:
    from e2rank_integrations import E2RankEncoder, Ranking

EXACT = 1e-4
TOPICS = ("bread", "orbit", "law")
QUERY = QUERIES[0]

DOCUMENTS = [*TEXTS[:6], "", " \n", "重力は引力です。", "<|im_end|> is plain text here", LONG_PASSAGE]


def assert_close(found: Any, expected: Any) -> None:
    """The same shape, and no component further off than 1e-4."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= EXACT


async def test_documents(local: E2RankEncoder, remote: E2RankEncoder) -> None:
    expected = local.encode_documents(DOCUMENTS)
    assert_close(remote.encode_documents(DOCUMENTS), expected)
    assert_close(await remote.aencode_documents(DOCUMENTS), expected)


async def test_queries(local: E2RankEncoder, remote: E2RankEncoder) -> None:
    expected = local.encode_queries(QUERIES)
    assert_close(remote.encode_queries(QUERIES), expected)
    assert_close(await remote.aencode_queries(QUERIES), expected)


def test_listwise_prompts(local: E2RankEncoder, remote: E2RankEncoder) -> None:
    """Also one of more tokens than llama.cpp computes at a time."""
    for documents in (TEXTS[:1], TEXTS[:5], TEXTS[:20]):
        found, plan = remote.encode_listwise(QUERY, documents)
        assert_close(found, local.encode_listwise(QUERY, documents)[0])
    assert plan.documents_used == 20
    assert len(remote.listwise_input(QUERY, documents)[0].ids) > 3 * 128


def test_vectors_do_not_depend_on_how_inputs_are_sent(remote: E2RankEncoder, url: str) -> None:
    """Alone, in small requests, and all in one, in another order."""
    inputs = [*remote.document_inputs(DOCUMENTS), *remote.query_inputs(QUERIES)]
    expected = remote.run(inputs).vectors
    alone = np.concatenate([remote.run([item]).vectors for item in inputs])
    at_once = replace(remote, custom_engine=RemoteEngine(url, batch_inputs=100)).run(inputs[::-1]).vectors[::-1]
    assert_close(alone, expected)
    assert_close(at_once, expected)


def test_the_probe_finds_nothing_wrong(remote: E2RankEncoder) -> None:
    found = probe(remote)
    assert found.least_cosine == pytest.approx(1, abs=1e-6)
    assert (found.inputs, found.width) == (4, 64)


async def test_reranking(local: E2RankEncoder, remote: E2RankEncoder) -> None:
    here, there = Reranker(local), Reranker(remote)
    for query in QUERIES[:2]:
        expected = here.rank(query, TEXTS[:8])
        assert_alike(there.rank(query, TEXTS[:8]), expected)
        assert_alike(await there.arank(query, TEXTS[:8]), expected)


async def test_langchain(local: E2RankEncoder, remote: E2RankEncoder) -> None:
    here, there = (E2RankEmbeddings(encoder=encoder) for encoder in (local, remote))
    assert_close(there.embed_documents(TEXTS[:4]), here.embed_documents(TEXTS[:4]))
    assert_close(await there.aembed_query(QUERY), here.embed_query(QUERY))
    documents = langchain.documents(TOPICS)
    expected = E2RankReranker(embeddings=here, top_n=None).compress_documents(documents, QUERY)
    reranker = E2RankReranker(embeddings=there, top_n=None)
    expect_alike(langchain, reranker.compress_documents(documents, QUERY), expected)
    expect_alike(langchain, await reranker.acompress_documents(documents, QUERY), expected)


async def test_langchains_retriever(local: E2RankEncoder, remote: E2RankEncoder) -> None:
    stores = [InMemoryVectorStore(E2RankEmbeddings(encoder=encoder)) for encoder in (local, remote)]
    for store in stores:
        store.add_documents(langchain.documents(TOPICS))
    here, there = (E2RankRetriever(vectorstore=store, k=12) for store in stores)
    expected = here.invoke(QUERY)
    expect_alike(langchain, there.invoke(QUERY), expected)
    expect_alike(langchain, await there.ainvoke(QUERY), expected)


async def test_llama_index(local: E2RankEncoder, remote: E2RankEncoder) -> None:
    here, there = (E2RankEmbedding(encoder=encoder) for encoder in (local, remote))
    assert_close(there.get_text_embedding_batch(TEXTS[:4]), here.get_text_embedding_batch(TEXTS[:4]))
    assert_close(await there.aget_query_embedding(QUERY), here.get_query_embedding(QUERY))
    nodes = llama_index.found_nodes(TOPICS)
    expected = E2RankRerank(embed_model=here, top_n=None).postprocess_nodes(nodes, query_str=QUERY)
    rerank = E2RankRerank(embed_model=there, top_n=None)
    expect_alike(llama_index, rerank.postprocess_nodes(nodes, query_str=QUERY), expected)
    expect_alike(llama_index, await rerank.apostprocess_nodes(nodes, query_str=QUERY), expected)


async def test_llama_indexs_retriever(local: E2RankEncoder, remote: E2RankEncoder) -> None:
    models = [E2RankEmbedding(encoder=encoder) for encoder in (local, remote)]
    here, there = (
        LlamaIndexRetriever(VectorStoreIndex(llama_index.text_nodes(TOPICS), embed_model=model), similarity_top_k=12)
        for model in models
    )
    expected = here.retrieve(QUERY)
    expect_alike(llama_index, there.retrieve(QUERY), expected)
    expect_alike(llama_index, await there.aretrieve(QUERY), expected)


def assert_alike(found: Ranking, expected: Ranking) -> None:
    """The same order, and scores no further off than 1e-4."""
    assert [item.old_position for item in found.ranked] == [item.old_position for item in expected.ranked]
    assert_close([item.score for item in found.ranked], [item.score for item in expected.ranked])


def expect_alike(framework: Any, found: Any, expected: Any) -> None:
    """The same for what a framework's component returned."""
    assert framework.ids(found) == framework.ids(expected)
    assert len(found) == 12
    assert_close(framework.scores(found), framework.scores(expected))
