"""Chroma through its native client: what is read, how it is aligned, what is refused."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2rank_integrations import Candidate, Reranker, Searcher
from e2rank_integrations.errors import StoreError
from e2rank_integrations.stores.chroma import ChromaStore
from e2rank_integrations.stores.chroma import store as reading
from tests.support.chroma import chroma_server, disk_client, new_collection, server_client, unique_name
from tests.support.passages import IDS, METADATAS, PASSAGES, QUERIES, TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from e2rank_integrations import E2RankEncoder, Ranking
    from e2rank_integrations.values import Matrix
    from tests.support.engines import Recording


@pytest.fixture
def collection(client: ClientAPI, passage_vectors: Matrix) -> Collection:
    """The passages in each kind of Chroma."""
    return new_collection(client, PASSAGES, passage_vectors, metadatas=METADATAS)


@pytest.fixture
def in_memory(memory: ClientAPI, passage_vectors: Matrix) -> Collection:
    """The passages in memory alone."""
    return new_collection(memory, PASSAGES, passage_vectors, metadatas=METADATAS)


def ids(ranking: Ranking) -> list[str | None]:
    return [item.candidate.id for item in ranking]


def recomputed(encoder: E2RankEncoder, query: str, found: list[Candidate]) -> Ranking:
    """The same candidates reranked without any stored vector."""
    return Reranker(encoder).rank(query, [Candidate(item.text, id=item.id) for item in found])


def test_reranking_a_search_embeds_no_document(
    collection: Collection, encoder: E2RankEncoder, recording: Recording
) -> None:
    """In memory, on disk and on a server: one search and one prompt, no document forward, the recomputed order."""
    searcher = Searcher(ChromaStore(collection), Reranker(encoder), fetch_k=len(PASSAGES))
    searcher.search(QUERIES[0])  # the spot check of an index without a fingerprint embeds a few documents, once
    recording.calls.clear()
    rankings = {query: searcher.search(query, k=len(PASSAGES)) for query in QUERIES}
    assert recording.usage.documents == 0
    assert (recording.usage.queries, recording.usage.prompts) == (len(QUERIES), len(QUERIES))
    for query, ranking in rankings.items():
        in_order = sorted(ranking, key=lambda item: item.old_position or 0)
        again = recomputed(encoder, query, [item.candidate for item in in_order])
        assert ids(ranking) == ids(again)
        assert {item.vector_source for item in ranking} == {"store"}
        assert [item.score for item in ranking] == pytest.approx([item.score for item in again], abs=1e-5)


def test_an_index_on_disk_is_read_by_a_later_client(
    tmp_path: Path, encoder: E2RankEncoder, recording: Recording, passage_vectors: Matrix
) -> None:
    """What one client wrote, another opened on the same folder later reranks without embedding a document."""
    with disk_client(tmp_path) as client:
        collection = new_collection(client, PASSAGES, passage_vectors)
        Searcher(ChromaStore(collection), Reranker(encoder)).save_fingerprint()
    recording.calls.clear()
    with disk_client(tmp_path) as client:
        ranking = Searcher(ChromaStore(client.get_collection(collection.name)), Reranker(encoder)).search(QUERIES[0])
    assert len(ranking) == 4
    assert recording.usage.documents == 0, "the fingerprint was read, so that nothing is embedded for a check"


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.sampled_from([*IDS, "missing-1", "missing-2"]), max_size=12))
def test_records_come_back_under_their_own_ids(
    in_memory: Collection, passage_vectors: Matrix, asked: list[str]
) -> None:
    """Whatever ids are asked for, in any order, twice or not stored: each record found has its own text and vector."""
    records = ChromaStore(in_memory).get(asked)
    assert set(records) == set(asked) & set(IDS)
    for id_, record in records.items():
        position = IDS.index(id_)
        assert (record.id, record.text, record.metadata) == (id_, TEXTS[position], METADATAS[position])
        assert np.allclose(np.asarray(record.vector), passage_vectors[position], atol=1e-6)
        assert record.vector_source == "store"


@pytest.mark.parametrize("asked", [[], ["missing"]])
def test_nothing_is_found_under_unknown_ids(collection: Collection, asked: list[str]) -> None:
    """No ids, and ids that are not stored, give an empty mapping rather than the whole collection or an error."""
    assert ChromaStore(collection).get(asked) == {}


def test_an_empty_collection_is_an_empty_answer(client: ClientAPI, encoder: E2RankEncoder) -> None:
    """Nothing is stored, so nothing is found, sampled or ranked, and nothing fails."""
    store = ChromaStore(client.create_collection(unique_name(), embedding_function=None))
    assert store.sample() == []
    assert store.get(["any"]) == {}
    ranking = Searcher(store, Reranker(encoder)).search(QUERIES[0])
    assert (len(ranking), ranking.plan, ranking.error) == (0, None, None)


def test_a_sample_has_texts_and_vectors(collection: Collection) -> None:
    """A spot check gets records that it can embed again."""
    sample = ChromaStore(collection).sample()
    assert {record.id: record.text for record in sample} == PASSAGES
    assert all(record.vector is not None for record in sample)


def test_records_may_lack_text_and_metadata(client: ClientAPI, encoder: E2RankEncoder, passage_vectors: Matrix) -> None:
    """A record of a vector alone, or without metadata, is ranked by its vector; none is lost."""
    collection = client.create_collection(unique_name(), embedding_function=None)
    collection.add(ids=["bare"], embeddings=passage_vectors[:1])
    collection.add(ids=["text"], documents=TEXTS[1:2], embeddings=passage_vectors[1:2])
    ranking = Searcher(ChromaStore(collection), Reranker(encoder)).search(QUERIES[1])
    assert {item.candidate.id: item.candidate.text for item in ranking} == {"bare": "", "text": TEXTS[1]}
    assert [item.candidate.metadata for item in ranking] == [{}, {}]
    bare = next(item for item in ranking if item.candidate.id == "bare")
    assert ranking.query_vector is not None
    assert bare.score == pytest.approx(float(passage_vectors[0] @ ranking.query_vector), abs=1e-5)


def test_search_arguments_reach_chroma(collection: Collection, encoder: E2RankEncoder) -> None:
    """Filters on metadata and on text, and Chroma's restriction to ids, hold for what is ranked."""
    searcher = Searcher(ChromaStore(collection), Reranker(encoder))
    asked = {"k": len(PASSAGES)}
    by_topic = searcher.search(QUERIES[0], where={"topic": "law"}, **asked)
    assert {*ids(by_topic)} == {"law-1", "law-2", "law-3", "law-4"}
    both = searcher.search(QUERIES[0], where={"$and": [{"topic": "law"}, {"number": {"$gt": 2}}]}, **asked)
    assert {*ids(both)} == {"law-3", "law-4"}
    by_text = searcher.search(QUERIES[0], where_document={"$contains": "Danube"}, **asked)
    assert ids(by_text) == ["river-4"]
    assert {*ids(searcher.search(QUERIES[0], ids=["law-1", "orbit-1"], **asked))} == {"law-1", "orbit-1"}
    assert ids(searcher.search(QUERIES[0], where={"topic": "no such topic"})) == []


