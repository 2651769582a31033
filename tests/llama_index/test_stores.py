"""Stored vectors out of every store: Chroma of all kinds and by all hands, LlamaIndex's own, and those of others."""

from __future__ import annotations

import gc
import logging
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_chroma import Chroma
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery, VectorStoreQueryResult
from llama_index.vector_stores.chroma import ChromaVectorStore
from pydantic import PrivateAttr

from e2rank_integrations.errors import InputError, StoreError, StoreMismatchError
from e2rank_integrations.langchain import E2RankEmbeddings
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever, with_text_hash
from e2rank_integrations.llama_index.stores import reader
from e2rank_integrations.stores import FINGERPRINT_KEY
from e2rank_integrations.stores.chroma import ChromaStore
from tests.langchain.helpers import documents
from tests.llama_index.conftest import chroma_store
from tests.llama_index.helpers import expect_alike, found_nodes, ids, scores, text_nodes
from tests.support.chroma import disk_client, new_collection, server_client, unique_name
from tests.support.passages import IDS, METADATAS, PASSAGES, QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection
    from llama_index.core.schema import BaseNode

    from e2rank_integrations import E2RankEncoder, Ranking
    from e2rank_integrations.values import Matrix
    from tests.support.engines import Recording

QUERY = QUERIES[0]
HALF = ("bread", "orbit", "law")


class Remote(BasePydanticVectorStore):
    """As LlamaIndex's store of Qdrant: a search gives nodes without vectors, `get_nodes` gives them with."""

    stores_text: bool = True
    gives: str = "get_nodes"
    """Where vectors are to be had: `get_nodes`, `query` (as Pinecone, Weaviate), or nowhere (as Elasticsearch)."""

    _kept: dict[str, BaseNode] = PrivateAttr(default_factory=dict)

    @property
    def client(self) -> Any:
        return self

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
        self._kept.update({node.node_id: node.model_copy(deep=True) for node in nodes})
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        raise NotImplementedError

    def get_nodes(self, node_ids: list[str] | None = None, filters: Any = None) -> list[BaseNode]:
        if self.gives != "get_nodes":
            raise NotImplementedError
        return [self._kept[id_] for id_ in reversed(self._kept) if id_ in set(node_ids or ())]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        assert all(type(value) is float for value in query.query_embedding), "clients send JSON, which has no numpy"
        cosines = {id_: float(np.dot(node.embedding, query.query_embedding)) for id_, node in self._kept.items()}
        best = sorted(cosines, key=lambda id_: -cosines[id_])[: query.similarity_top_k]
        shown = {"embedding": None} if self.gives != "query" else {}
        return VectorStoreQueryResult(
            nodes=[self._kept[id_].model_copy(update=shown) for id_ in best],
            ids=best,
            similarities=[cosines[id_] for id_ in best],
        )

    def vectors(self, wanted: list[str]) -> dict[str, list[float]]:
        """A `vector_lookup`."""
        return {id_: self._kept[id_].embedding for id_ in wanted if id_ in self._kept}


def index_in(
    store: BasePydanticVectorStore, embed_model: E2RankEmbedding, nodes: Sequence[BaseNode]
) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex(list(nodes), storage_context=context, embed_model=embed_model)


PLACES = (
    "chroma index",
    "chroma store",
    "chroma collection",
    "simple index",
    "simple store",
    "other index",
    "other store",
)
"""What can be handed in as a place of vectors."""

SEARCHED = tuple(place for place in PLACES if place != "simple store")
"""What can be searched, too: a `SimpleVectorStore` alone has no texts."""


@pytest.fixture
def make_place(memory: ClientAPI) -> Callable[..., Any]:
    """Makes a place of vectors that a given embedding made, of half the passages."""

    def make(place: str, embed_model: E2RankEmbedding, nodes: Sequence[BaseNode] | None = None) -> Any:
        kind, part = place.split()
        nodes = text_nodes(HALF) if nodes is None else nodes
        if kind == "simple":
            index = VectorStoreIndex(list(nodes), embed_model=embed_model)
        else:
            index = index_in(chroma_store(memory) if kind == "chroma" else Remote(), embed_model, nodes)
        return {
            "index": index, "store": index.vector_store, "collection": getattr(index.vector_store, "client", None),
        }[part]  # fmt: skip

    return make


