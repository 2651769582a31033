"""Chroma as LangChain's users have it: in memory, on disk, as a server, and the fingerprint kept with it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from langchain_chroma import Chroma

from e2rank_integrations.errors import StoreError, StoreMismatchError
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever, with_text_hash
from e2rank_integrations.stores import FINGERPRINT_KEY, TEXT_HASH_KEY, text_hash
from e2rank_integrations.stores.chroma.opening import close_client
from tests.langchain.helpers import documents, ids, scores, snapshot
from tests.support.chroma import disk_client, unique_name
from tests.support.passages import PASSAGES, QUERIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chromadb.api import ClientAPI
    from langchain_core.documents import Document

    from e2rank_integrations import E2RankEncoder
    from tests.support.engines import Recording

QUERY = QUERIES[0]
HALF = ["bread", "orbit", "law"]


@pytest.fixture
def other(other_qwen: E2RankEncoder) -> E2RankEmbeddings:
    """Embeddings of the tiny Qwen3's architecture and width with other weights."""
    return E2RankEmbeddings(encoder=other_qwen)


@pytest.fixture
def qwen(qwen_encoder: E2RankEncoder) -> E2RankEmbeddings:
    return E2RankEmbeddings(encoder=qwen_encoder)


def recomputed(embeddings: E2RankEmbeddings, found: list[Document]) -> list[Document]:
    """The same documents in the store's order, reranked without any stored vector."""
    return list(E2RankReranker(embeddings=embeddings, top_n=None).compress_documents(found, QUERY))


def test_no_document_is_embedded_twice(client: ClientAPI, embeddings: E2RankEmbeddings, recording: Recording) -> None:
    """Indexed and read through LangChain's store, in each kind of Chroma: no forward, and the recomputed order."""
    store = Chroma(client=client, collection_name=unique_name(), embedding_function=embeddings)
    store.add_documents(documents(HALF))
    retriever = E2RankRetriever(vectorstore=store, k=12)
    retriever.invoke(QUERY)
    recording.calls.clear()
    found = retriever.invoke(QUERY)
    assert recording.usage.documents == 0
    expected = recomputed(embeddings, store.similarity_search(QUERY, k=12))
    assert ids(found) == ids(expected)
    assert scores(found) == pytest.approx(scores(expected), abs=1e-5)
    assert [document.page_content for document in found] == [document.page_content for document in expected]


def test_a_server_by_its_address(server_port: int, embeddings: E2RankEmbeddings, recording: Recording) -> None:
    """The store makes its own client from host and port."""
    store = Chroma(unique_name(), embeddings, host="127.0.0.1", port=server_port)
    try:
        store.add_documents(documents(["law"]))
        reranker = E2RankReranker(embeddings=embeddings, vectorstore=store)
        reranker.compress_documents(documents(["law"]), QUERY)
        recording.calls.clear()
        assert {item.vector_source for item in reranker.rank(documents(["law"]), QUERY)} == {"store"}
        assert recording.usage.documents == 0
    finally:
        close_client(store._client)


def test_a_folder_is_opened_again(tmp_path: Path, embeddings: E2RankEmbeddings, recording: Recording) -> None:
    """An index with its fingerprint, read by a later store on the same folder: no document is embedded at all."""
    name = unique_name()
    with disk_client(tmp_path) as client:
        store = Chroma(name, embeddings, client=client, collection_metadata=embeddings.collection_metadata())
        store.add_documents(documents(HALF))
        expected = E2RankRetriever(vectorstore=store).invoke(QUERY)
    recording.calls.clear()
    with disk_client(tmp_path) as client:
        found = E2RankRetriever(vectorstore=Chroma(name, embeddings, client=client)).invoke(QUERY)
        assert snapshot(found) == snapshot(expected)
    assert recording.usage.documents == 0


