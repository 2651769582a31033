"""Retrieve, rerank with the index's vectors, search again: over a store of a few lines, which holds what is asked."""

from __future__ import annotations

import asyncio
import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2rank_integrations import Candidate, Reranker, Searcher
from e2rank_integrations.errors import EngineMemoryError, InputError, StoreError
from tests.support.engines import PATIENCE, Failing, Gated, Recording
from tests.support.passages import IDS, METADATAS, PASSAGES, QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from e2rank_integrations import E2RankEncoder, Ranking
    from e2rank_integrations.values import TokenInput, Vector

QUERY = QUERIES[1]
NOT_A_COUNT = [0, -1, "3", 2.5, True, [1]]


@dataclass(eq=False)
class ListStore:
    """The protocol of a vector store over a list; `filter` is its one search argument, and calls are kept."""

    records: Sequence[Candidate]
    calls: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    fingerprint = None

    @property
    def identity(self) -> ListStore:
        return self

    def save_fingerprint(self, fingerprint: str) -> None:
        raise StoreError("a list has no place for it")

    def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
        self.calls.append((k, copy.deepcopy(options)))
        wanted = options.pop("filter", {})
        if options:
            raise StoreError(f"unknown search arguments: {', '.join(options)}")
        found = [record for record in self.records if wanted.items() <= record.metadata.items()]
        return sorted(found, key=lambda record: -float(np.asarray(record.vector) @ vector))[:k]

    def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
        return {record.id: record for record in self.records if record.id in ids}

    def sample(self) -> list[Candidate]:
        return list(self.records)


class WithoutVectors(ListStore):
    """A store that searches by vectors but does not give them back."""

    def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
        return [replace(record, vector=None) for record in super().search(vector, k, **options)]

    def sample(self) -> list[Candidate]:
        return []


@pytest.fixture(scope="module")
def records(qwen_encoder: E2RankEncoder) -> list[Candidate]:
    """The passages with the tiny Qwen3's vectors, for which a prompt's neighbours are others than a query's."""
    rows = zip(IDS, TEXTS, METADATAS, qwen_encoder.encode_documents(TEXTS), strict=True)
    return [Candidate(text, id=id_, metadata=data, vector=row, vector_source="store") for id_, text, data, row in rows]


@pytest.fixture
def store(records: list[Candidate]) -> ListStore:
    return ListStore(records)


@pytest.fixture
def recording(qwen_encoder: E2RankEncoder) -> Recording:
    return Recording(qwen_encoder.engine)


@pytest.fixture
def encoder(qwen_encoder: E2RankEncoder, recording: Recording) -> E2RankEncoder:
    return replace(qwen_encoder, custom_engine=recording)


def ids(items: Iterable[Any]) -> list[str]:
    return [item.candidate.id for item in items]


def rows(ranking: Ranking) -> list[tuple[Any, ...]]:
    """All that a ranking says of its results."""
    return [(item.candidate.id, item.score, item.position, item.old_position, item.in_prompt) for item in ranking]


def expect_alike(found: Ranking, expected: Ranking) -> None:
    """The same rows, but for rounding, which other threads do otherwise."""
    assert [(row[0], *row[2:]) for row in rows(found)] == [(row[0], *row[2:]) for row in rows(expected)]
    assert [item.score for item in found] == pytest.approx([item.score for item in expected], abs=1e-5)


def by_hand(encoder: E2RankEncoder, store: ListStore, fetch_k: int, k: int, **options: Any) -> tuple[Ranking, Ranking]:
    """The rankings of one search, and of two, written out."""
    reranker = Reranker(encoder)
    query_vector = encoder.encode_queries([QUERY])[0]
    first = store.search(query_vector, fetch_k, **options)
    once = reranker.rank(QUERY, first, query_vector=query_vector, top_n=k)
    assert once.query_vector is not None
    second = store.search(once.query_vector, fetch_k, **options)
    new = [record for record in second if record.id not in {known.id for known in first}]
    return once, reranker.extend(once, new, top_n=k)


def test_a_search_costs_a_query_and_a_prompt(store: ListStore, encoder: E2RankEncoder, recording: Recording) -> None:
    """The plain query is embedded once though search and blend both need it, and no document is."""
    searcher = Searcher(store, Reranker(encoder, query_weight=0.5), fetch_k=10)
    searcher.search(QUERY)
    recording.calls.clear()
    ranking = searcher.search(QUERY)
    used = recording.usage
    assert (used.queries, used.prompts, used.documents) == (1, 1, 0)
    assert ranking.usage == used
    assert ranking.seconds > 0
    assert ranking.query_similarity is not None