@pytest.fixture
def other(embedded_encoder: E2RankEncoder) -> E2RankEmbedding:
    """Another embedding of the same width: the embedded model's weights, read out otherwise."""
    profile = replace(embedded_encoder.profile, pooling="cls")
    return E2RankEmbedding(encoder=replace(embedded_encoder, profile=profile))


def searched(embed_model: E2RankEmbedding, topics: Sequence[str] = ()) -> list[NodeWithScore]:
    """The nodes in the order in which an exact search finds them, without a store."""
    found = found_nodes(topics)
    vectors = np.array(embed_model.get_text_embedding_batch([item.text for item in found]))
    cosines = vectors @ np.array(embed_model.get_query_embedding(QUERY))
    return [found[place] for place in np.argsort(-cosines, kind="stable")]


def sources(ranking: Ranking) -> set[str | None]:
    return {item.vector_source for item in ranking}


@pytest.mark.parametrize("place", PLACES)
async def test_no_node_is_embedded_again(
    make_place: Callable[..., Any], embed_model: E2RankEmbedding, rerank: E2RankRerank, recording: Recording, place: str
) -> None:
    """As the reranker's `vector_store`, sync and async: a prompt, no document, and the recomputed result."""
    found = found_nodes(HALF)
    reading = E2RankRerank(embed_model=embed_model, vector_store=make_place(place, embed_model), top_n=None)
    expected = rerank.postprocess_nodes(found, query_str=QUERY)
    reading.postprocess_nodes(found, query_str=QUERY)
    recording.calls.clear()
    results = [
        reading.postprocess_nodes(found, query_str=QUERY),
        await reading.apostprocess_nodes(found, query_str=QUERY),
    ]
    assert (recording.usage.documents, recording.usage.prompts) == (0, 2)
    for some in results:
        expect_alike(some, expected)
    assert sources(reading.rank(found, QUERY)) == {"store"}


@pytest.mark.parametrize("place", SEARCHED)
async def test_the_retriever_embeds_no_node(
    make_place: Callable[..., Any], embed_model: E2RankEmbedding, rerank: E2RankRerank, recording: Recording, place: str
) -> None:
    """Searched and reranked, sync and async: one query, one prompt, and the result that recomputing gives."""
    retriever = E2RankRetriever(make_place(place, embed_model), rerank, similarity_top_k=12)
    expected = rerank.postprocess_nodes(searched(embed_model, HALF), query_str=QUERY)
    retriever.retrieve(QUERY)
    recording.calls.clear()
    for some in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
        assert ids(some) == ids(expected)
        assert scores(some) == pytest.approx(scores(expected), abs=1e-5)
        assert {item.text for item in some} == {PASSAGES[id_] for id_ in ids(expected)}
    assert (recording.usage.queries, recording.usage.prompts, recording.usage.documents) == (2, 2, 0)
    assert sources(retriever.rank(QUERY)) == {"store"}


@pytest.mark.parametrize("place", PLACES)
async def test_vectors_of_another_model_are_refused(
    make_place: Callable[..., Any], embed_model: E2RankEmbedding, other: E2RankEmbedding, place: str
) -> None:
    """Same width or not, from every place, each time, sync and async; no text is in the message."""
    for made_by in (other, MockEmbedding(embed_dim=64)):
        foreign = make_place(place, made_by)
        rerank = E2RankRerank(embed_model=embed_model, vector_store=foreign)
        for _ in range(2):
            with pytest.raises(StoreMismatchError) as caught:
                rerank.postprocess_nodes(found_nodes(HALF), query_str=QUERY)
            assert not any(text[:12] in str(caught.value) for text in PASSAGES.values())
        with pytest.raises(StoreMismatchError):
            await rerank.apostprocess_nodes(found_nodes(HALF), query_str=QUERY)
        if place == "simple store" or (place.startswith("other") and made_by is not other):
            continue  # not searched; or the search itself fails, as below
        retriever = E2RankRetriever(foreign, rerank)
        with pytest.raises(StoreMismatchError):
            retriever.retrieve(QUERY)
        with pytest.raises(StoreMismatchError):
            await retriever.aretrieve(QUERY)


