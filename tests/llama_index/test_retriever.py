"""E2RankRetriever: what reaches the store, how much is returned, what it costs, and how it fits in LlamaIndex."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from llama_index.core import QueryBundle, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine, TransformQueryEngine
from llama_index.core.schema import IndexNode, MetadataMode, NodeRelationship, RelatedNodeInfo, TextNode

from e2rank_integrations import Searcher
from e2rank_integrations.errors import EngineMemoryError, InputError, StoreMismatchError, VectorError
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever
from e2rank_integrations.llama_index.stores import reader
from e2rank_integrations.stores.chroma import ChromaStore
from tests.llama_index.helpers import expect_alike, found_nodes, ids, scores, text_nodes
from tests.support.engines import Failing, Recording
from tests.support.passages import PASSAGES, QUERIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from e2rank_integrations import E2RankEncoder

QUERY, MOON = QUERIES[0], QUERIES[1]
ALL = len(PASSAGES)


@pytest.fixture
def retriever(index: VectorStoreIndex) -> E2RankRetriever:
    return E2RankRetriever(index)


@pytest.fixture
def bold(embed_model: E2RankEmbedding) -> E2RankRerank:
    """A reranker that ranks by the prompt alone, and so moves far from the plain query."""
    return E2RankRerank(embed_model=embed_model, query_weight=0.0, num_input_docs=4)


async def test_a_query_is_one_query_and_one_prompt(retriever: E2RankRetriever, recording: Recording) -> None:
    """After the first use of the index, no document is embedded, sync or async, and both find the same."""
    first = retriever.retrieve(QUERY)
    recording.calls.clear()
    for found in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
        expect_alike(found, first)
    assert (recording.usage.queries, recording.usage.prompts, recording.usage.documents) == (2, 2, 0)


async def test_results_are_the_cores(retriever: E2RankRetriever, index: VectorStoreIndex, rerank: E2RankRerank) -> None:
    """It translates only: ids, scores and order are those of the framework-free search, sync and async."""
    expected = Searcher(reader(index), rerank.core).search(QUERY, 4)
    for found in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
        assert ids(found) == [item.candidate.id for item in expected]
        assert scores(found) == [item.score for item in expected]
    ranking = retriever.rank(QUERY)
    assert [(item.candidate.id, item.score) for item in ranking] == list(zip(ids(found), scores(found), strict=True))
    assert (ranking.usage.queries, ranking.usage.prompts, ranking.usage.documents) == (1, 1, 0)
    assert len(ranking.ranked) == ALL


def test_results_are_those_of_the_plain_collection(
    make_index: Callable[..., VectorStoreIndex], rerank: E2RankRerank
) -> None:
    """Through LlamaIndex or through the core's own reading of the same collection."""
    index = make_index("chroma")
    expected = Searcher(ChromaStore(index.vector_store.client), rerank.core).search(QUERY, 6)
    found = E2RankRetriever(index, similarity_top_k=6).retrieve(QUERY)
    assert ids(found) == [item.candidate.id for item in expected]
    assert scores(found) == [item.score for item in expected]


def test_scores_are_floats_that_fall(index: VectorStoreIndex) -> None:
    """Python's own floats, best first, and cosines."""
    found = scores(E2RankRetriever(index, similarity_top_k=ALL).retrieve(QUERY))
    assert {type(score) for score in found} == {float}
    assert found == sorted(found, reverse=True)
    assert all(-1 <= score <= 1 for score in found)


def test_nodes_come_back_whole(make_index: Callable[..., VectorStoreIndex]) -> None:
    """With ids, texts, metadata, relationships and settings, and nothing of ours beside them."""
    nodes = [
        TextNode(
            text=text,
            id_=id_,
            metadata={"topic": id_, "page": 7, "share": 0.5, "none": ""},
            excluded_embed_metadata_keys=["page"],
            excluded_llm_metadata_keys=["topic"],
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="book")},
            metadata_template="<{key}={value}>",
            text_template="{metadata_str}|{content}",
            start_char_idx=3,
        )
        for id_, text in list(PASSAGES.items())[:5]
    ]
    before = {node.node_id: node.model_dump() for node in nodes}
    for kind in ("simple", "chroma"):
        index = make_index(kind, [node.model_copy(deep=True) for node in nodes])
        found = E2RankRetriever(index, similarity_top_k=5).retrieve(QUERY)
        assert {type(item.node) for item in found} == {TextNode}
        assert {item.node.node_id: {**item.node.model_dump(), "embedding": None} for item in found} == before