def test_results_are_the_rerankers(store: ListStore, encoder: E2RankEncoder) -> None:
    """A search is retrieval and rerank, nothing else: the same rows, prompt and scores."""
    expected, _ = by_hand(encoder, store, 8, 3)
    assert rows(Searcher(store, Reranker(encoder), fetch_k=8).search(QUERY, k=3)) == rows(expected)


async def test_async_search_is_the_same(store: ListStore, encoder: E2RankEncoder) -> None:
    """With one search and with two."""
    for again in (False, True):
        searcher = Searcher(store, Reranker(encoder), fetch_k=6, search_again=again)
        expected = searcher.search(QUERY, k=9, filter={"number": 1})
        found = await searcher.asearch(QUERY, k=9, filter={"number": 1})
        expect_alike(found, expected)
        assert found.usage == expected.usage


def test_reranking_a_retrieval_later_is_the_same(store: ListStore, encoder: E2RankEncoder) -> None:
    """`search` is `retrieve` and `rerank`, which a framework may call one by one."""
    searcher = Searcher(store, Reranker(encoder), fetch_k=6, search_again=True)
    retrieved = searcher.retrieve(QUERY, 5, fetch_k=7)
    assert len(retrieved.candidates) == 7
    assert rows(searcher.rerank(retrieved, 5)) == rows(searcher.search(QUERY, 5, fetch_k=7))


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(k=st.integers(1, 30), fetch_k=st.integers(1, 30), again=st.booleans())
def test_as_many_as_asked_for_best_first(
    store: ListStore, encoder: E2RankEncoder, k: int, fetch_k: int, again: bool
) -> None:
    """k results or all that was found, each once, by falling score, numbered from 0."""
    ranking = Searcher(store, Reranker(encoder), fetch_k=fetch_k, search_again=again).search(QUERY, k=k)
    assert len(ranking) == min(k, len(PASSAGES))
    assert len({*ids(ranking.ranked)}) == len(ranking.ranked)
    scores = [item.score for item in ranking]
    assert scores == sorted(scores, reverse=True)
    assert [item.position for item in ranking.ranked] == list(range(len(ranking.ranked)))


def test_as_many_candidates_as_results_are_fetched(store: ListStore, encoder: E2RankEncoder) -> None:
    """`fetch_k` of the call goes before that of the searcher, and neither is less than k."""
    searcher = Searcher(store, Reranker(encoder), fetch_k=6)
    for options in ({"k": 2}, {"k": 9}, {"k": 2, "fetch_k": 3}, {"k": 5, "fetch_k": 3}, {"k": 2, "fetch_k": None}):
        searcher.search(QUERY, **options)
    assert [k for k, _ in store.calls] == [6, 9, 3, 5, 6]


def test_searching_again_brings_in_what_was_missed(
    store: ListStore, encoder: E2RankEncoder, recording: Recording
) -> None:
    """The prompt's vector searches a second time; what is new is scored by it, as if extended by hand."""
    once, twice = by_hand(encoder, store, 5, 10)
    missed = set(ids(twice.ranked)) - set(ids(once.ranked))
    assert missed, "this collection and query must have something to miss"
    searcher = Searcher(store, Reranker(encoder), search_again=True)
    retrieved = searcher.retrieve(QUERY, 5, fetch_k=5)
    recording.calls.clear()
    ranking = searcher.rerank(retrieved, 10)
    assert rows(ranking) == rows(twice)
    assert recording.usage.documents == recording.usage.queries == 0
    assert ranking.query_vector is not None
    for item in ranking:
        assert (item.old_position is None) == (item.candidate.id in missed)
        assert item.score == pytest.approx(float(np.asarray(item.candidate.vector) @ ranking.query_vector), abs=1e-6)
        assert item.candidate.id not in missed or not item.in_prompt


def test_both_searches_have_the_same_arguments(store: ListStore, encoder: E2RankEncoder) -> None:
    """A filter keeps the second search, too, from bringing in what it excludes; the caller's filter stays as it is."""
    wanted = {"number": 2}
    searcher = Searcher(store, Reranker(encoder), fetch_k=3, search_again=True)
    ranking = searcher.search(QUERY, k=2, filter=wanted)
    assert store.calls == [(3, {"filter": {"number": 2}}), (3, {"filter": {"number": 2}})]
    assert {item.candidate.metadata["number"] for item in ranking.ranked} == {2}
    assert len(ranking.ranked) > 3
    assert wanted == {"number": 2}


def test_searching_again_may_find_nothing_new(store: ListStore, encoder: E2RankEncoder) -> None:
    """Where the first search brought everything, the second adds nothing and changes nothing."""
    plain = Searcher(store, Reranker(encoder), fetch_k=24)
    assert rows(replace(plain, search_again=True).search(QUERY, k=24)) == rows(plain.search(QUERY, k=24))