@pytest.mark.parametrize(
    "options",
    [{"bogus": 1}, {"where": "law"}, {"where": {"topic": {"$near": 1}}}, {"n_results": 3}, {"query_texts": ["x"]},
     {"include": []}, {"where_document": {"$contains": 5}}],
    ids=str,
)  # fmt: skip
def test_arguments_that_chroma_does_not_know_are_refused(
    in_memory: Collection, encoder: E2RankEncoder, options: dict[str, object]
) -> None:
    """No search argument is dropped in silence."""
    searcher = Searcher(ChromaStore(in_memory), Reranker(encoder))
    with pytest.raises(StoreError):
        searcher.search(QUERIES[0], **options)


@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
@pytest.mark.parametrize("scale", [1.0, 0.01, 37.5])
def test_stored_vectors_need_not_be_unit(
    memory: ClientAPI, encoder: E2RankEncoder, passage_vectors: Matrix, space: str, scale: float
) -> None:
    """Whatever their length and the index's distance, the order and the scores are those of recomputed vectors."""
    collection = new_collection(memory, PASSAGES, scale * passage_vectors, metadata={"hnsw:space": space})
    ranking = Searcher(ChromaStore(collection), Reranker(encoder), fetch_k=24).search(QUERIES[2], k=24)
    in_order = sorted(ranking, key=lambda item: item.old_position or 0)
    again = recomputed(encoder, QUERIES[2], [item.candidate for item in in_order])
    assert ids(ranking) == ids(again)
    assert [item.score for item in ranking] == pytest.approx([item.score for item in again], abs=1e-5)


