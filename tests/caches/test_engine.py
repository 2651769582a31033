"""An engine behind a cache: the same rows at less cost, never another model's, and never lost to a broken cache."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import sqlite3
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations import Candidate, DiskCache, E2RankEncoder, MemoryCache, Reranker
from e2rank_integrations.caches.engine import CachedEngine
from e2rank_integrations.caches.keyed import KeyedCache
from e2rank_integrations.errors import (
    EngineMemoryError,
    InputError,
    ServerMismatchError,
    StoreError,
    StoreMismatchError,
)
from e2rank_integrations.stores.trust import spot_check
from e2rank_integrations.values import TokenInput
from tests.caches.helpers import WIDTH, Failing, Hashing, vector
from tests.support.engines import PATIENCE, Recording
from tests.support.engines import Failing as FailingEngine
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from e2rank_integrations import DocumentCache
    from e2rank_integrations.values import Vector

INPUTS = st.lists(
    st.builds(
        TokenInput,
        ids=st.lists(st.integers(0, 3), min_size=1, max_size=2).map(tuple),
        role=st.sampled_from(["document", "query", "listwise"]),
    ),
    min_size=1,
    max_size=12,
)


def cached(cache: DocumentCache, digest: bytes = b"model", width: int = WIDTH) -> CachedEngine:
    return CachedEngine(Hashing(), KeyedCache(cache, digest, width))


def document(*ids: int) -> TokenInput:
    return TokenInput(ids, "document")


@pytest.fixture
def recording(embedded_encoder: E2RankEncoder) -> Recording:
    return Recording(embedded_encoder.engine)


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> DocumentCache:
    return MemoryCache() if request.param == "memory" else DiskCache(tmp_path)


@pytest.fixture
def encoder(embedded_encoder: E2RankEncoder, recording: Recording, cache: DocumentCache) -> E2RankEncoder:
    """The embedded model, counted, behind a cache."""
    return replace(embedded_encoder, custom_engine=recording, document_cache=cache)


# What is computed, and what comes back


@given(known=INPUTS, inputs=INPUTS)
@settings(deadline=None)
def test_rows_are_those_of_the_engine_in_the_order_of_the_inputs(
    known: list[TokenInput], inputs: list[TokenInput]
) -> None:
    """Whatever was kept before, however roles are mixed and inputs repeated; and no known document is computed."""
    engine = cached(MemoryCache())
    engine.encode(known)
    engine.warmup()  # forgets the calls
    encoded = engine.encode(inputs)
    np.testing.assert_array_equal(encoded.vectors, Hashing().encode(inputs).vectors)
    asked = [item for call in engine.engine.calls for item in call]
    documents = {item for item in inputs if item.role == "document"} - set(known)
    others = [item for item in inputs if item.role != "document"]
    assert sorted(item.ids for item in asked if item.role == "document") == sorted(item.ids for item in documents)
    assert [item for item in asked if item.role != "document"] == others
    assert encoded.usage.forwards == len(documents) + len(others)
    assert encoded.usage.tokens == sum(len(item.ids) for item in [*documents, *others])


def test_documents_are_embedded_once(encoder: E2RankEncoder, recording: Recording) -> None:
    """The second time the model is not asked, and the vectors are the very same numbers."""
    first = encoder.run(encoder.document_inputs(TEXTS))
    again = encoder.run(encoder.document_inputs(TEXTS[::-1]))
    np.testing.assert_array_equal(again.vectors, first.vectors[::-1])
    assert again.vectors.dtype == np.float32
    assert (first.usage.documents, again.usage.documents, again.usage.tokens) == (len(TEXTS), 0, 0)
    assert len(recording.calls) == 1


async def test_async_is_the_same(encoder: E2RankEncoder, recording: Recording) -> None:
    """Kept by the one, found by the other."""
    first = await encoder.aencode_documents(TEXTS[:5])
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS[:5]), first)
    np.testing.assert_array_equal(await encoder.aencode_documents(TEXTS[4::-1]), first[::-1])
    assert recording.usage.documents == 5
    assert (await encoder.aencode_queries(QUERIES)).shape == (3, encoder.width)


def test_queries_and_prompts_are_computed_each_time(encoder: E2RankEncoder, recording: Recording) -> None:
    """For this model a query's ids are those of a document; its vector is not looked up all the same."""
    encoder.encode_documents([QUERIES[0]])
    for _ in range(2):
        encoder.encode_queries([QUERIES[0]])
        encoder.encode_listwise(QUERIES[0], TEXTS[:2])
    assert (recording.usage.queries, recording.usage.prompts) == (2, 2)