def test_the_other_model_is_refused_by_fingerprint(
    client: ClientAPI, qwen: E2RankEmbeddings, other: E2RankEmbeddings
) -> None:
    """Of the same width, made with `collection_metadata`, opened later with another model and its own metadata."""
    name = unique_name()
    Chroma(name, qwen, client=client, collection_metadata=qwen.collection_metadata()).add_documents(documents(["law"]))
    later = Chroma(name, other, client=client, collection_metadata=other.collection_metadata())
    with pytest.raises(StoreMismatchError, match="weights"):
        E2RankRetriever(vectorstore=later).invoke(QUERY)
    with pytest.raises(StoreMismatchError, match="weights"):
        E2RankReranker(embeddings=other, vectorstore=later).compress_documents(documents(["law"]), QUERY)
    assert len(E2RankRetriever(vectorstore=Chroma(name, qwen, client=client)).invoke(QUERY)) == 4


async def test_the_other_model_is_refused_by_spot_check(
    make_store: Callable[..., Chroma], qwen: E2RankEmbeddings, other: E2RankEmbeddings
) -> None:
    """Without a fingerprint, too, by retriever and reranker, sync and async; even if metadata is named on reopening."""
    store = make_store(documents(["law"]), embedding_function=qwen)
    later = Chroma(store._collection.name, other, client=store._client, collection_metadata=other.collection_metadata())
    retriever = E2RankRetriever(vectorstore=later)
    reranker = E2RankReranker(embeddings=other, vectorstore=later)
    for _ in range(2):
        with pytest.raises(StoreMismatchError):
            retriever.invoke(QUERY)
        with pytest.raises(StoreMismatchError):
            await retriever.ainvoke(QUERY)
        with pytest.raises(StoreMismatchError):
            reranker.compress_documents(documents(["law"]), QUERY)
        with pytest.raises(StoreMismatchError):
            await reranker.acompress_documents(documents(["law"]), QUERY)


def test_saving_a_fingerprint_later(client: ClientAPI, embeddings: E2RankEmbeddings, recording: Recording) -> None:
    """It keeps the other metadata and the index's distance, and from then on nothing is embedded for a check."""
    name, mine = unique_name(), {"hnsw:space": "cosine", "team": "search"}
    store = Chroma(name, embeddings, client=client, collection_metadata=mine)
    store.add_documents(documents(["law"]))
    E2RankRetriever(vectorstore=store).save_fingerprint()
    recording.calls.clear()
    later = Chroma(name, embeddings, client=client, collection_metadata=mine)
    assert later._collection.metadata[FINGERPRINT_KEY] == embeddings.encoder.fingerprint.to_json()
    assert later._collection.metadata["team"] == "search"
    assert later._collection.configuration_json["hnsw"]["space"] == "cosine"
    assert len(E2RankRetriever(vectorstore=later).invoke(QUERY)) == 4
    assert recording.usage.documents == 0


def test_saving_a_false_fingerprint_is_refused(
    make_store: Callable[..., Chroma], qwen: E2RankEmbeddings, other: E2RankEmbeddings
) -> None:
    """The vectors are compared first."""
    store = make_store(documents(["law"]), embedding_function=qwen)
    retriever = E2RankRetriever(vectorstore=store, reranker=E2RankReranker(embeddings=other))
    with pytest.raises(StoreMismatchError):
        retriever.save_fingerprint()
    assert FINGERPRINT_KEY not in (store._collection.metadata or {})


def test_an_unreadable_fingerprint(make_store: Callable[..., Chroma]) -> None:
    """Is said to be one."""
    store = make_store(documents(["law"]), collection_metadata={FINGERPRINT_KEY: "v0"})
    with pytest.raises(StoreError, match=FINGERPRINT_KEY):
        E2RankRetriever(vectorstore=store).invoke(QUERY)