def test_equal_records_stay_apart_and_in_order(
    memory: ClientAPI, encoder: E2RankEncoder, passage_vectors: Matrix
) -> None:
    """Records with the same text have the same score, keep the index's order among them, and none is lost."""
    copies = {f"copy-{number}": TEXTS[0] for number in range(5)} | {"other": TEXTS[4]}
    collection = new_collection(memory, copies, passage_vectors[[0, 0, 0, 0, 0, 4]])
    found = ChromaStore(collection).search(encoder.encode_queries([QUERIES[1]])[0], 6)
    ranking = Reranker(encoder).rank(QUERIES[1], found)
    assert sorted(map(str, ids(ranking))) == sorted(copies)
    equal = [item for item in ranking if item.candidate.text == TEXTS[0]]
    assert len({item.score for item in equal}) == 1
    assert [item.old_position for item in equal] == sorted(item.old_position or 0 for item in equal)


def test_more_than_there_are_gives_what_there_is(collection: Collection, encoder: E2RankEncoder) -> None:
    """Asking for more results, or candidates, than are stored is no error."""
    ranking = Searcher(ChromaStore(collection), Reranker(encoder), fetch_k=5000).search(QUERIES[0], k=1000)
    assert len(ranking) == len(PASSAGES)


def test_a_collection_made_anew_has_another_identity(memory: ClientAPI, passage_vectors: Matrix) -> None:
    """A check of one collection says nothing of its successor of the same name."""
    first = new_collection(memory, PASSAGES, passage_vectors)
    memory.delete_collection(first.name)
    second = memory.create_collection(first.name, embedding_function=None)
    assert ChromaStore(first).identity != ChromaStore(second).identity
    assert ChromaStore(second).identity == ChromaStore(memory.get_collection(first.name)).identity


READING = {
    "search": lambda store: store.search(np.ones(384, dtype=np.float32), 3),
    "get": lambda store: store.get(["law-1"]),
    "sample": lambda store: store.sample(),
}
METHODS = {**READING, "save_fingerprint": lambda store: store.save_fingerprint("{}")}


@pytest.mark.parametrize("method", READING)
def test_a_collection_that_is_gone_is_a_store_error(client: ClientAPI, passage_vectors: Matrix, method: str) -> None:
    """Deleted by someone else: an error of this package's family, and not Chroma's own."""
    collection = new_collection(client, PASSAGES, passage_vectors)
    client.delete_collection(collection.name)
    with pytest.raises(StoreError):
        READING[method](ChromaStore(collection))


def test_a_server_that_is_gone_is_a_store_error(tmp_path: Path, passage_vectors: Matrix) -> None:
    """A refused connection is an error of this package's family, whatever was asked of the store."""
    with ExitStack() as opened:
        with chroma_server(tmp_path) as port:
            client = opened.enter_context(server_client(port))
            store = ChromaStore(new_collection(client, PASSAGES, passage_vectors))
        for method in METHODS.values():
            with pytest.raises(StoreError):
                method(store)


