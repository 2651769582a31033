"""E2RankRetriever: what reaches the store, how much is returned, what it costs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from e2rank_integrations import Searcher
from e2rank_integrations.errors import InputError, StoreError, StoreMismatchError
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
from e2rank_integrations.stores.chroma import ChromaStore
from tests.langchain.helpers import documents, expect_alike, ids, scores, snapshot
from tests.support.passages import PASSAGES, QUERIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_chroma import Chroma

    from e2rank_integrations import E2RankEncoder
    from tests.support.engines import Recording

QUERY = QUERIES[0]
ALL = {"k": len(PASSAGES)}


@pytest.fixture
def retriever(store: Chroma) -> E2RankRetriever:
    return E2RankRetriever(vectorstore=store)


async def test_a_query_is_one_query_and_one_prompt(retriever: E2RankRetriever, recording: Recording) -> None:
    """After the first use of the index, no document is embedded, sync or async."""
    first = retriever.invoke(QUERY)
    recording.calls.clear()
    for found in (retriever.invoke(QUERY), await retriever.ainvoke(QUERY)):
        expect_alike(found, first)
    assert (recording.usage.queries, recording.usage.prompts, recording.usage.documents) == (2, 2, 0)


def test_results_are_the_cores(retriever: E2RankRetriever, store: Chroma) -> None:
    """It translates only: ids, scores and order are those of the framework-free search."""
    searcher = Searcher(ChromaStore(store._collection), retriever.reranker.core)
    expected = searcher.search(QUERY, 4)
    found = retriever.invoke(QUERY)
    assert ids(found) == [item.candidate.id for item in expected]
    assert scores(found) == [item.score for item in expected]
    assert {type(score) for score in scores(found)} == {float}
    assert [item.score for item in retriever.rank(QUERY)] == scores(found)


def test_documents_come_back_whole(retriever: E2RankRetriever) -> None:
    """With their ids and metadata, which hold nothing of ours but the score."""
    found = {document.id: document for document in retriever.invoke(QUERY, **ALL)}
    assert len(found) == len(PASSAGES)
    for document in documents():
        assert found[document.id].page_content == document.page_content
        metadata = dict(found[document.id].metadata)
        assert metadata.pop("relevance_score") is not None
        assert metadata == document.metadata


async def test_search_arguments_reach_the_store(store: Chroma) -> None:
    """At construction and per call, sync and async: filters on metadata and text, and both together."""
    law = {"topic": "law"}
    at_construction = E2RankRetriever(vectorstore=store, search_kwargs={"filter": law}, k=24)
    per_call = E2RankRetriever(vectorstore=store, k=24)
    expected = {"law-1", "law-2", "law-3", "law-4"}
    for found in (
        at_construction.invoke(QUERY),
        await at_construction.ainvoke(QUERY),
        per_call.invoke(QUERY, filter=law),
        await per_call.ainvoke(QUERY, filter=law),
    ):
        assert set(ids(found)) == expected
    assert ids(per_call.invoke(QUERY, where_document={"$contains": "Danube"})) == ["river-4"]
    assert set(ids(at_construction.invoke(QUERY, where_document={"$contains": "patent"}))) == {"law-3"}
    assert ids(per_call.invoke(QUERY, filter={"$and": [law, {"number": 2}]})) == ["law-2"]
    assert {item.candidate.id for item in per_call.rank(QUERY, filter=law)} == expected


def test_arguments_of_a_call_come_first(store: Chroma) -> None:
    """They replace those of the construction for that call, and what was given is not written to."""
    given: dict[str, Any] = {"filter": {"topic": "law"}, "fetch_k": 2}
    before = copy.deepcopy(given)
    retriever = E2RankRetriever(vectorstore=store, search_kwargs=given, k=1)
    assert retriever.invoke(QUERY, filter={"topic": "music"})[0].metadata["topic"] == "music"
    assert retriever.invoke(QUERY)[0].metadata["topic"] == "law"
    assert given == retriever.search_kwargs == before


@pytest.mark.parametrize("again", [False, True], ids=["one search", "two searches"])
def test_how_many_candidates_are_taken(store: Chroma, again: bool) -> None:
    """`fetch_k` of the field, of `search_kwargs` and of the call, in rising order of weight; never less than k."""
    for kept, options, expected in (
        ({}, {}, 6), ({}, {"fetch_k": 7}, 7), ({"fetch_k": 8}, {}, 8), ({"fetch_k": 8}, {"fetch_k": 9}, 9),
        ({}, {"k": 11}, 11),
    ):  # fmt: skip
        retriever = E2RankRetriever(vectorstore=store, fetch_k=6, search_kwargs=kept, search_again=again)
        first = [item for item in retriever.rank(QUERY, **options).ranked if item.old_position is not None]
        assert len(first) == expected


def test_k_among_the_search_arguments_counts(store: Chroma) -> None:
    """As in LangChain's `as_retriever(search_kwargs={"k": …})`: it is in force, or refused at construction."""
    try:
        retriever = E2RankRetriever(vectorstore=store, search_kwargs={"k": 2})
    except (ValidationError, InputError) as error:
        assert "k" in str(error)  # noqa: PT017 - either is fine
        return
    assert len(retriever.invoke(QUERY)) == 2
    assert len(retriever.invoke(QUERY, k=3)) == 3