@pytest.mark.usefixtures("unchecked")
def test_reranker_and_retriever_share_one_check(
    make_store: Callable[..., Chroma], embeddings: E2RankEmbeddings, recording: Recording
) -> None:
    """The index is spot-checked once in a process, whichever component comes first."""
    store = make_store(documents(HALF))
    recording.calls.clear()
    E2RankReranker(embeddings=embeddings, vectorstore=store).compress_documents(documents(["law"]), QUERY)
    assert 1 <= recording.usage.documents <= 5
    recording.calls.clear()
    E2RankRetriever(vectorstore=store).invoke(QUERY)
    E2RankReranker(embeddings=embeddings, vectorstore=store._collection).compress_documents(documents(["law"]), QUERY)
    assert recording.usage.documents == 0


def test_an_empty_collection_is_checked_later(
    make_store: Callable[..., Chroma], qwen: E2RankEmbeddings, other: E2RankEmbeddings
) -> None:
    """Made before anything is indexed, a retriever gives nothing, and later finds out what was put in."""
    store = make_store([], embedding_function=other)
    retriever = E2RankRetriever(vectorstore=store, reranker=E2RankReranker(embeddings=qwen))
    assert retriever.invoke(QUERY) == []
    store.add_documents(documents(["law"]))
    with pytest.raises(StoreMismatchError):
        retriever.invoke(QUERY)


def test_text_hashes_are_added_to_copies() -> None:
    """`with_text_hash` leaves the given documents as they are; the copies have the hash beside their metadata."""
    found = documents(["law"])
    before = snapshot(found)
    hashed = with_text_hash(found)
    assert snapshot(found) == before
    for document, original in zip(hashed, found, strict=True):
        assert document.metadata == {**original.metadata, TEXT_HASH_KEY: text_hash(original.page_content)}
        assert (document.id, document.page_content) == (original.id, original.page_content)


def test_a_stale_vector_is_not_used(
    make_store: Callable[..., Chroma],
    embeddings: E2RankEmbeddings,
    recording: Recording,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A text changed in the index without its vector is embedded anew, with one warning, in the recomputed order."""
    metadata = embeddings.collection_metadata()
    store = make_store(with_text_hash(documents(HALF)), collection_metadata=metadata)
    store._collection.update(
        ids=["law-1"], documents=["Yeast makes bread rise."], embeddings=[embeddings.embed_query("A contract.")]
    )
    recording.calls.clear()
    caplog.clear()
    found = E2RankRetriever(vectorstore=store, k=12).invoke(QUERY)
    assert recording.usage.documents == 1
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "Yeast" not in warnings[0].getMessage()
    assert found[0].id == "law-1", "its new text answers the query"
    expected = recomputed(embeddings, store.similarity_search(QUERY, k=12))
    assert ids(found) == ids(expected)
    assert scores(found) == pytest.approx(scores(expected), abs=1e-5)


def test_updating_a_document_keeps_its_vector_fresh(make_store: Callable[..., Chroma], recording: Recording) -> None:
    """`add_documents` under a known id replaces text, hash and vector: nothing is stale."""
    store = make_store(with_text_hash(documents(["law"])))
    (new,) = with_text_hash([documents(["law"])[0].model_copy(update={"page_content": "A new law."})])
    store.add_documents([new])
    E2RankRetriever(vectorstore=store).invoke(QUERY)
    recording.calls.clear()
    found = E2RankRetriever(vectorstore=store).invoke(QUERY)
    assert recording.usage.documents == 0
    assert "A new law." in {document.page_content for document in found}


def test_records_of_the_native_client(store: Chroma, embeddings: E2RankEmbeddings) -> None:
    """Records without text, metadata or both, added beside LangChain's, come back as documents."""
    vector = [embeddings.embed_query(QUERY)]
    store._collection.add(ids=["bare"], embeddings=vector)
    store._collection.add(
        ids=["text"], documents=["Bread rises."], embeddings=embeddings.embed_documents(["Bread rises."])
    )
    found = {document.id: document for document in E2RankRetriever(vectorstore=store, k=50).invoke(QUERY)}
    assert len(found) == len(PASSAGES) + 2
    assert (found["bare"].page_content, {*found["bare"].metadata}) == ("", {"relevance_score"})
    assert (found["text"].page_content, {*found["text"].metadata}) == ("Bread rises.", {"relevance_score"})
