"""Inside LangChain's own classes: compression, pipelines, ensembles, LCEL chains, tools."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever, EnsembleRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import BaseDocumentTransformer, Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, RunnableLambda, RunnablePassthrough
from langchain_core.tools import create_retriever_tool

from e2rank_integrations.langchain import E2RankReranker, E2RankRetriever
from tests.langchain.helpers import WordsRetriever, expect_alike, ids
from tests.support.passages import PASSAGES, QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_chroma import Chroma
    from langchain_core.retrievers import BaseRetriever

    from e2rank_integrations.langchain import E2RankEmbeddings
    from tests.support.engines import Recording

QUERY = QUERIES[0]
BEST = "bread-1"


class OddNumbers(BaseDocumentTransformer):
    """A step of a pipeline: leaves out what has an even number."""

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> Sequence[Document]:
        return [document for document in documents if document.metadata["number"] % 2]


@pytest.fixture
def top(embeddings: E2RankEmbeddings, store: Chroma) -> E2RankReranker:
    """A reranker that takes the store's vectors."""
    return E2RankReranker(embeddings=embeddings, vectorstore=store, top_n=3)


@pytest.fixture
def retriever(store: Chroma) -> E2RankRetriever:
    return E2RankRetriever(vectorstore=store, k=3)


def compressing(compressor: Any, base: BaseRetriever) -> ContextualCompressionRetriever:
    return ContextualCompressionRetriever(base_compressor=compressor, base_retriever=base)


async def both(made: Any, given: Any) -> list[Any]:
    return [made.invoke(given), await made.ainvoke(given)]


async def test_contextual_compression(
    top: E2RankReranker, retriever: E2RankRetriever, store: Chroma, recording: Recording
) -> None:
    """Over LangChain's own retriever: what this package's retriever gives, and no document is embedded."""
    compression = compressing(top, store.as_retriever(search_kwargs={"k": 50}))
    expected = retriever.invoke(QUERY)
    compression.invoke(QUERY)
    recording.calls.clear()
    for found in await both(compression, QUERY):
        expect_alike(found, expected)
    assert recording.usage.documents == 0


async def test_compression_of_nothing(top: E2RankReranker, store: Chroma) -> None:
    """A search that finds nothing gives nothing."""
    base = store.as_retriever(search_kwargs={"filter": {"topic": "none"}})
    assert await both(compressing(top, base), QUERY) == [[], []]


async def test_a_pipeline_of_compressors(top: E2RankReranker, embeddings: E2RankEmbeddings, store: Chroma) -> None:
    """A filter, a reranker, and a second reranker in turn: the last one's scores, of what the others let through."""
    last = E2RankReranker(embeddings=embeddings, vectorstore=store, top_n=2, query_weight=0)
    pipeline = DocumentCompressorPipeline(transformers=[OddNumbers(), top, last])
    for found in await both(compressing(pipeline, store.as_retriever(search_kwargs={"k": 24})), QUERY):
        assert len(found) == 2
        assert all(document.metadata["number"] % 2 for document in found)
        first = top.compress_documents(OddNumbers().transform_documents(documents_of(store, QUERY)), QUERY)
        assert set(ids(found)) < set(ids(first))
        expect_alike(found, last.compress_documents(first, QUERY))


def documents_of(store: Chroma, query: str) -> list[Document]:
    return store.similarity_search(query, k=24)


async def test_an_ensemble_of_words_and_vectors(top: E2RankReranker, store: Chroma, recording: Recording) -> None:
    """Hits without vectors and stored hits are ranked together; only the former are embedded, and none is lost."""
    texts = ["Bread is baked in an oven.", "Makers of bread rise early.", "Yeast makes sugar into gas."]
    words = WordsRetriever(texts=texts, k=3)
    ensemble = EnsembleRetriever(retrievers=[words, store.as_retriever(search_kwargs={"k": 6})], weights=[0.5, 0.5])
    whole = compressing(top.model_copy(), ensemble)
    whole.invoke(QUERY)
    recording.calls.clear()
    union = ensemble.invoke(QUERY)
    ranking = top.rank(union, QUERY)
    assert {item.candidate.text for item in ranking.ranked} == {document.page_content for document in union}
    assert recording.usage.documents == len(texts)
    for found in await both(whole, QUERY):
        assert [document.page_content for document in found] == [item.candidate.text for item in ranking]