def test_records_without_ids_are_found_once(records: list[Candidate], encoder: E2RankEncoder) -> None:
    """Where a store has no ids, its records are told apart by their texts."""
    store = ListStore([replace(record, id=None) for record in records])
    ranking = Searcher(store, Reranker(encoder), fetch_k=5, search_again=True).search(QUERY, k=5)
    texts = [item.candidate.text for item in ranking.ranked]
    assert len(texts) == len(set(texts)) > 5


@pytest.mark.usefixtures("store")
def test_missing_vectors_are_computed(
    records: list[Candidate], store: ListStore, encoder: E2RankEncoder, recording: Recording
) -> None:
    """A store that gives no vectors back costs a forward per document and ranks alike, both searches counted."""
    expected = Searcher(store, Reranker(encoder), fetch_k=5, search_again=True).search(QUERY, k=5)
    recording.calls.clear()
    searcher = Searcher(WithoutVectors(records), Reranker(encoder), fetch_k=5, search_again=True)
    ranking = searcher.search(QUERY, k=5)
    assert ids(ranking) == ids(expected)
    assert [item.score for item in ranking] == pytest.approx([item.score for item in expected], abs=1e-5)
    assert {item.vector_source for item in ranking.ranked} == {"computed"}
    assert ranking.usage == recording.usage
    assert ranking.usage.documents == len(ranking.ranked)


@pytest.mark.parametrize("k", [*NOT_A_COUNT, None], ids=repr)
def test_a_bad_k_is_refused(store: ListStore, encoder: E2RankEncoder, recording: Recording, k: object) -> None:
    """Before anything is embedded or the store is asked."""
    with pytest.raises(InputError, match="k"):
        Searcher(store, Reranker(encoder)).search(QUERY, k=k)
    assert (store.calls, recording.calls) == ([], [])


@pytest.mark.parametrize("fetch_k", NOT_A_COUNT, ids=repr)
def test_a_bad_fetch_k_is_refused(store: ListStore, encoder: E2RankEncoder, fetch_k: object) -> None:
    """At construction and per call."""
    with pytest.raises(InputError, match="fetch_k"):
        Searcher(store, Reranker(encoder), fetch_k=fetch_k)
    with pytest.raises(InputError, match="fetch_k"):
        Searcher(store, Reranker(encoder)).search(QUERY, fetch_k=fetch_k)


@pytest.mark.parametrize("query", ["", " \n\t", None, 7, b"query", ["query"], "lone \ud800 surrogate"], ids=ascii)
async def test_a_bad_query_is_refused(store: ListStore, encoder: E2RankEncoder, query: object) -> None:
    """Sync and async, and the message does not repeat it."""
    searcher = Searcher(store, Reranker(encoder))
    for attempt in (lambda: asyncio.to_thread(searcher.search, query), lambda: searcher.asearch(query)):
        with pytest.raises(InputError, match="query") as caught:
            await attempt()
        assert "lone \ud800" not in str(caught.value)


def test_unknown_search_arguments_are_the_stores_to_refuse(store: ListStore, encoder: E2RankEncoder) -> None:
    """They are handed on, never dropped."""
    with pytest.raises(StoreError, match="bogus"):
        Searcher(store, Reranker(encoder)).search(QUERY, bogus=1)