def test_fingerprint_is_kept_beside_other_metadata(client: ClientAPI, passage_vectors: Matrix) -> None:
    """Saving a fingerprint keeps the caller's metadata and the index's distance, for every client."""
    own = {"hnsw:space": "cosine", "team": "search", "version": "7"}
    collection = new_collection(client, PASSAGES, passage_vectors, metadata=own)
    store = ChromaStore(collection)
    assert store.fingerprint is None
    store.save_fingerprint('{"first": 1}')
    store.save_fingerprint('{"second": 2}')
    later = client.get_collection(collection.name)
    assert ChromaStore(later).fingerprint == store.fingerprint == '{"second": 2}'
    kept = {key: value for key, value in (later.metadata or {}).items() if key in own}
    assert kept == {"team": "search", "version": "7"}
    assert later.configuration_json["hnsw"]["space"] == "cosine"
    halved = later.query(query_embeddings=0.5 * passage_vectors[:1], n_results=1)
    assert halved["distances"] is not None
    assert halved["distances"][0][0] == pytest.approx(0, abs=1e-5), "cosine distance knows no lengths, l2 would"
    assert later.count() == len(PASSAGES)


def test_reading_writes_nothing(client: ClientAPI, encoder: E2RankEncoder, passage_vectors: Matrix) -> None:
    """Neither a search nor the check of an index writes to it: a fingerprint is saved only when asked for."""
    collection = new_collection(client, PASSAGES, passage_vectors, metadata={"team": "search"})
    Searcher(ChromaStore(collection), Reranker(encoder), search_again=True).search(QUERIES[0])
    assert client.get_collection(collection.name).metadata == {"team": "search"}


def test_ten_thousand_ids_are_looked_up(memory: ClientAPI) -> None:
    """Vectors of 10,000 candidates come in one call."""
    collection = memory.create_collection(unique_name(), embedding_function=None)
    names = [str(number) for number in range(10_000)]
    for start in range(0, len(names), 5000):
        part = names[start : start + 5000]
        collection.add(ids=part, embeddings=np.tile(np.eye(4, dtype=np.float32), (1250, 1)), documents=part)
    assert len(ChromaStore(collection).get(names)) == len(names)


def test_ids_are_asked_for_in_parts_that_chroma_takes(
    client: ClientAPI, passage_vectors: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite bounds the ids of one request; more of them cost more requests, and no record is lost or doubled."""
    monkeypatch.setattr(reading, "_IDS_AT_ONCE", 5)
    collection = new_collection(client, PASSAGES, passage_vectors, metadatas=METADATAS)
    found = ChromaStore(collection).get([*IDS, "missing", *IDS])
    assert {id_: record.text for id_, record in found.items()} == PASSAGES


def test_a_narrow_index_is_searched_widely(memory: ClientAPI) -> None:
    """A collection whose HNSW looks at few candidates still gives the nearest, and is not written to."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3000, 48)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    collection = memory.create_collection(
        unique_name(), configuration={"hnsw": {"space": "cosine", "ef_search": 10}}, embedding_function=None
    )
    collection.add(ids=[str(place) for place in range(3000)], embeddings=rows)
    plain, ours = 0, 0
    for query in rng.normal(size=(20, 48)).astype(np.float32):
        nearest = {str(place) for place in np.argsort(-(rows @ query))[:50]}
        plain += len(nearest & {*collection.query(query_embeddings=[query.tolist()], n_results=50)["ids"][0]})
        found = ChromaStore(collection).search(query, 50)
        ours += len(nearest & {item.id for item in found})
        cosines = [float(np.asarray(item.vector) @ query) for item in found]
        assert cosines == sorted(cosines, reverse=True)
        assert len(found) == 50
    assert 1000 - ours < 0.7 * (1000 - plain), "at least a third of what a plain search misses"
    assert memory.get_collection(collection.name).configuration_json["hnsw"]["ef_search"] == 10
