"""LangChain's other vector stores: vectors are read where they can be, and computed where not."""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore

from e2rank_integrations import Candidate
from e2rank_integrations.errors import E2RankError, InputError, StoreError, StoreMismatchError
from e2rank_integrations.langchain import E2RankReranker, E2RankRetriever, with_text_hash
from e2rank_integrations.langchain.stores import reader
from tests.langchain.helpers import FlatStore, documents, expect_alike, ids
from tests.support.passages import QUERIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_chroma import Chroma

    from e2rank_integrations.langchain import E2RankEmbeddings
    from e2rank_integrations.values import Vector
    from tests.support.engines import Recording

QUERY = QUERIES[0]
TOPICS = ["bread", "orbit", "law"]


@pytest.fixture
def in_memory(embeddings: E2RankEmbeddings) -> InMemoryVectorStore:
    store = InMemoryVectorStore(embeddings)
    store.add_documents(documents(TOPICS))
    return store


@pytest.fixture
def flat(embeddings: E2RankEmbeddings) -> FlatStore:
    store = FlatStore(embeddings)
    store.add_documents(documents(TOPICS))
    return store


def expected(store: Any, reranker: E2RankReranker) -> list[Document]:
    """The store's own search, reranked without stored vectors."""
    return list(reranker.compress_documents(store.similarity_search(QUERY, k=12), QUERY))


async def test_vectors_in_memory_are_used(
    in_memory: InMemoryVectorStore, reranker: E2RankReranker, recording: Recording
) -> None:
    """LangChain's own store gives its vectors: no document is embedded, sync or async, by retriever or reranker."""
    retriever = E2RankRetriever(vectorstore=in_memory, k=12)
    with_store = E2RankReranker(embeddings=in_memory.embeddings, vectorstore=in_memory, top_n=None)
    retriever.invoke(QUERY)
    recording.calls.clear()
    found = [
        retriever.invoke(QUERY),
        await retriever.ainvoke(QUERY),
        with_store.compress_documents(in_memory.similarity_search(QUERY, k=12), QUERY),
    ]
    assert recording.usage.documents == 0
    wanted = expected(in_memory, reranker)
    for some in found:
        expect_alike(some, wanted)


def test_a_compressor_takes_vectors_of_a_callable(
    flat: FlatStore, reranker: E2RankReranker, recording: Recording
) -> None:
    """As the retriever does: by id, checked once, and no document is embedded after that."""
    found = flat.similarity_search(QUERY, k=12)
    compressor = E2RankReranker(embeddings=reranker.embeddings, vectorstore=flat, vector_lookup=flat.vectors)
    compressor.compress_documents(found, QUERY)
    recording.calls.clear()
    assert {item.vector_source for item in compressor.rank(found, QUERY)} == {"store"}
    assert recording.usage.documents == 0


def test_the_store_in_memory_is_not_written_to(in_memory: InMemoryVectorStore) -> None:
    """It hands out its own metadata objects; the scores go into copies."""
    before = {id_: dict(record["metadata"]) for id_, record in in_memory.store.items()}
    E2RankRetriever(vectorstore=in_memory, search_again=True).invoke(QUERY)
    assert {id_: record["metadata"] for id_, record in in_memory.store.items()} == before


def test_filters_in_memory(in_memory: InMemoryVectorStore) -> None:
    """That store's filter is a function; it holds for both searches."""
    retriever = E2RankRetriever(vectorstore=in_memory, search_again=True, fetch_k=2)
    found = retriever.invoke(QUERY, filter=lambda document: document.metadata["topic"] == "law")
    assert {document.metadata["topic"] for document in found} == {"law"}


@pytest.mark.parametrize(
    "options", [{"filter": {"topic": "law"}}, {"where": {"topic": "law"}}, {"where_document": {"$contains": "law"}}],
    ids=str,
)  # fmt: skip
def test_arguments_of_another_store_are_refused_in_memory(
    in_memory: InMemoryVectorStore, options: dict[str, Any]
) -> None:
    """A filter that this store does not understand is an error, and is not dropped: that would show too much."""
    with pytest.raises(E2RankError):
        E2RankRetriever(vectorstore=in_memory).invoke(QUERY, **options)