def test_a_rerank_computes_no_document_twice(encoder: E2RankEncoder, recording: Recording) -> None:
    """Candidates without a stored vector cost their forwards once, for all queries."""
    first, second = (Reranker(encoder).rank(query, TEXTS[:6]) for query in QUERIES[:2])
    assert (recording.usage.documents, recording.usage.queries, recording.usage.prompts) == (6, 2, 2)
    assert first.usage + second.usage == recording.usage
    assert second.usage.documents == 0
    many = Reranker(encoder).rank_many([(query, TEXTS[:8]) for query in QUERIES[:2]])
    assert [ranking.usage.documents for ranking in many] == [2, 0]
    plain = Reranker(replace(encoder, document_cache=None)).rank(QUERIES[1], TEXTS[:6])
    assert [item.score for item in second] == pytest.approx([item.score for item in plain], abs=1e-6)


def test_a_caller_may_write_to_what_it_gets(encoder: E2RankEncoder) -> None:
    """It is the caller's, as without a cache; the cache has its own."""
    expected = encoder.encode_documents(TEXTS[:2]).copy()
    encoder.encode_documents(TEXTS[:2])[:] = 0
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS[:2]), expected)


def test_what_fails_is_not_kept(encoder: E2RankEncoder, recording: Recording) -> None:
    """The engine's error passes, and the next call computes."""
    failing = replace(encoder, custom_engine=FailingEngine(recording, EngineMemoryError("out of memory")))
    with pytest.raises(EngineMemoryError):
        failing.encode_documents(TEXTS[:2])
    assert encoder.run(encoder.document_inputs(TEXTS[:2])).usage.documents == 2


def test_closing_keeps_the_vectors(encoder: E2RankEncoder) -> None:
    """The weights go, the connection goes, the vectors stay."""
    encoder.encode_documents(TEXTS[:2])
    CachedEngine(Hashing(), KeyedCache(encoder.document_cache, b"", 1)).close()
    assert encoder.run(encoder.document_inputs(TEXTS[:2])).usage.documents == 0


# Whose vectors they are