@pytest.mark.parametrize("again", [False, True], ids=["one search", "two searches"])
def test_how_many_are_taken_and_returned(index: VectorStoreIndex, again: bool) -> None:
    """`fetch_k` candidates and `similarity_top_k` results; never fewer candidates than results; all there are."""
    for top_k, fetch_k, taken in ((2, 6, 6), (4, 1, 4), (11, 5, 11), (3, 500, ALL), (500, 2, ALL), (1, 1, 1)):
        retriever = E2RankRetriever(index, similarity_top_k=top_k, fetch_k=fetch_k, search_again=again)
        ranking = retriever.rank(QUERY)
        assert len([item for item in ranking.ranked if item.old_position is not None]) == taken
        assert len(retriever.retrieve(QUERY)) == min(top_k, ALL)


@pytest.mark.parametrize("name", ["similarity_top_k", "fetch_k"])
@pytest.mark.parametrize("value", [0, -1, "3", 1.5, None, True, [4]], ids=repr)
def test_bad_counts_are_refused(index: VectorStoreIndex, name: str, value: Any) -> None:
    """At construction, with the argument's name."""
    with pytest.raises(InputError, match=name):
        E2RankRetriever(index, **{name: value})


def test_a_changed_option_counts(index: VectorStoreIndex) -> None:
    """Options set later are in force for the next query; a bad one is an error then."""
    retriever = E2RankRetriever(index)
    retriever.similarity_top_k, retriever.fetch_k, retriever.search_again = 2, 3, True
    assert len(retriever.retrieve(QUERY)) == 2
    assert len([item for item in retriever.rank(QUERY).ranked if item.old_position is not None]) == 3
    retriever.similarity_top_k = 0
    with pytest.raises(InputError):
        retriever.retrieve(QUERY)