async def test_an_ensemble_with_this_retriever(retriever: E2RankRetriever) -> None:
    """This package's retriever is one of an ensemble's like any other."""
    ensemble = EnsembleRetriever(retrievers=[retriever, WordsRetriever(texts=TEXTS, k=3)], weights=[0.9, 0.1])
    for found in await both(ensemble, QUERY):
        assert found[0].id == BEST


async def test_a_chain(retriever: E2RankRetriever) -> None:
    """Retrieve, fill the prompt, answer: the model is given the reranked passages in their order."""
    seen: list[str] = []

    def listed(found: list[Document]) -> str:
        return "\n".join(document.page_content for document in found)

    def watched(prompt: Any) -> Any:
        seen.append(prompt.to_string())
        return prompt

    prompt = ChatPromptTemplate.from_template("{context}\n\nQuestion: {question}")
    chain = (
        {"context": retriever | listed, "question": RunnablePassthrough()}
        | prompt
        | RunnableLambda(watched)
        | FakeListChatModel(responses=["Yeast."])
        | StrOutputParser()
    )
    assert await both(chain, QUERY) == ["Yeast.", "Yeast."]
    expected = listed(retriever.invoke(QUERY))
    assert seen == [f"Human: {expected}\n\nQuestion: {QUERY}"] * 2


async def test_a_reranker_in_a_chain(top: E2RankReranker, store: Chroma) -> None:
    """As a step of its own, since a compressor is no Runnable."""
    rerank = RunnableLambda(
        lambda given: top.compress_documents(given["found"], given["query"]),
        afunc=lambda given: top.acompress_documents(given["found"], given["query"]),
    )
    chain = {"found": store.as_retriever(), "query": RunnablePassthrough()} | rerank
    first, second = await both(chain, QUERY)
    assert ids(first) == ids(second)
    assert first[0].id == BEST


async def test_a_tool(retriever: E2RankRetriever) -> None:
    """An agent's tool: the passages as text, and the documents as artifacts where asked for."""
    tool = create_retriever_tool(retriever, "search", "Searches the passages.")
    for text in await both(tool, {"query": QUERY}):
        assert text == "\n\n".join(document.page_content for document in retriever.invoke(QUERY))
    with_documents = create_retriever_tool(
        retriever, "search", "Searches the passages.", response_format="content_and_artifact"
    )
    call = {"name": "search", "args": {"query": QUERY}, "id": "1", "type": "tool_call"}
    assert [ids(message.artifact) for message in await both(with_documents, call)] == [ids(retriever.invoke(QUERY))] * 2


async def test_a_batch(retriever: E2RankRetriever) -> None:
    """Many queries at once, in threads or tasks: each gets its own answer."""
    queries = list(QUERIES) * 2
    expected = [ids(retriever.invoke(query)) for query in queries]
    assert [ids(found) for found in retriever.batch(queries)] == expected
    assert [ids(found) for found in await retriever.abatch(queries)] == expected


async def test_settings_of_a_request(retriever: E2RankRetriever) -> None:
    """LangChain's configurable fields change k and the search arguments of one call."""
    configurable = retriever.configurable_fields(
        k=ConfigurableField(id="k"), search_kwargs=ConfigurableField(id="search"), fetch_k=ConfigurableField(id="fetch")
    )
    config: Any = {"configurable": {"k": 2, "search": {"filter": {"topic": "law"}}, "fetch": 3}}
    for found in (configurable.invoke(QUERY, config), await configurable.ainvoke(QUERY, config)):
        assert len(found) == 2
        assert {document.metadata["topic"] for document in found} == {"law"}
    assert ids(configurable.invoke(QUERY)) == ids(retriever.invoke(QUERY))


def test_a_fallback(retriever: E2RankRetriever, store: Chroma) -> None:
    """A retriever is a Runnable: where it fails, the plain search may answer."""
    failing = E2RankRetriever(vectorstore=store, search_kwargs={"bogus": 1})
    with_fallback = failing.with_fallbacks([retriever])
    assert ids(with_fallback.invoke(QUERY)) == ids(retriever.invoke(QUERY))


def test_documents_of_a_retrieval_name_their_score(retriever: E2RankRetriever) -> None:
    """Ready for a threshold or a citation further on."""
    for document in map(attrgetter("metadata"), retriever.invoke(QUERY)):
        assert type(document["relevance_score"]) is float
        assert document["topic"] in {id_.split("-")[0] for id_ in PASSAGES}