def test_a_search_of_another_width(make_place: Callable[..., Any], embed_model: E2RankEmbedding) -> None:
    """A store that cannot list its nodes is asked with a vector of the wrong width: its failure is a StoreError."""
    store = make_place("other store", MockEmbedding(embed_dim=64))
    with pytest.raises(StoreError, match=r"Remote\.query"):
        E2RankRetriever(store, E2RankRerank(embed_model=embed_model)).retrieve(QUERY)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("place", SEARCHED)
def test_reranker_and_retriever_share_one_check(
    make_place: Callable[..., Any], embed_model: E2RankEmbedding, recording: Recording, place: str
) -> None:
    """A place is spot-checked once in a process, whichever component comes first, and whoever opens it again."""
    store = make_place(place, embed_model)
    recording.calls.clear()
    E2RankRerank(embed_model=embed_model, vector_store=store).rank(found_nodes(["law"]), QUERY)
    assert 1 <= recording.usage.documents <= 5
    recording.calls.clear()
    E2RankRerank(embed_model=embed_model, vector_store=store).rank(found_nodes(["bread"]), QUERY)
    E2RankRetriever(store, E2RankRerank(embed_model=embed_model)).retrieve(QUERY)
    assert recording.usage.documents == 0


# Chroma, of all kinds and written by all hands.


def test_each_kind_of_chroma(client: ClientAPI, embed_model: E2RankEmbedding, recording: Recording) -> None:
    """In memory, on disk and as a server, handed in as LlamaIndex's store, its index and the native collection."""
    index = index_in(chroma_store(client, **embed_model.collection_metadata()), embed_model, text_nodes(HALF))
    given = searched(embed_model, HALF)
    expected = E2RankRerank(embed_model=embed_model, top_n=None).postprocess_nodes(given, query_str=QUERY)
    recording.calls.clear()
    for store in (index, index.vector_store, index.vector_store.client):
        rerank = E2RankRerank(embed_model=embed_model, vector_store=store, top_n=None)
        expect_alike(rerank.postprocess_nodes(given, query_str=QUERY), expected)
        found = E2RankRetriever(store, rerank, similarity_top_k=12).retrieve(QUERY)
        assert ids(found) == ids(expected)
        assert scores(found) == pytest.approx(scores(expected), abs=1e-5)
    assert recording.usage.documents == 0, "the fingerprint is there, so nothing is checked either"