@pytest.mark.parametrize("kind", ["simple", "chroma"])
async def test_an_empty_index(
    make_index: Callable[..., VectorStoreIndex], recording: Recording, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Gives nothing, without a prompt or a warning, and what is inserted later is found."""
    index = make_index(kind, [])
    for again in (False, True):
        retriever = E2RankRetriever(index, search_again=again)
        assert retriever.retrieve(QUERY) == await retriever.aretrieve(QUERY) == []
        assert len(retriever.rank(QUERY)) == 0
    assert recording.usage.prompts == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    index.insert_nodes(text_nodes(["law"]))
    assert len(retriever.retrieve(QUERY)) == 4


@pytest.mark.parametrize("kind", ["simple", "chroma"])
def test_an_empty_index_is_checked_once_it_is_filled(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, kind: str
) -> None:
    """Searching it was no proof of what another model puts into it."""
    index = make_index(kind, [], embed_model=MockEmbedding(embed_dim=384))
    retriever = E2RankRetriever(index, E2RankRerank(embed_model=embed_model))
    assert retriever.retrieve(QUERY) == []
    index.insert_nodes(text_nodes(["law"]))
    with pytest.raises(StoreMismatchError):
        retriever.retrieve(QUERY)


# Searching again.


async def test_search_again_brings_in_more(index: VectorStoreIndex, bold: E2RankRerank, recording: Recording) -> None:
    """Nodes that the first search missed are among the results, once each, by the same vector, without a forward."""
    once = E2RankRetriever(index, bold, fetch_k=5, similarity_top_k=5)
    twice = E2RankRetriever(index, bold, fetch_k=5, similarity_top_k=5, search_again=True)
    once.retrieve(QUERY)
    recording.calls.clear()
    ranking = twice.rank(QUERY)
    assert (recording.usage.queries, recording.usage.prompts, recording.usage.documents) == (1, 1, 0)
    new = {item.candidate.id for item in ranking.ranked if item.old_position is None}
    assert new, "this index and query must have something to miss"
    names = [item.candidate.id for item in ranking.ranked]
    assert len(names) == len(set(names)) > 5
    vectors = np.array([item.candidate.vector for item in ranking.ranked])
    assert [item.score for item in ranking.ranked] == pytest.approx([*(vectors @ ranking.query_vector)], abs=1e-5)
    assert set(ids(once.retrieve(QUERY))) == set(names) - new
    for found in (twice.retrieve(QUERY), await twice.aretrieve(QUERY)):
        assert ids(found) == names[:5]
        assert [item.text for item in found] == [PASSAGES[name] for name in names[:5]]


# What the query brings along.


async def test_a_query_with_its_own_embedding(
    index: VectorStoreIndex, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """It is what the store is searched by and no query is embedded; the bundle is not written to."""
    bundle = QueryBundle(QUERY, embedding=embed_model.get_query_embedding(MOON))
    nearest = ids(E2RankRetriever(index, fetch_k=1, similarity_top_k=1).retrieve(MOON))
    retriever = E2RankRetriever(index, fetch_k=1, similarity_top_k=1)
    recording.calls.clear()
    for found in (retriever.retrieve(bundle), await retriever.aretrieve(bundle)):
        assert ids(found) == nearest != ids(retriever.retrieve(QUERY))
    assert recording.usage.queries == 2, "those of the bare query alone"
    assert bundle == QueryBundle(QUERY, embedding=embed_model.get_query_embedding(MOON))


def test_the_same_embedding_gives_the_same_results(
    retriever: E2RankRetriever, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """Given or computed, the plain query's vector has the same part in the ranking, whatever its length."""
    expected = retriever.retrieve(QUERY)
    vector = embed_model.get_query_embedding(QUERY)
    recording.calls.clear()
    for given in (vector, [3 * value for value in vector]):
        expect_alike(retriever.retrieve(QueryBundle(QUERY, embedding=given)), expected)
    assert recording.usage.queries == 0


@pytest.mark.parametrize(
    "vector",
    [[1.0], [0.0] * 384, [float("nan")] * 384, "vector", [[1.0] * 384]],
    ids=["short", "zero", "NaN", "text", "nested"],
)
async def test_a_bad_embedding_of_the_query(retriever: E2RankRetriever, vector: Any) -> None:
    """Is a VectorError, sync and async."""
    bundle = QueryBundle(QUERY)
    bundle.embedding = vector
    with pytest.raises(VectorError, match="query_vector"):
        retriever.retrieve(bundle)
    with pytest.raises(VectorError, match="query_vector"):
        await retriever.aretrieve(bundle)


async def test_strings_to_embed_instead_of_the_query(
    index: VectorStoreIndex, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """As HyDE gives them: the store is searched by their mean; the prompt asks the query itself."""
    strings = [MOON, "How far away is the Moon?"]
    bundle = QueryBundle(QUERY, custom_embedding_strs=strings)
    mean = np.mean([embed_model.get_query_embedding(text) for text in strings], axis=0)
    retriever = E2RankRetriever(index, fetch_k=3, similarity_top_k=3)
    expected = retriever.retrieve(QueryBundle(QUERY, embedding=mean.tolist()))
    recording.calls.clear()
    for found in (retriever.retrieve(bundle), await retriever.aretrieve(bundle)):
        expect_alike(found, expected)
    assert recording.usage.queries == 2 * len(strings), "each string, and the query itself not"
    (prompt,) = {item.ids for call in recording.calls for item in call if item.role == "listwise"}
    plain = index.as_retriever(similarity_top_k=3).retrieve(QueryBundle(QUERY, custom_embedding_strs=strings))
    assert set(ids(plain)) == set(ids(expected))
    assert prompt == embed_model.encoder.listwise_input(QUERY, [item.text for item in plain])[0].ids
    assert bundle.embedding is None


def test_an_embedding_comes_before_strings(
    index: VectorStoreIndex, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """As in LlamaIndex's own retriever; no string is embedded then."""
    vector = embed_model.get_query_embedding(QUERY)
    retriever = E2RankRetriever(index)
    expected = retriever.retrieve(QUERY)
    recording.calls.clear()
    expect_alike(retriever.retrieve(QueryBundle(QUERY, embedding=vector, custom_embedding_strs=[MOON])), expected)
    assert recording.usage.queries == 0


def test_hyde_for_real(retriever: E2RankRetriever) -> None:
    """LlamaIndex's own query transform in front of an engine with this retriever."""
    hyde = HyDEQueryTransform(llm=MockLLM(), include_original=True)
    engine = TransformQueryEngine(RetrieverQueryEngine.from_args(retriever, llm=MockLLM()), query_transform=hyde)
    response = engine.query(QUERY)
    assert len(response.source_nodes) == 4
    assert response.source_nodes[0].node.metadata["topic"] == "bread"


# Index nodes that stand for something else.


def recursive(make_index: Callable[..., VectorStoreIndex], kind: str, obj: Any) -> VectorStoreIndex:
    summary = IndexNode(id_="summary", index_id="book", text="Yeast makes bread rise.", obj=obj)
    return make_index(kind, text_nodes(["law"]), objects=[summary])


@pytest.mark.parametrize("kind", ["simple", "chroma"])
async def test_an_index_node_is_entered(make_index: Callable[..., VectorStoreIndex], kind: str) -> None:
    """Found at its summary, the node behind it is returned with its score, sync and async, as by LlamaIndex's own."""
    whole = TextNode(id_="whole", text="All about sourdough.")
    index = recursive(make_index, kind, whole)
    retriever = E2RankRetriever(index)
    ranking = retriever.rank(QUERY)
    assert ranking[0].candidate.id == "summary"
    for found in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
        assert (found[0].node.node_id, found[0].text) == ("whole", whole.text)
        assert found[0].score == pytest.approx(ranking[0].score, abs=1e-5)
        assert len(found) == 4
    assert "whole" in ids(index.as_retriever(similarity_top_k=5).retrieve(QUERY))


@pytest.mark.parametrize("kind", ["simple", "chroma"])
async def test_objects_are_handed_in(make_index: Callable[..., VectorStoreIndex], kind: str) -> None:
    """By `object_map` or `objects`, also where the index was opened without them; a retriever is entered, too."""
    index = recursive(make_index, kind, None)
    inner = E2RankRetriever(make_index(kind, text_nodes(["bread"])), similarity_top_k=2)
    summary = IndexNode(id_="summary", index_id="book", text="", obj=inner)
    for retriever in (E2RankRetriever(index, object_map={"book": inner}), E2RankRetriever(index, objects=[summary])):
        for found in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
            assert ids(found)[:2] == ids(inner.retrieve(QUERY))
            assert len(found) == 5


def test_an_empty_object_map_enters_nothing(make_index: Callable[..., VectorStoreIndex]) -> None:
    """What is handed in comes before what the index knows."""
    index = recursive(make_index, "simple", TextNode(id_="whole", text="All about sourdough."))
    assert ids(E2RankRetriever(index, object_map={}).retrieve(QUERY))[0] == "summary"


# Failures.


@pytest.fixture
def failing(encoder: E2RankEncoder, recording: Recording) -> E2RankEncoder:
    """An encoder whose prompts do not go through."""
    error = EngineMemoryError("out of memory with one sequence of 9 tokens")
    return replace(encoder, custom_engine=Failing(recording, error, lambda item: item.role == "listwise"))


@pytest.mark.parametrize("again", [False, True], ids=["one search", "two searches"])
async def test_the_order_is_kept_where_asked(index: VectorStoreIndex, failing: E2RankEncoder, again: bool) -> None:
    """`on_error="keep_order"`: the first search's order and cosines, cut to k, and a note that no model reads."""
    texts = [
        item.node.get_content(MetadataMode.EMBED) for item in index.as_retriever(similarity_top_k=3).retrieve(QUERY)
    ]
    cosines = failing.encode_documents(texts) @ failing.encode_queries([QUERY])[0]
    plain = index.as_retriever(similarity_top_k=3).retrieve(QUERY)
    rerank = E2RankRerank(encoder=failing, on_error="keep_order")
    retriever = E2RankRetriever(index, rerank, similarity_top_k=3, search_again=again)
    for found in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
        assert ids(found) == ids(plain)
        assert scores(found) == pytest.approx(cosines.tolist(), abs=1e-5)
        for item in found:
            assert item.node.metadata["rerank_error"] == "EngineMemoryError"
            for mode in (MetadataMode.EMBED, MetadataMode.LLM):
                assert "rerank_error" not in item.node.get_content(metadata_mode=mode)
    assert retriever.rank(QUERY).kept_order


async def test_failures_are_raised_by_default(index: VectorStoreIndex, failing: E2RankEncoder) -> None:
    """Sync and async."""
    retriever = E2RankRetriever(index, E2RankRerank(encoder=failing))
    with pytest.raises(EngineMemoryError):
        retriever.retrieve(QUERY)
    with pytest.raises(EngineMemoryError):
        await retriever.aretrieve(QUERY)


def test_a_failure_of_the_search_is_no_order_to_keep(index: VectorStoreIndex, encoder: E2RankEncoder) -> None:
    """Without the query's vector nothing was found: an error, and not an empty result."""
    error = EngineMemoryError("out of memory with one sequence of 9 tokens")
    broken = replace(encoder, custom_engine=Failing(encoder.engine, error, lambda item: item.role == "query"))
    E2RankRetriever(index).retrieve(QUERY)
    with pytest.raises(EngineMemoryError):
        E2RankRetriever(index, E2RankRerank(encoder=broken, on_error="keep_order")).retrieve(QUERY)


# The reranker.


def test_the_model_comes_from_the_index(index: VectorStoreIndex, embed_model: E2RankEmbedding) -> None:
    """Without a reranker: one of the index's own embedding, the same encoder."""
    assert E2RankRetriever(index).reranker.encoder == embed_model.encoder


@pytest.mark.parametrize("embedding", ["mock", "none"])
def test_without_a_model_a_reranker_is_needed(
    make_index: Callable[..., VectorStoreIndex], embedding: str, rerank: E2RankRerank
) -> None:
    """An index of another embedding, or a store without one: there is no model to guess."""
    index = make_index("chroma", embed_model=MockEmbedding(embed_dim=384))
    store: Any = index if embedding == "mock" else index.vector_store
    with pytest.raises(InputError, match="reranker"):
        E2RankRetriever(store)
    with pytest.raises(StoreMismatchError):
        E2RankRetriever(store, rerank).retrieve(QUERY)


@pytest.mark.parametrize("reranker", ["embedded", 5, object()], ids=["name", "number", "object"])
def test_what_is_no_reranker(index: VectorStoreIndex, reranker: Any) -> None:
    """Is refused at construction; and so is the core's, which knows no nodes."""
    for wrong in (reranker, E2RankRerank(embed_model=index._embed_model).core):
        with pytest.raises(InputError, match="reranker"):
            E2RankRetriever(index, wrong)


def test_options_of_the_reranker(index: VectorStoreIndex, embed_model: E2RankEmbedding) -> None:
    """`top_n` is not used; a threshold holds; a score that cannot be kept is refused."""
    everything = scores(E2RankRetriever(index, similarity_top_k=ALL).retrieve(QUERY))
    narrow = E2RankRerank(embed_model=embed_model, top_n=1)
    assert len(E2RankRetriever(index, narrow, similarity_top_k=5).retrieve(QUERY)) == 5
    strict = E2RankRerank(embed_model=embed_model, score_threshold=everything[2])
    assert scores(E2RankRetriever(index, strict, similarity_top_k=ALL).retrieve(QUERY)) == everything[:3]
    for option in ({"keep_retrieval_score": True}, {"metadata_mode": MetadataMode.NONE}):
        with pytest.raises(InputError, match=next(iter(option))):
            E2RankRetriever(index, E2RankRerank(embed_model=embed_model, **option))


@pytest.mark.parametrize("mode", [MetadataMode.LLM, MetadataMode.NONE, MetadataMode.ALL])
async def test_what_the_prompt_shows(
    make_index: Callable[..., VectorStoreIndex],
    embed_model: E2RankEmbedding,
    recording: Recording,
    *,
    mode: MetadataMode,
) -> None:
    """The prompt's mode decides what the prompt lists; the stored vectors stay those of the embedded text."""
    nodes = [
        TextNode(text=text, id_=id_, metadata={"a": "alpha", "b": "beta"}, excluded_embed_metadata_keys=["a"],
                 excluded_llm_metadata_keys=["b"])
        for id_, text in list(PASSAGES.items())[:4]
    ]  # fmt: skip
    index = make_index("chroma", nodes)
    rerank = E2RankRerank(embed_model=embed_model, num_input_docs=3, prompt_metadata_mode=mode)
    retriever = E2RankRetriever(index, rerank)
    E2RankRetriever(index).retrieve(QUERY)
    given = index.as_retriever(similarity_top_k=4).retrieve(QUERY)
    expected = embed_model.encoder.listwise_input(QUERY, [item.node.get_content(mode) for item in given], 3)[0]
    recording.calls.clear()
    retriever.retrieve(QUERY)
    await retriever.aretrieve(QUERY)
    assert [item.ids for call in recording.calls for item in call if item.role == "listwise"] == [expected.ids] * 2
    assert recording.usage.documents == 0


# In an engine.


async def test_in_a_query_engine(retriever: E2RankRetriever) -> None:
    """Sync and async: the sources are the retriever's results, with their scores."""
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    expected = retriever.retrieve(QUERY)
    for response in (engine.query(QUERY), await engine.aquery(QUERY)):
        expect_alike(response.source_nodes, expected)
        assert PASSAGES[ids(expected)[0]] in str(response), "the mock model repeats what it was shown"


def test_the_callbacks_of_the_index_hear_of_it(make_index: Callable[..., VectorStoreIndex]) -> None:
    """As with the index's own retriever, handlers registered there see retrieval and reranking; or given ones."""
    heard, own = LlamaDebugHandler(print_trace_on_end=False), LlamaDebugHandler(print_trace_on_end=False)
    index = make_index("simple", callback_manager=CallbackManager([heard]))
    E2RankRetriever(index).retrieve(QUERY)
    for kind in (CBEventType.RETRIEVE, CBEventType.RERANKING):
        assert len(heard.get_event_pairs(kind)) == 1
    E2RankRetriever(index, callback_manager=CallbackManager([own])).retrieve(QUERY)
    assert len(own.get_event_pairs(CBEventType.RERANKING)) == len(heard.get_event_pairs(CBEventType.RERANKING)) == 1


def test_it_is_a_retriever_for_an_index_made_later(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding
) -> None:
    """Nodes inserted and deleted after it was made are found and not found."""
    index = make_index("chroma", text_nodes(["law"]))
    retriever = E2RankRetriever(index, similarity_top_k=ALL)
    assert len(retriever.retrieve(QUERY)) == 4
    index.insert_nodes(text_nodes(["bread"]))
    assert len(retriever.retrieve(QUERY)) == 8
    index.vector_store.delete_nodes(["bread-1"])
    found = retriever.retrieve(QUERY)
    assert len(found) == 7
    assert "bread-1" not in ids(found)
    ranked = E2RankRerank(embed_model=embed_model, vector_store=index, top_n=None).rank(found_nodes(["bread"]), QUERY)
    assert {item.candidate.id: item.vector_source for item in ranked}["bread-1"] == "computed"


def test_restrictions_that_are_no_lists(index: VectorStoreIndex) -> None:
    """A lone string would be read letter by letter, and find nothing."""
    for name in ("node_ids", "doc_ids"):
        with pytest.raises(InputError, match=f"{name}: expected a list of ids"):
            E2RankRetriever(index, **{name: "law-1"})


def test_no_source_documents_give_no_nodes(index: VectorStoreIndex) -> None:
    """An empty restriction is one: nothing may be found."""
    assert E2RankRetriever(index, doc_ids=[]).retrieve(QUERY) == []
    assert E2RankRetriever(index, node_ids=[]).retrieve(QUERY) == []


@pytest.mark.parametrize("value", ["no", 1, None])
def test_search_again_is_yes_or_no(index: VectorStoreIndex, value: Any) -> None:
    """A word is not taken for its truth."""
    with pytest.raises(InputError, match="search_again"):
        E2RankRetriever(index, search_again=value)


def test_what_is_no_index_is_said_first(embed_model: E2RankEmbedding) -> None:
    """Rather than that it has no model."""
    with pytest.raises(InputError, match=r"expected a VectorStoreIndex.*found str"):
        E2RankRetriever("bikes")
    with pytest.raises(ValueError, match=r"expected a VectorStoreIndex.*found str"):
        E2RankRerank(embed_model=embed_model, vector_store="bikes")