def test_foreign_vectors_in_memory_are_refused(embeddings: E2RankEmbeddings) -> None:
    """The spot check reads that store's records as it does Chroma's."""
    foreign = InMemoryVectorStore(DeterministicFakeEmbedding(size=384))
    foreign.add_documents(documents(TOPICS))
    reranker = E2RankReranker(embeddings=embeddings, vectorstore=foreign)
    with pytest.raises(StoreMismatchError):
        E2RankRetriever(vectorstore=foreign, reranker=reranker).invoke(QUERY)
    with pytest.raises(StoreMismatchError):
        reranker.compress_documents(documents(["law"]), QUERY)


def test_stale_vectors_in_memory(embeddings: E2RankEmbeddings, recording: Recording) -> None:
    """Text hashes count in any store."""
    store = InMemoryVectorStore(embeddings)
    store.add_documents(with_text_hash(documents(TOPICS)))
    store.store["law-1"]["text"] = "Bread rises by yeast."
    retriever = E2RankRetriever(vectorstore=store, k=12)
    retriever.invoke(QUERY)
    recording.calls.clear()
    found = retriever.rank(QUERY)
    assert recording.usage.documents == 1
    assert [item.candidate.id for item in found if item.vector_source == "computed"] == ["law-1"]


async def test_a_store_without_a_way_to_its_vectors(
    flat: FlatStore, reranker: E2RankReranker, recording: Recording
) -> None:
    """Its documents are embedded again, and all are ranked."""
    retriever = E2RankRetriever(vectorstore=flat, k=12)
    recording.calls.clear()
    found = [retriever.invoke(QUERY), await retriever.ainvoke(QUERY)]
    assert recording.usage.documents == 2 * 12
    wanted = expected(flat, reranker)
    for some in found:
        expect_alike(some, wanted)
    assert {item.vector_source for item in retriever.rank(QUERY)} == {"computed"}
    filtered = retriever.invoke(QUERY, filter={"topic": "law"})
    assert {document.metadata["topic"] for document in filtered} == {"law"}


def test_a_lookup_gives_the_vectors(flat: FlatStore, reranker: E2RankReranker, recording: Recording) -> None:
    """With `vector_lookup` no document is embedded after the first search, which is checked."""
    retriever = E2RankRetriever(vectorstore=flat, vector_lookup=flat.vectors, k=12)
    retriever.invoke(QUERY)
    recording.calls.clear()
    found = retriever.invoke(QUERY)
    assert recording.usage.documents == 0
    expect_alike(found, expected(flat, reranker))


def test_a_lookup_may_lack_some(flat: FlatStore, reranker: E2RankReranker) -> None:
    """What it does not know is computed; no document is lost."""

    def lookup(asked: list[str]) -> Mapping[str, list[float]]:
        return {id_: vector for id_, vector in flat.vectors(asked).items() if not id_.startswith("law")}

    ranking = E2RankRetriever(vectorstore=flat, vector_lookup=lookup, k=12).rank(QUERY)
    assert {item.candidate.id for item in ranking if item.vector_source == "computed"} == {
        "law-1", "law-2", "law-3", "law-4",
    }  # fmt: skip
    assert [item.candidate.id for item in ranking] == ids(expected(flat, reranker))


def test_foreign_vectors_of_a_lookup_are_found_out(flat: FlatStore, embeddings: E2RankEmbeddings) -> None:
    """By the first search, since such a store cannot list its records."""
    other = DeterministicFakeEmbedding(size=384)

    def lookup(asked: list[str]) -> Mapping[str, list[float]]:
        return {id_: other.embed_query(id_) for id_ in asked}

    retriever = E2RankRetriever(vectorstore=flat, vector_lookup=lookup)
    for _ in range(2):
        with pytest.raises(StoreMismatchError):
            retriever.invoke(QUERY)


@pytest.mark.parametrize("broken", [None, [[0.0] * 384]], ids=["None", "list"])
def test_a_lookup_that_gives_no_mapping(flat: FlatStore, broken: object) -> None:
    """Is named in a typed error."""
    with pytest.raises(E2RankError, match="vector_lookup"):
        E2RankRetriever(vectorstore=flat, vector_lookup=lambda _: broken).invoke(QUERY)


@pytest.mark.parametrize("lookup", [5, "vectors", {"law-1": [1.0]}], ids=str)
def test_a_lookup_that_cannot_be_called(flat: FlatStore, lookup: object) -> None:
    """Is refused at construction."""
    with pytest.raises(ValueError, match="vector_lookup"):
        E2RankRetriever(vectorstore=flat, vector_lookup=lookup)


def test_a_fingerprint_has_no_place(flat: FlatStore, in_memory: InMemoryVectorStore) -> None:
    """Saving one in a store that keeps no metadata is an error, not a silence."""
    for store in (flat, in_memory):
        with pytest.raises(StoreError, match=type(store).__name__):
            E2RankRetriever(vectorstore=store).save_fingerprint()