def test_a_collection_that_was_closed_and_opened(
    tmp_path: Path, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """The usual second start of a program: the index is made of the store alone, with no docstore."""
    name = unique_name()
    with disk_client(tmp_path) as first:
        made = first.create_collection(name, metadata=embed_model.collection_metadata(), embedding_function=None)
        expected = E2RankRetriever(
            index_in(ChromaVectorStore(chroma_collection=made), embed_model, text_nodes(HALF))
        ).retrieve(QUERY)
    recording.calls.clear()
    with disk_client(tmp_path) as second:
        opened = ChromaVectorStore(chroma_collection=second.get_collection(name))
        index = VectorStoreIndex.from_vector_store(opened, embed_model=embed_model)
        found = E2RankRetriever(index).retrieve(QUERY)
        expect_alike(found, expected)
        rerank = E2RankRerank(embed_model=embed_model, vector_store=index)
        rerank.postprocess_nodes(found, query_str=QUERY)
    assert recording.usage.documents == 0


@pytest.fixture(params=["plain", "with metadata", "LangChain"])
def foreign_hand(
    request: pytest.FixtureRequest, memory: ClientAPI, encoder: E2RankEncoder, passage_vectors: Matrix
) -> Collection:
    """A collection that others than LlamaIndex wrote, with this model's vectors of the texts alone."""
    if request.param == "LangChain":
        store = Chroma(unique_name(), E2RankEmbeddings(encoder=encoder), client=memory)
        store.add_documents(documents())
        return store._collection
    metadatas = METADATAS if request.param == "with metadata" else None
    return new_collection(memory, PASSAGES, passage_vectors, metadatas=metadatas)


async def test_a_collection_of_another_hand(
    foreign_hand: Collection, rerank: E2RankRerank, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """Its records come back as nodes with their ids, texts and metadata; their metadata were not embedded."""
    retriever = E2RankRetriever(foreign_hand, rerank, similarity_top_k=24)
    expected = rerank.postprocess_nodes(searched(embed_model), query_str=QUERY)
    retriever.retrieve(QUERY)
    recording.calls.clear()
    for found in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
        assert ids(found) == ids(expected)
        assert scores(found) == pytest.approx(scores(expected), abs=1e-5)
        for item in found:
            assert item.node.get_content(metadata_mode=MetadataMode.EMBED) == PASSAGES[item.node.node_id]
    assert recording.usage.documents == 0
    metadata = [item.node.metadata for item in sorted(found, key=lambda item: IDS.index(item.node.node_id))]
    assert metadata in ([{}] * 24, METADATAS)


def test_a_collection_of_another_hand_for_the_reranker(
    foreign_hand: Collection, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """Vectors are used for nodes whose text is the stored one."""
    rerank = E2RankRerank(embed_model=embed_model, vector_store=foreign_hand, top_n=None)
    rerank.rank(found_nodes(), QUERY)
    recording.calls.clear()
    assert sources(rerank.rank(found_nodes(), QUERY)) == {"store"}
    assert recording.usage.documents == 0


def test_llama_indexs_reading_of_another_hand(
    foreign_hand: Collection, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """LlamaIndex shows a foreign record's metadata in the text; the bare text, which was embedded, is taken back."""
    store = ChromaVectorStore(chroma_collection=foreign_hand)
    found = VectorStoreIndex.from_vector_store(store, embed_model=embed_model).as_retriever().retrieve(QUERY)
    rerank = E2RankRerank(embed_model=embed_model, vector_store=store, metadata_mode=MetadataMode.NONE)
    assert sources(rerank.rank(found, QUERY)) == {"store"}
    shown = E2RankRerank(embed_model=embed_model, vector_store=store).rank(found, QUERY)
    assert sources(shown) == {"store"}
    assert [item.candidate.text for item in shown] == [item.candidate.node.get_content() for item in shown]


def test_vectors_are_matched_by_id(memory: ClientAPI, embed_model: E2RankEmbedding, rerank: E2RankRerank) -> None:
    """Chroma answers in its own order and leaves out what it lacks; each node gets the vector of its own id."""
    kept = [node for node in reversed(text_nodes()) if node.node_id != "bread-2"]
    index = index_in(chroma_store(memory), embed_model, kept)
    found = found_nodes(["law", "bread", "river"])
    found = [*found[7:], *found[:7]]
    answered = index.vector_store.client.get(ids=ids(found))["ids"]
    assert answered != [id_ for id_ in ids(found) if id_ != "bread-2"], "if it kept the order, this tested nothing"
    reading = E2RankRerank(embed_model=embed_model, vector_store=index, top_n=None)
    expect_alike(reading.postprocess_nodes(found, query_str=QUERY), rerank.postprocess_nodes(found, query_str=QUERY))
    by_id = {item.candidate.id: item.vector_source for item in reading.rank(found, QUERY)}
    assert [id_ for id_, source in by_id.items() if source != "store"] == ["bread-2"]


def test_records_that_lack_something(memory: ClientAPI, rerank: E2RankRerank, passage_vectors: Matrix) -> None:
    """Rows without text or metadata, added by the native client beside whole ones, come back as nodes."""
    collection = new_collection(memory, PASSAGES, passage_vectors, metadatas=METADATAS)
    collection.add(ids=["bare"], embeddings=passage_vectors[:1])
    collection.add(ids=["no-metadata"], documents=[TEXTS[0]], embeddings=passage_vectors[:1])
    found = {
        item.node.node_id: item for item in E2RankRetriever(collection, rerank, similarity_top_k=50).retrieve(QUERY)
    }
    assert len(found) == 26
    assert (found["bare"].text, found["bare"].node.metadata) == ("", {})
    assert (found["no-metadata"].text, found["no-metadata"].node.metadata) == (TEXTS[0], {})


@pytest.mark.parametrize("content", ["null", "5", '"text"', "{broken", "", '{"embedding": "x"}'])
def test_a_node_that_cannot_be_read_back(memory: ClientAPI, rerank: E2RankRerank, content: str) -> None:
    """Is a StoreError that names the record and shows neither its text nor its content."""
    collection = memory.create_collection(unique_name(), embedding_function=None)
    collection.add(
        ids=["odd"],
        documents=["secret words"],
        embeddings=rerank.encoder.encode_documents(["secret words"]),
        metadatas=[{"_node_content": content, "_node_type": "TextNode"}],
    )
    with pytest.raises(StoreError, match="'odd'") as caught:
        E2RankRetriever(collection, rerank).retrieve(QUERY)
    assert "secret" not in str(caught.value)


async def test_a_deleted_collection(memory: ClientAPI, embed_model: E2RankEmbedding) -> None:
    """Deleted while its components stand: a StoreError, sync and async."""
    index = index_in(chroma_store(memory), embed_model, text_nodes(["law"]))
    retriever, rerank = E2RankRetriever(index), E2RankRerank(embed_model=embed_model, vector_store=index)
    retriever.retrieve(QUERY)
    memory.delete_collection(index.vector_store.client.name)
    with pytest.raises(StoreError):
        retriever.retrieve(QUERY)
    with pytest.raises(StoreError):
        await retriever.aretrieve(QUERY)
    with pytest.raises(StoreError):
        rerank.rank(found_nodes(["law"]), QUERY)
    with pytest.raises(StoreError):
        await rerank.apostprocess_nodes(found_nodes(["law"]), query_str=QUERY)


def test_a_server_that_is_gone(server_port: int, embed_model: E2RankEmbedding, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that fails is a StoreError."""
    with server_client(server_port) as client:
        index = index_in(chroma_store(client), embed_model, text_nodes(["law"]))
        retriever = E2RankRetriever(index)
        assert len(retriever.retrieve(QUERY)) == 4
        monkeypatch.setattr(client._server, "_api_url", "http://127.0.0.1:9/api/v2")
        with pytest.raises(StoreError):
            retriever.retrieve(QUERY)


# Fingerprints.


@pytest.mark.usefixtures("unchecked")
def test_a_fingerprint_spares_the_check(memory: ClientAPI, embed_model: E2RankEmbedding, recording: Recording) -> None:
    """`collection_metadata` for a new collection: no document is ever embedded to read it."""
    index = index_in(chroma_store(memory, **embed_model.collection_metadata()), embed_model, text_nodes(["law"]))
    recording.calls.clear()
    E2RankRetriever(index).retrieve(QUERY)
    E2RankRerank(embed_model=embed_model, vector_store=index).rank(found_nodes(["law"]), QUERY)
    assert recording.usage.documents == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("place", ["chroma index", "chroma store", "chroma collection"])
def test_saving_a_fingerprint(
    make_place: Callable[..., Any], memory: ClientAPI, embed_model: E2RankEmbedding, recording: Recording, place: str
) -> None:
    """After a check, into the collection's metadata, where whoever opens it finds it."""
    store = make_place(place, embed_model)
    retriever = E2RankRetriever(store, E2RankRerank(embed_model=embed_model))
    recording.calls.clear()
    retriever.save_fingerprint()
    assert 1 <= recording.usage.documents <= 5
    collection = reader(store)._collection
    assert memory.get_collection(collection.name).metadata[FINGERPRINT_KEY] == embed_model.encoder.fingerprint.to_json()
    assert len(retriever.retrieve(QUERY)) == 4


def test_no_false_fingerprint_is_saved(
    make_place: Callable[..., Any], embed_model: E2RankEmbedding, other: E2RankEmbedding
) -> None:
    """Another model's collection is left as it is."""
    index = make_place("chroma index", other)
    with pytest.raises(StoreMismatchError):
        E2RankRetriever(index, E2RankRerank(embed_model=embed_model)).save_fingerprint()
    assert FINGERPRINT_KEY not in index.vector_store.client.metadata


@pytest.mark.parametrize("place", ["simple index", "other index"])
def test_a_fingerprint_has_no_place(make_place: Callable[..., Any], embed_model: E2RankEmbedding, place: str) -> None:
    """LlamaIndex's own stores keep none, which is said."""
    index = make_place(place, embed_model)
    with pytest.raises(StoreError, match=type(index.vector_store).__name__):
        E2RankRetriever(index).save_fingerprint()


def test_an_unreadable_fingerprint(memory: ClientAPI, embed_model: E2RankEmbedding) -> None:
    """Is said to be one, by retriever and reranker."""
    index = index_in(chroma_store(memory, **{FINGERPRINT_KEY: "v0"}), embed_model, text_nodes(["law"]))
    with pytest.raises(StoreError, match=FINGERPRINT_KEY):
        E2RankRetriever(index).retrieve(QUERY)
    with pytest.raises(StoreError, match=FINGERPRINT_KEY):
        E2RankRerank(embed_model=embed_model, vector_store=index).rank(found_nodes(["law"]), QUERY)


# Stale vectors.


@pytest.mark.parametrize("place", ["chroma index", "simple index", "other index"])
def test_a_stale_vector_is_not_used(
    make_place: Callable[..., Any],
    embed_model: E2RankEmbedding,
    recording: Recording,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    """A text changed in the index without its vector: computed, with one warning that holds no text."""
    index = make_place(place, embed_model, with_text_hash(text_nodes(HALF)))
    retriever = E2RankRetriever(index, similarity_top_k=12)
    retriever.retrieve(QUERY)
    new = "Yeast makes bread rise."
    if place.startswith("chroma"):
        old = index.vector_store.client.get(ids=["law-1"], include=["embeddings"])["embeddings"]
        index.vector_store.client.update(ids=["law-1"], documents=[new], embeddings=old)
    elif place.startswith("simple"):
        node = index.docstore.get_node("law-1")
        node.set_content(new)
        index.docstore.add_documents([node])
    else:
        index.vector_store._kept["law-1"].set_content(new)
    recording.calls.clear()
    caplog.clear()
    ranking = retriever.rank(QUERY)
    assert [item.candidate.id for item in ranking if item.vector_source == "computed"] == ["law-1"]
    assert recording.usage.documents == 1
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "Yeast" not in warnings[0]
    assert ranking[0].candidate.id == "law-1", "its new text answers the query"
    found = [item.candidate.item for item in sorted(ranking, key=lambda item: item.old_position)]
    rerank = E2RankRerank(embed_model=embed_model, vector_store=index, top_n=None)
    caplog.clear()
    assert [item.candidate.id for item in rerank.rank(found, QUERY)] == [item.candidate.id for item in ranking]
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert {item.candidate.id for item in rerank.rank(found, QUERY) if item.vector_source == "computed"} == {"law-1"}


# LlamaIndex's own store, and those of others.


def test_a_simple_store_that_was_saved(tmp_path: Path, embed_model: E2RankEmbedding, recording: Recording) -> None:
    """Persisted and loaded again, with its docstore: the same result and no forward for a document."""
    index = VectorStoreIndex(text_nodes(HALF), embed_model=embed_model)
    expected = E2RankRetriever(index).retrieve(QUERY)
    index.storage_context.persist(str(tmp_path))
    loaded = load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path)), embed_model=embed_model)
    retriever = E2RankRetriever(loaded)
    retriever.retrieve(QUERY)
    recording.calls.clear()
    expect_alike(retriever.retrieve(QUERY), expected)
    assert recording.usage.documents == 0


def test_a_docstore_that_lacks_a_node(embed_model: E2RankEmbedding) -> None:
    """Vectors whose nodes are gone: an error that names the node, rather than fewer results in silence."""
    index = VectorStoreIndex(text_nodes(["law"]), embed_model=embed_model)
    retriever = E2RankRetriever(index)
    retriever.retrieve(QUERY)
    index.docstore.delete_document("law-2")
    with pytest.raises(StoreError, match="'law-2'"):
        retriever.retrieve(QUERY)


def test_a_node_that_the_docstore_lacks_is_computed(embed_model: E2RankEmbedding) -> None:
    """For the reranker it is a node like any that is not stored."""
    index = VectorStoreIndex(text_nodes(["law"]), embed_model=embed_model)
    index.docstore.delete_document("law-2")
    ranking = E2RankRerank(embed_model=embed_model, vector_store=index).rank(found_nodes(["law"]), QUERY)
    assert {item.candidate.id: item.vector_source for item in ranking} == {
        "law-1": "store", "law-2": "computed", "law-3": "store", "law-4": "store",
    }  # fmt: skip


def test_a_simple_store_alone_cannot_be_searched(embed_model: E2RankEmbedding) -> None:
    """It has no texts; what to give instead is said at construction."""
    store = VectorStoreIndex(text_nodes(["law"]), embed_model=embed_model).vector_store
    with pytest.raises(InputError, match="VectorStoreIndex"):
        E2RankRetriever(store, E2RankRerank(embed_model=embed_model))


@pytest.mark.parametrize("gives", ["query", "nothing"])
async def test_where_a_store_shows_its_vectors(
    embed_model: E2RankEmbedding, rerank: E2RankRerank, recording: Recording, gives: str
) -> None:
    """Some give them with the search and cannot look up, some not at all: then they are computed."""
    index = index_in(Remote(gives=gives), embed_model, text_nodes(HALF))
    expected = rerank.postprocess_nodes(searched(embed_model, HALF), query_str=QUERY)
    retriever = E2RankRetriever(index, similarity_top_k=12)
    retriever.retrieve(QUERY)
    recording.calls.clear()
    for found in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
        assert ids(found) == ids(expected)
        assert scores(found) == pytest.approx(scores(expected), abs=1e-5)
    assert recording.usage.documents == (0 if gives == "query" else 24)
    assert sources(retriever.rank(QUERY)) == {"store" if gives == "query" else "computed"}


async def test_a_lookup_for_a_store_that_shows_none(
    embed_model: E2RankEmbedding, rerank: E2RankRerank, recording: Recording
) -> None:
    """`vector_lookup` of the retriever: no document is embedded after the first search, which is checked."""
    store = Remote(gives="nothing")
    index = index_in(store, embed_model, text_nodes(HALF))
    expected = rerank.postprocess_nodes(searched(embed_model, HALF), query_str=QUERY)
    retriever = E2RankRetriever(index, similarity_top_k=12, vector_lookup=store.vectors)
    recording.calls.clear()
    retriever.retrieve(QUERY)
    assert 1 <= recording.usage.documents <= 5
    recording.calls.clear()
    for found in (retriever.retrieve(QUERY), await retriever.aretrieve(QUERY)):
        assert ids(found) == ids(expected)
    assert recording.usage.documents == 0


def test_a_lookup_that_lacks_some(embed_model: E2RankEmbedding, rerank: E2RankRerank) -> None:
    """What it does not know is computed; no node is lost."""
    store = Remote(gives="nothing")
    index = index_in(store, embed_model, text_nodes(HALF))

    def lookup(asked: list[str]) -> dict[str, list[float]]:
        return {id_: vector for id_, vector in store.vectors(asked).items() if not id_.startswith("law")}

    ranking = E2RankRetriever(index, similarity_top_k=12, vector_lookup=lookup).rank(QUERY)
    assert {str(item.candidate.id)[:3] for item in ranking if item.vector_source == "computed"} == {"law"}
    assert [item.candidate.id for item in ranking] == ids(
        rerank.postprocess_nodes(searched(embed_model, HALF), query_str=QUERY)
    )


@pytest.mark.parametrize("answer", [None, [[0.0] * 384]], ids=["None", "list"])
def test_a_retrievers_lookup_that_gives_no_mapping(embed_model: E2RankEmbedding, answer: object) -> None:
    """Is named in a typed error."""
    index = index_in(Remote(gives="nothing"), embed_model, text_nodes(["law"]))
    with pytest.raises(InputError, match="vector_lookup"):
        E2RankRetriever(index, vector_lookup=lambda _: answer).retrieve(QUERY)


def test_foreign_vectors_of_a_retrievers_lookup(embed_model: E2RankEmbedding, other: E2RankEmbedding) -> None:
    """Each search is refused, by the first nodes that it finds, since such a store cannot list its nodes."""
    index = index_in(Remote(gives="nothing"), embed_model, text_nodes(["law"]))
    foreign = Remote()
    foreign.add(other(text_nodes(["law"])))
    retriever = E2RankRetriever(index, vector_lookup=foreign.vectors)
    for _ in range(2):
        with pytest.raises(StoreMismatchError):
            retriever.retrieve(QUERY)


def test_a_good_lookup_vouches_for_no_other(embed_model: E2RankEmbedding, other: E2RankEmbedding) -> None:
    """Of two callables for one store, each is checked."""
    store = Remote(gives="nothing")
    index = index_in(store, embed_model, text_nodes(["law"]))
    assert len(E2RankRetriever(index, vector_lookup=store.vectors).retrieve(QUERY)) == 4
    foreign = Remote()
    foreign.add(other(text_nodes(["law"])))
    with pytest.raises(StoreMismatchError):
        E2RankRetriever(index, vector_lookup=foreign.vectors).retrieve(QUERY)


@pytest.mark.parametrize("fails", ["query", "get_nodes"])
def test_a_store_that_fails(embed_model: E2RankEmbedding, fails: str) -> None:
    """Whatever it raises comes as a StoreError with the cause and the store's name."""

    def failing(*_: Any, **__: Any) -> Any:
        raise ConnectionError("refused")

    class Failing(Remote):
        pass

    setattr(Failing, fails, failing)
    failing.__name__ = fails
    index = index_in(Failing(), embed_model, text_nodes(["law"]))
    with pytest.raises(StoreError, match=rf"Failing\.{fails}.*ConnectionError") as caught:
        E2RankRetriever(index).retrieve(QUERY)
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_results_are_not_the_stores_own_objects(embed_model: E2RankEmbedding) -> None:
    """What a handler writes into a result's metadata does not reach the store's vectors or another result."""
    index = index_in(Remote(), embed_model, text_nodes(["law"]))
    before = {id_: node.model_dump() for id_, node in index.vector_store._kept.items()}
    E2RankRetriever(index, search_again=True).retrieve(QUERY)
    E2RankRerank(embed_model=embed_model, vector_store=index, keep_retrieval_score=True).postprocess_nodes(
        found_nodes(["law"]), query_str=QUERY
    )
    assert {id_: node.model_dump() for id_, node in index.vector_store._kept.items()} == before


def test_readers_of_one_store_are_one_index(make_place: Callable[..., Any], embed_model: E2RankEmbedding) -> None:
    """What was checked is remembered by the store, not by the object that reads it, and not across stores."""
    places = [make_place(place, embed_model) for place in ("chroma index", "simple index", "other index")]
    identities = [reader(one).identity for one in places]
    assert [reader(one).identity for one in places] == identities
    assert len(set(identities)) == 3
    assert reader(places[0].vector_store.client).identity == identities[0]
    assert reader(places[2].vector_store).identity == identities[2]


def test_a_store_is_not_kept_alive(embed_model: E2RankEmbedding) -> None:
    """A service that makes an index for each request does not keep them all: a check holds no nodes."""
    index = VectorStoreIndex(text_nodes(["law"]), embed_model=embed_model)
    E2RankRetriever(index).retrieve(QUERY)
    E2RankRerank(embed_model=embed_model, vector_store=index.vector_store).rank(found_nodes(["law"]), QUERY)
    alive = weakref.ref(index.vector_store)
    del index
    gc.collect()
    assert alive() is None


def test_a_store_of_this_package(
    memory: ClientAPI, embed_model: E2RankEmbedding, rerank: E2RankRerank, passage_vectors: Matrix
) -> None:
    """Whatever has the core's protocol is a place of vectors, and can be searched."""
    store = ChromaStore(new_collection(memory, PASSAGES, passage_vectors, metadatas=METADATAS))
    reading = E2RankRerank(encoder=rerank.encoder, vector_store=store, top_n=None)
    assert sources(reading.rank(found_nodes(), QUERY)) == {"store"}
    found = E2RankRetriever(store, rerank, similarity_top_k=24).retrieve(QUERY)
    assert ids(found) == ids(rerank.postprocess_nodes(searched(embed_model), query_str=QUERY))
    assert {item.node.node_id: item.node.metadata for item in found} == dict(zip(IDS, METADATAS, strict=True))


@pytest.mark.parametrize("store", ["chroma", 5, [1, 2], {}, TextNode()], ids=lambda store: type(store).__name__)
def test_what_is_no_store_is_refused(embed_model: E2RankEmbedding, store: object) -> None:
    """By the retriever at construction, by the reranker at the latest when it is asked, naming what was found."""
    with pytest.raises(InputError, match=type(store).__name__):
        E2RankRetriever(store, E2RankRerank(embed_model=embed_model))
    with pytest.raises(ValueError, match=type(store).__name__):  # pydantic's, or an InputError
        E2RankRerank(embed_model=embed_model, vector_store=store).rank(found_nodes(["law"]), QUERY)