OTHERS: dict[str, Callable[[E2RankEncoder, Path], E2RankEncoder]] = {
    "cap": lambda made, _: replace(made, profile=replace(made.profile, caps=replace(made.profile.caps, document=100))),
    "pooling": lambda made, _: replace(made, profile=replace(made.profile, pooling="cls")),
    "words": lambda made, _: replace(made, profile=replace(made.profile, document_words=5)),
    "format": lambda made, _: replace(made, profile=replace(made.profile, document_format="[CLS]a {document}[SEP]")),
    "weights": lambda made, qwen: E2RankEncoder(str(qwen), device="cpu", dtype="float32"),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_another_embedding_has_other_keys(embedded_encoder: E2RankEncoder, qwen_folder: Path, other: str) -> None:
    """Another cap, pooling, number of words, frame or model never finds this one's vectors."""
    cache = MemoryCache()
    one = replace(embedded_encoder, document_cache=cache)
    two = replace(OTHERS[other](embedded_encoder, qwen_folder), document_cache=cache, custom_engine=Hashing())
    keys = [made._cached_vectors.key(document(1, 2)) for made in (one, two)]
    assert keys[0] != keys[1]
    assert {len(key) for key in keys} == {32}


def test_an_adapter_has_other_keys(embedded_encoder: E2RankEncoder, tmp_path: Path) -> None:
    """By what its files hold, not by its folder's name."""
    keys = set()
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_bytes(content)
        made = replace(embedded_encoder, adapter=str(tmp_path / name), document_cache=MemoryCache())
        keys.add(made._cached_vectors.key(document(1, 2)))
    assert len(keys) == 2


def test_what_decides_no_document_vector_shares_them(embedded_encoder: E2RankEncoder) -> None:
    """Device, dtype, the listwise adapter, and the words of queries and prompts, as with an index."""
    tasks = replace(embedded_encoder.profile.tasks, query="Find")
    made = replace(embedded_encoder, document_cache=MemoryCache())
    others = [
        replace(made, dtype="bfloat16"),
        replace(made, device="auto"),
        replace(made, listwise_adapter=None),
        replace(made, profile=replace(made.profile, tasks=tasks, num_input_docs=2)),
    ]
    keys = {other._cached_vectors.key(document(1, 2)) for other in [made, *others]}
    assert len(keys) == 1


def test_the_model_may_be_called_otherwise(qwen_folder: Path, tmp_path: Path) -> None:
    """Its files count, not their folder."""
    (tmp_path / "link").symlink_to(qwen_folder)
    prints = [E2RankEncoder(str(path)).fingerprint for path in (qwen_folder, tmp_path / "link")]
    assert prints[0].model != prints[1].model
    assert prints[0].digest() == prints[1].digest()


@given(st.lists(st.lists(st.integers(0, 2**20), max_size=4).map(tuple), unique=True, max_size=8))
@settings(deadline=None)
def test_other_ids_are_other_keys(ids: list[tuple[int, ...]]) -> None:
    """Of other numbers, in another order, or fewer of them."""
    keyed = KeyedCache(MemoryCache(), b"model", WIDTH)
    assert len({keyed.key(TokenInput(item, "document")) for item in ids}) == len(ids)


def test_texts_that_are_cut_to_the_same_ids_share_a_vector(encoder: E2RankEncoder, recording: Recording) -> None:
    """What is beyond the cap was never embedded."""
    start = "a " * 300
    rows = encoder.encode_documents([start + "gravity", start + "bread"])
    np.testing.assert_array_equal(rows[0], rows[1])
    assert recording.usage.documents == 1


def test_a_spot_check_finds_out_a_foreign_index_from_the_cache(encoder: E2RankEncoder, recording: Recording) -> None:
    """The cached vector is this model's, so it tells as much as one embedded anew, and costs nothing."""
    encoder.encode_documents(TEXTS[:2])
    recording.calls.clear()
    foreign = [Candidate(TEXTS[0], vector=vector("foreign", encoder.width))]
    with pytest.raises(StoreMismatchError, match="made by another model"):
        spot_check(object(), encoder, lambda: foreign)
    own = [Candidate(TEXTS[1], vector=encoder.encode_documents(TEXTS[1:2])[0])]
    spot_check(object(), encoder, lambda: own)
    assert recording.calls == []


# Damage and failure


@pytest.mark.parametrize(
    "damage",
    [vector(1, WIDTH + 1), vector(1, WIDTH - 1), np.full(WIDTH, np.nan), np.zeros(WIDTH), vector(1) * 2,
     np.full(WIDTH, np.inf), np.ones((1, WIDTH))],
    ids=["wider", "narrower", "NaN", "zero", "longer", "infinite", "matrix"],
)  # fmt: skip
def test_a_damaged_vector_is_computed_again_and_healed(damage: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong width, no number, or no unit vector is never returned."""
    cache = MemoryCache()
    keyed = KeyedCache(cache, b"model", WIDTH)
    engine = CachedEngine(Hashing(), keyed)
    cache.put({keyed.key(document(1)): damage.astype(np.float32)})
    for computed in (1, 0):
        encoded = engine.encode([document(1)])
        np.testing.assert_array_equal(encoded.vectors, [vector(("document", (1,)))])
        assert encoded.usage.documents == computed
    assert caplog.records == []


def test_what_an_engine_returns_wrongly_is_not_kept() -> None:
    """Vectors of another width: a typed error, and the cache does not make it last."""
    cache = MemoryCache()
    with pytest.raises(ServerMismatchError, match="width 9, found 8"):
        cached(cache, width=WIDTH + 1).encode([document(1)])
    assert len(cache) == 0


FAULTS = [OSError("disk full"), sqlite3.OperationalError("locked"), RuntimeError("redis is away"), KeyError("x")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("way", ["read", "write"])
def test_a_failing_cache_loses_no_result(way: str, fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The vectors are computed, each time; one warning says what failed, and it is not repeated."""
    engine = cached(Failing(**{way: fault}))
    for _ in range(3):
        encoded = engine.encode([document(1), document(2)])
        np.testing.assert_array_equal(encoded.vectors, Hashing().encode([document(1), document(2)]).vectors)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert type(fault).__name__ in record.getMessage()
    assert ("read" if way == "read" else "written") in record.getMessage()


async def test_a_failing_cache_loses_no_result_in_the_async_form(caplog: pytest.LogCaptureFixture) -> None:
    """As in the sync form; reading and writing have a warning each."""
    engine = cached(Failing(read=OSError("a"), write=OSError("b")))
    for _ in range(2):
        encoded = await engine.aencode([document(1), document(1)])
        assert encoded.vectors.shape == (2, WIDTH)
    assert len(caplog.records) == 2


def test_a_cache_that_answers_too_little_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    """Rows that cannot be told apart are not used."""

    class Short(Failing):
        def get(self, keys: Sequence[bytes]) -> list[Vector | None]:
            return [vector(1)]

    encoded = cached(Short()).encode([document(1), document(2)])
    assert encoded.usage.documents == 2
    assert len(caplog.records) == 1


def test_a_file_that_is_no_cache_is_said_before_anything_is_embedded(
    embedded_encoder: E2RankEncoder, recording: Recording, tmp_path: Path
) -> None:
    """A wrong setting is an error and no warning."""
    cache = DiskCache(tmp_path)
    cache.file.write_bytes(b"notes " * 1000)
    made = replace(embedded_encoder, custom_engine=recording, document_cache=cache)
    with pytest.raises(StoreError, match="delete the file"):
        made.encode_documents(TEXTS[:2])
    assert recording.calls == []


def test_what_is_computed_is_not_lost_to_a_file_that_went_bad(caplog: pytest.LogCaptureFixture) -> None:
    """After the forward even a wrong setting is only a warning."""
    encoded = cached(Failing(write=StoreError("no cache"))).encode([document(1)])
    assert encoded.usage.documents == 1
    assert len(caplog.records) == 1


async def test_a_slow_cache_does_not_block_the_event_loop() -> None:
    """It waits in a thread for a signal that only a running event loop can give."""
    gate = threading.Event()

    class Slow(Failing):
        def get(self, keys: Sequence[bytes]) -> list[Vector | None]:
            assert gate.wait(PATIENCE)
            return super().get(keys)

        def put(self, items: Any) -> None:
            assert gate.wait(PATIENCE)

    waiting = asyncio.create_task(cached(Slow()).aencode([document(1)]))
    for _ in range(20):
        await asyncio.sleep(0)
        assert not waiting.done()
    gate.set()
    assert (await waiting).vectors.shape == (1, WIDTH)


# The encoder as a value


@pytest.mark.parametrize("found", ["folder", {}, 5, object], ids=str)
def test_what_is_no_cache_is_refused(found: object) -> None:
    """A path above all, for which a `DiskCache` is meant."""
    with pytest.raises(InputError, match="document_cache"):
        E2RankEncoder("embedded", document_cache=found)


def test_the_cache_is_no_part_of_the_value(encoder: E2RankEncoder) -> None:
    """It decides what a call costs, not what it returns."""
    plain = replace(encoder, document_cache=None)
    assert encoder == plain
    assert hash(encoder) == hash(plain)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, replace], ids=["copy", "deepcopy", "replace"])
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_a_copy_shares_the_cache(embedded_encoder: E2RankEncoder, cache: DocumentCache, clone: Any, used: bool) -> None:
    """What one embedded, the other finds."""
    made = replace(embedded_encoder, document_cache=cache)
    if used:
        made.encode_documents(["used"])
    copied = clone(made)
    made.encode_documents(TEXTS[:2])
    assert copied == made
    assert copied.run(copied.document_inputs(TEXTS[:2])).usage.documents == 0


def test_a_pickled_encoder_takes_its_cache_along(embedded_encoder: E2RankEncoder, cache: DocumentCache) -> None:
    """The file, or an empty memory of the same bound; no vector is in the pickle."""
    made = replace(embedded_encoder, document_cache=cache)
    made.encode_documents(TEXTS)
    data = pickle.dumps(made)
    assert len(data) < 5_000
    arrived = pickle.loads(data)
    assert arrived == made
    expected = 0 if isinstance(cache, DiskCache) else len(TEXTS)
    assert arrived.run(arrived.document_inputs(TEXTS)).usage.documents == expected


def test_no_user_text_is_on_disk(embedded_encoder: E2RankEncoder, tmp_path: Path) -> None:
    """Neither a text nor its ids, in any of the files."""
    made = replace(embedded_encoder, document_cache=DiskCache(tmp_path))
    secret = "xyzzy plugh"
    (item,) = made.document_inputs([secret])
    made.encode_documents([secret])
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(content) > made.width * 4
    assert secret.encode() not in content
    assert not any(np.array(item.ids, dtype=kind).tobytes() in content for kind in ("<i4", "<i8", ">i4", ">i8"))