@pytest.mark.parametrize(
    "options",
    [{"bogus": 1}, {"filter": "law"}, {"filter": {"topic": {"$near": 1}}}, {"n_results": 1}, {"where_document": 5},
     {"score_threshold": 0.5}, {"search_type": "mmr"}],
    ids=str,
)  # fmt: skip
async def test_unknown_arguments_are_refused(retriever: E2RankRetriever, options: dict[str, Any]) -> None:
    """A typed error, sync, async and from the construction; nothing is dropped in silence."""
    with pytest.raises(StoreError):
        retriever.invoke(QUERY, **options)
    with pytest.raises(StoreError):
        await retriever.ainvoke(QUERY, **options)
    with pytest.raises(StoreError):
        E2RankRetriever(vectorstore=retriever.vectorstore, search_kwargs=options).invoke(QUERY)


def test_two_names_of_one_filter_are_not_both_taken(retriever: E2RankRetriever) -> None:
    """`where` is what Chroma calls `filter`: given both, neither may be dropped in silence."""
    law, first = {"topic": "law"}, {"number": 1}
    try:
        found = retriever.invoke(QUERY, filter=law, where=first)
    except (StoreError, InputError):
        return
    assert ids(found) == ["law-1"]


def test_an_empty_filter_filters_nothing(retriever: E2RankRetriever) -> None:
    """None is no filter; an empty one is none, too, or refused, as Chroma does."""
    assert len(retriever.invoke(QUERY, filter=None, **ALL)) == len(PASSAGES)
    with pytest.raises(StoreError):
        retriever.invoke(QUERY, filter={})


@pytest.mark.parametrize("name", ["k", "fetch_k"])
@pytest.mark.parametrize("value", [0, -1, "3", 1.5], ids=repr)
async def test_bad_counts_are_refused(store: Chroma, name: str, value: object) -> None:
    """Per call with an InputError that names the argument; at construction, what is no count at all."""
    retriever = E2RankRetriever(vectorstore=store)
    with pytest.raises(InputError, match=name):
        retriever.invoke(QUERY, **{name: value})
    with pytest.raises(InputError, match=name):
        await retriever.ainvoke(QUERY, **{name: value})
    if value != "3":  # pydantic reads it as 3
        with pytest.raises(ValidationError, match=name):
            E2RankRetriever(vectorstore=store, **{name: value})


@pytest.mark.parametrize("change", ["assigned", "copied"])
def test_a_changed_option_counts(store: Chroma, change: str) -> None:
    """An option set on the retriever, or on a copy of it, is in force or refused, never shown and ignored."""
    retriever = E2RankRetriever(vectorstore=store, fetch_k=10)
    if change == "copied":
        retriever = retriever.model_copy(update={"fetch_k": 5})
    else:
        try:
            retriever.fetch_k = 5
        except ValidationError:  # a frozen component
            return
    assert len(retriever.rank(QUERY).ranked) == retriever.fetch_k == 5


def test_the_model_comes_from_the_store(store: Chroma, embeddings: E2RankEmbeddings) -> None:
    """Without a reranker: one of the store's own embeddings, the same encoder."""
    assert E2RankRetriever(vectorstore=store).reranker.encoder == embeddings.encoder


def test_a_store_of_other_embeddings_needs_a_reranker(embeddings: E2RankEmbeddings) -> None:
    """There is no model to guess; with a reranker of another model, the index is refused."""
    other = InMemoryVectorStore(DeterministicFakeEmbedding(size=384))
    other.add_documents(documents(["law"]))
    with pytest.raises(ValidationError, match="reranker"):
        E2RankRetriever(vectorstore=other)
    with pytest.raises(StoreMismatchError):
        E2RankRetriever(vectorstore=other, reranker=E2RankReranker(embeddings=embeddings)).invoke(QUERY)