class Bare(FlatStore):
    """A store that takes no further arguments, cannot look ids up, and gives its documents none."""

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4) -> list[Document]:
        found = super().similarity_search_by_vector(embedding, k)
        return [document.model_copy(update={"id": None}) for document in found]

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        raise NotImplementedError


@pytest.fixture
def bare(embeddings: E2RankEmbeddings) -> Bare:
    store = Bare(embeddings)
    store.add_documents(documents(TOPICS))
    return store


def test_documents_without_ids_are_all_ranked(bare: Bare) -> None:
    """And told apart by their texts when searching again."""
    retriever = E2RankRetriever(vectorstore=bare, fetch_k=4, k=12, search_again=True)
    found = [document.page_content for document in retriever.invoke(QUERY)]
    assert len(found) == len(set(found)) == 12
    assert all(document.id is None for document in retriever.invoke(QUERY))


def test_a_store_that_refuses_arguments(bare: Bare) -> None:
    """Its TypeError comes as a StoreError."""
    with pytest.raises(StoreError):
        E2RankRetriever(vectorstore=bare).invoke(QUERY, filter={"topic": "law"})


def test_a_store_that_cannot_look_up(bare: Bare, embeddings: E2RankEmbeddings) -> None:
    """As the reranker's `vectorstore` it is of no use, which is a typed error or costs the forwards."""
    reranker = E2RankReranker(embeddings=embeddings, vectorstore=bare, top_n=None)
    try:
        ranked = reranker.compress_documents(documents(["law"]), QUERY)
    except (StoreError, InputError):
        return
    assert len(ranked) == 4


def test_a_store_that_fails(flat: FlatStore, embeddings: E2RankEmbeddings) -> None:
    """A failing search of a LangChain store comes as a StoreError with the cause."""

    class Failing(FlatStore):
        def similarity_search_by_vector(self, *args: Any, **kwargs: Any) -> list[Document]:
            raise ConnectionError("refused")

    failing = Failing(embeddings)
    with pytest.raises(StoreError) as caught:
        E2RankRetriever(vectorstore=failing).invoke(QUERY)
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_a_store_of_the_users_own(flat: FlatStore, embeddings: E2RankEmbeddings) -> None:
    """Whatever has the core's protocol is a store, too."""

    class Own:
        identity = "own"
        fingerprint = None

        def save_fingerprint(self, fingerprint: str) -> None:
            raise StoreError("no place")

        def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
            return [Candidate("Yeast.", id="1"), Candidate("Moon.", id="2")][:k]

        def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
            return {}

        def sample(self) -> list[Candidate]:
            return []

    reranker = E2RankReranker(embeddings=embeddings)
    assert ids(E2RankRetriever(vectorstore=Own(), reranker=reranker).invoke(QUERY)) == ["1", "2"]


def test_readers_of_one_store_are_one_index(in_memory: InMemoryVectorStore, flat: FlatStore, store: Chroma) -> None:
    """What was checked is remembered by the store, not by the object that reads it, and not across stores."""
    identities = [reader(one).identity for one in (in_memory, flat, store)]
    assert [reader(one).identity for one in (in_memory, flat, store)] == identities
    assert len(set(identities)) == 3


def test_a_store_that_compares_by_value(embeddings: E2RankEmbeddings) -> None:
    """A store that is a dataclass or a pydantic model has no hash; it is told from others all the same."""

    class ByValue(FlatStore):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return isinstance(other, ByValue)

    good, foreign = ByValue(embeddings), ByValue(DeterministicFakeEmbedding(size=384))
    for one in (good, foreign):
        one.add_documents(documents(TOPICS))
    reranker = E2RankReranker(embeddings=embeddings)
    for one, error in ((good, None), (foreign, StoreMismatchError)):
        retriever = E2RankRetriever(vectorstore=one, reranker=reranker, vector_lookup=one.vectors)
        with pytest.raises(error) if error else nullcontext():
            retriever.invoke(QUERY)


def test_a_store_is_not_kept_alive(embeddings: E2RankEmbeddings) -> None:
    """A service that makes a store for each request does not keep them all: a check holds no documents."""
    store = InMemoryVectorStore(embeddings)
    store.add_documents(documents(["law"]))
    E2RankRetriever(vectorstore=store).invoke(QUERY)
    alive = weakref.ref(store)
    del store
    gc.collect()
    assert alive() is None