def test_a_failed_prompt_keeps_the_retrieval_order(
    store: ListStore, qwen_encoder: E2RankEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """With `keep_order`: the first k retrieved, unscored, with the failure, one warning, and no second search."""
    error = EngineMemoryError("out of memory")
    engine = Failing(qwen_encoder.engine, error, lambda item: item.role == "listwise")
    reranker = Reranker(replace(qwen_encoder, custom_engine=engine), on_error="keep_order")
    ranking = Searcher(store, reranker, fetch_k=6, search_again=True).search(QUERY, k=4)
    nearest = store.search(qwen_encoder.encode_queries([QUERY])[0], 6)
    assert ids(ranking) == [record.id for record in nearest[:4]]
    assert ids(ranking.ranked) == [record.id for record in nearest]
    assert [item.score for item in ranking] == [None] * 4
    assert ranking.error is error
    assert len(store.calls) == 2, "the search, and the one of this test"
    assert len(caplog.records) == 1


def test_a_failed_prompt_is_raised_by_default(store: ListStore, qwen_encoder: E2RankEncoder) -> None:
    """The default hides nothing."""
    engine = Failing(qwen_encoder.engine, EngineMemoryError("out of memory"), lambda item: item.role == "listwise")
    with pytest.raises(EngineMemoryError):
        Searcher(store, Reranker(replace(qwen_encoder, custom_engine=engine))).search(QUERY)


def test_without_a_query_vector_there_is_no_order_to_keep(store: ListStore, qwen_encoder: E2RankEncoder) -> None:
    """A failure to embed the query is raised even with `keep_order`: nothing was retrieved."""
    engine = Failing(qwen_encoder.engine, EngineMemoryError("out of memory"), lambda item: item.role == "query")
    reranker = Reranker(replace(qwen_encoder, custom_engine=engine), on_error="keep_order")
    with pytest.raises(EngineMemoryError):
        Searcher(store, reranker).search(QUERY)


def test_a_failure_in_the_second_search_loses_nothing_of_the_first(
    records: list[Candidate], store: ListStore, qwen_encoder: E2RankEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    """With `keep_order`, documents that cannot be scored are left out with a warning, and the ranking stands."""
    once, twice = by_hand(qwen_encoder, store, 5, 5)
    new = [item.candidate.text for item in twice.ranked if item.old_position is None]
    lost: set[TokenInput] = set(qwen_encoder.document_inputs(new))
    engine = Failing(qwen_encoder.engine, EngineMemoryError("out of memory"), lost.__contains__)
    reranker = Reranker(replace(qwen_encoder, custom_engine=engine), on_error="keep_order")
    ranking = Searcher(WithoutVectors(records), reranker, fetch_k=5, search_again=True).search(QUERY, k=5)
    assert ids(ranking) == ids(once)
    assert ranking.error is None
    assert len(caplog.records) == 1


def test_the_store_failing_the_second_time_is_raised(store: ListStore, encoder: E2RankEncoder) -> None:
    """A store's fault is no transient failure of the engine."""

    class Once(ListStore):
        def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
            if self.calls:
                raise StoreError("gone")
            return super().search(vector, k, **options)

    reranker = Reranker(encoder, on_error="keep_order")
    with pytest.raises(StoreError, match="gone"):
        Searcher(Once(store.records), reranker, search_again=True).search(QUERY)


async def test_the_engine_does_not_block_the_loop(store: ListStore, qwen_encoder: E2RankEncoder) -> None:
    """While the engine waits for the gate, the loop goes on, and it is the loop that opens the gate."""
    engine = Gated(qwen_encoder.engine)
    searcher = Searcher(store, Reranker(replace(qwen_encoder, custom_engine=engine)), search_again=True)
    task = asyncio.create_task(searcher.asearch(QUERY))
    for _ in range(20):
        await asyncio.sleep(0)
    engine.gate.set()
    assert len(await task) == 4


async def test_the_store_does_not_block_the_loop(records: list[Candidate], encoder: E2RankEncoder) -> None:
    """Nor while the store is searched, either time: the loop sees each search begin, and lets it go on."""
    gates = [threading.Event(), threading.Event()]

    class Slow(ListStore):
        def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
            found = super().search(vector, k, **options)
            assert gates[len(self.calls) - 1].wait(PATIENCE), "nobody opened the gate: the event loop is blocked"
            return found

    slow = Slow(records)
    task = asyncio.create_task(Searcher(slow, Reranker(encoder), fetch_k=5, search_again=True).asearch(QUERY))
    for begun, gate in enumerate(gates, start=1):
        while len(slow.calls) < begun and not task.done():
            await asyncio.sleep(0)
        gate.set()
    assert len(await task) == 4


async def test_async_work_has_threads_of_its_own(store: ListStore, encoder: E2RankEncoder) -> None:
    """The loop's default executor, which others may have filled, is not used."""

    class Full(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("the loop's default executor was used")

    asyncio.get_running_loop().set_default_executor(Full(1))
    assert len(await Searcher(store, Reranker(encoder), search_again=True).asearch(QUERY)) == 4


async def test_many_searches_at_once_do_not_mix(store: ListStore, encoder: E2RankEncoder) -> None:
    """Threads and tasks that share a searcher get what each would get alone."""
    searcher = Searcher(store, Reranker(encoder), fetch_k=6, search_again=True)
    queries = [f"{query} {number}" for number in range(4) for query in QUERIES]
    expected = [searcher.search(query) for query in queries]
    for found, alone in zip(await asyncio.gather(*map(searcher.asearch, queries)), expected, strict=True):
        expect_alike(found, alone)
    with ThreadPoolExecutor(8) as pool:
        for found, alone in zip(pool.map(searcher.search, queries), expected, strict=True):
            expect_alike(found, alone)


def test_stored_records_are_not_written_to(store: ListStore, records: list[Candidate], encoder: E2RankEncoder) -> None:
    """Texts, metadata and vectors of the store are as before."""
    before = [(record.id, record.text, dict(record.metadata), np.array(record.vector)) for record in records]
    Searcher(store, Reranker(encoder, query_weight=0.5), search_again=True).search(QUERY)
    for record, (id_, text, data, vector) in zip(records, before, strict=True):
        assert (record.id, record.text, record.metadata) == (id_, text, data)
        assert np.array_equal(np.asarray(record.vector), vector)