@pytest.mark.parametrize("store", [None, "chroma", 5, [1, 2]], ids=repr)
def test_what_is_no_store_is_refused(embeddings: E2RankEmbeddings, store: object) -> None:
    """At construction, naming what was found."""
    with pytest.raises(ValidationError, match=type(store).__name__):
        E2RankRetriever(vectorstore=store, reranker=E2RankReranker(embeddings=embeddings))


def test_a_native_collection_is_a_store(store: Chroma, embeddings: E2RankEmbeddings, recording: Recording) -> None:
    """Handed in as it is, with `filter` or Chroma's own `where`."""
    reranker = E2RankReranker(embeddings=embeddings)
    retriever = E2RankRetriever(vectorstore=store._collection, reranker=reranker)
    expected = E2RankRetriever(vectorstore=store).invoke(QUERY, filter={"topic": "law"})
    recording.calls.clear()
    assert snapshot(retriever.invoke(QUERY, filter={"topic": "law"})) == snapshot(expected)
    assert snapshot(retriever.invoke(QUERY, where={"topic": "law"})) == snapshot(expected)
    assert recording.usage.documents == 0


def test_search_again_brings_in_more(make_store: Callable[..., Chroma], qwen_encoder: E2RankEncoder) -> None:
    """Documents that the first search missed are among the results, once each, scored by the same vector."""
    embeddings = E2RankEmbeddings(encoder=qwen_encoder)
    store = make_store(embedding_function=embeddings, collection_metadata={"hnsw:space": "cosine"})
    once = E2RankRetriever(vectorstore=store, fetch_k=5, k=5)
    twice = E2RankRetriever(vectorstore=store, fetch_k=5, k=5, search_again=True)
    ranking = twice.rank(QUERY)
    new = [item for item in ranking.ranked if item.old_position is None]
    assert new, "this collection and query must have something to miss"
    names = [item.candidate.id for item in ranking.ranked]
    assert len(names) == len(set(names)) > 5
    assert ranking.query_vector is not None
    vectors = [np.asarray(item.candidate.vector) for item in ranking.ranked]
    assert [item.score for item in ranking.ranked] == pytest.approx([*(vectors @ ranking.query_vector)], abs=1e-5)
    assert ids(twice.invoke(QUERY)) == names[:5]
    assert {*ids(once.invoke(QUERY))} == {name for name in names if name not in {item.candidate.id for item in new}}
    topics = {document.metadata["topic"] for document in twice.invoke(QUERY, filter={"topic": "river"}, fetch_k=2)}
    assert topics == {"river"}


def test_top_n_of_the_reranker_is_not_used(store: Chroma, embeddings: E2RankEmbeddings) -> None:
    """k says how many documents are returned."""
    retriever = E2RankRetriever(vectorstore=store, reranker=E2RankReranker(embeddings=embeddings, top_n=1), k=5)
    assert len(retriever.invoke(QUERY)) == 5


def test_a_threshold_of_the_reranker_holds(store: Chroma, embeddings: E2RankEmbeddings) -> None:
    """Documents below it are not returned, whatever k."""
    everything = scores(E2RankRetriever(vectorstore=store).invoke(QUERY, **ALL))
    reranker = E2RankReranker(embeddings=embeddings, score_threshold=everything[2])
    assert scores(E2RankRetriever(vectorstore=store, reranker=reranker, k=24).invoke(QUERY)) == everything[:3]


def test_a_collection_that_is_gone(store: Chroma) -> None:
    """Deleted while the retriever stands: an error of this package's family."""
    retriever = E2RankRetriever(vectorstore=store)
    retriever.invoke(QUERY)
    store.delete_collection()
    with pytest.raises(StoreError):
        retriever.invoke(QUERY)


def test_a_collection_that_was_reset(store: Chroma) -> None:
    """`reset_collection` gives the store a new collection, and the retriever made before searches that one."""
    retriever = E2RankRetriever(vectorstore=store)
    retriever.invoke(QUERY)
    store.reset_collection()
    store.add_documents(documents(["law"]))
    assert {document.metadata["topic"] for document in retriever.invoke(QUERY)} == {"law"}
