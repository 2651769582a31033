"""The engine on a server: the same vectors as here, in bounded requests, from any thread and event loop."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2rank_integrations import Candidate, MemoryCache, RemoteEngine, Reranker
from e2rank_integrations.engines import connection
from e2rank_integrations.errors import (
    EngineTimeoutError,
    InputError,
    ServerError,
    ServerMismatchError,
    UnavailableError,
)
from e2rank_integrations.values import TokenInput, Usage
from tests.support.loopback import MODEL, Handler, LoopbackServer, patiently

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import Encoded

TEXTS = ["Apples fall from trees.", "Tea is hot.", "A much longer text about apples, trees and tea. " * 4]
QUERY = "what falls"
ROLES = ("document", "query", "listwise")


@pytest.fixture
def engine(server: LoopbackServer) -> Iterator[RemoteEngine]:
    engine = RemoteEngine(server.url)
    yield engine
    engine.close()


@pytest.fixture
def encoder(qwen_encoder: E2RankEncoder, engine: RemoteEngine) -> E2RankEncoder:
    return replace(qwen_encoder, custom_engine=engine)


# The same vectors.


def test_vectors_are_those_of_this_process(encoder: E2RankEncoder, qwen_encoder: E2RankEncoder) -> None:
    """Of every role, in the order of the inputs."""
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), qwen_encoder.encode_documents(TEXTS), atol=1e-6)
    np.testing.assert_allclose(encoder.encode_queries([QUERY]), qwen_encoder.encode_queries([QUERY]), atol=1e-6)
    np.testing.assert_allclose(
        encoder.encode_listwise(QUERY, TEXTS)[0], qwen_encoder.encode_listwise(QUERY, TEXTS)[0], atol=1e-6
    )


def test_vectors_are_unit_rows_of_float32(encoder: E2RankEncoder) -> None:
    """As of every engine, whatever the server's rounding was."""
    vectors = encoder.encode_documents(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_exactly_our_ids_are_sent(encoder: E2RankEncoder, server: LoopbackServer) -> None:
    """Ids, never text: with our closing token, and as base64 in return."""
    encoder.encode_documents(TEXTS)
    sent = [ids for body in server.requests[1:] for ids in body["input"]]
    assert sorted(sent) == sorted(list(item.ids) for item in encoder.document_inputs(TEXTS))
    assert {body["encoding_format"] for body in server.requests} == {"base64"}
    assert {body["model"] for body in server.requests} == {MODEL}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.tuples(st.sampled_from(ROLES), st.integers(1, 40)), min_size=1, max_size=30),
    most=st.integers(1, 8),
    tokens=st.integers(1, 100),
)
def test_requests_are_bounded_and_rows_come_back_in_order(
    server: LoopbackServer, qwen_encoder: E2RankEncoder, lengths: list[tuple[Any, int]], most: int, tokens: int
) -> None:
    """No request has more inputs or tokens than allowed, but for one long input alone; no input is lost or doubled."""
    inputs = [TokenInput(tuple(range(5 + i, 5 + i + length)), role) for i, (role, length) in enumerate(lengths)]
    engine = RemoteEngine(server.url, batch_inputs=most, batch_tokens=tokens)
    engine.encode([TokenInput((5, 6), "document")])  # the first use asks for more
    server.requests.clear()
    encoded = engine.encode(inputs)
    engine.close()
    np.testing.assert_allclose(encoded.vectors, qwen_encoder.engine.encode(inputs).vectors, atol=1e-5)
    assert encoded.usage == Usage.of(inputs)
    batches = [body["input"] for body in server.requests]
    assert sorted(ids for batch in batches for ids in batch) == sorted(list(item.ids) for item in inputs)
    assert all(len(batch) <= most for batch in batches)
    assert all(len(batch) == 1 or sum(map(len, batch)) <= tokens for batch in batches)


def test_rows_are_put_where_their_index_says(encoder: E2RankEncoder, server: LoopbackServer) -> None:
    """A server may answer in any order."""
    expected = encoder.encode_documents(TEXTS)

    def backwards(handler: Handler, answer: dict[str, Any]) -> None:
        answer["data"].reverse()
        handler.answer(answer)

    server.fault = backwards
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), expected, atol=1e-6)


def test_lists_of_numbers_will_do(encoder: E2RankEncoder, server: LoopbackServer) -> None:
    """Of a server that does not know base64."""
    expected = encoder.encode_documents(TEXTS)

    def as_numbers(handler: Handler, answer: dict[str, Any]) -> None:
        for item, row in zip(answer["data"], handler.vectors, strict=True):
            item["embedding"] = [float(value) for value in row]
        handler.answer(answer)

    server.fault = as_numbers
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), expected, atol=1e-6)


def test_no_inputs_are_no_request(engine: RemoteEngine, server: LoopbackServer) -> None:
    """As of every engine."""
    assert len(engine.encode([]).vectors) == 0
    assert not server.requests


# Retries.


def flaky(server: LoopbackServer, failures: int, **headers: str) -> None:
    """503 for some requests, then all is well."""
    left = [failures]

    def fault(handler: Handler, answer: dict[str, Any]) -> None:
        left[0] -= 1
        if left[0] >= 0:
            handler.answer({}, 503, **headers)
        else:
            handler.answer(answer)

    server.fault = fault


def test_a_failure_that_passes_is_not_seen(
    encoder: E2RankEncoder, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is sent again, as it was."""
    monkeypatch.setattr(connection, "FIRST_PAUSE", 0.001)
    expected = encoder.encode_documents(TEXTS)
    flaky(server, 3)
    np.testing.assert_array_equal(encoder.encode_documents(TEXTS), expected)


def test_one_failure_too_many_is_said(
    encoder: E2RankEncoder, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how often it was tried."""
    monkeypatch.setattr(connection, "FIRST_PAUSE", 0.001)
    encoder.encode_queries([QUERY])
    flaky(server, 4)
    with pytest.raises(UnavailableError, match=r"answered 503 \(tried 4 times\)"):
        encoder.encode_queries([QUERY])


@pytest.mark.parametrize(("asked", "pause"), [("0", 0), ("3", 3), ("7200", 10), ("soon", None), (None, None)])
def test_the_server_says_how_long_to_wait(asked: str | None, pause: float | None) -> None:
    """Up to a bound; what cannot be read is not heeded."""
    found = connection._retry_after(asked)
    assert (found if found is None else connection._pause(1, found)) == pause


def test_a_date_to_wait_for_is_understood() -> None:
    """One in the past asks for no wait."""
    assert connection._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert connection._retry_after("Wed, 21 Oct 2115 07:28:00 GMT") > 1e9


def test_a_wait_beyond_the_deadline_is_not_begun(server: LoopbackServer, qwen_encoder: E2RankEncoder) -> None:
    """The failure is told at once instead of a timeout later."""
    engine = RemoteEngine(server.url, timeout=5)
    encoder = replace(qwen_encoder, custom_engine=engine)
    encoder.encode_queries([QUERY])
    flaky(server, 1, Retry_After="8")
    with pytest.raises(UnavailableError, match=r"answered 503 \(tried once\)"):
        encoder.encode_queries([QUERY])
    engine.close()


def test_nobody_there() -> None:
    """The address, what happened, what to check."""
    engine = RemoteEngine("http://127.0.0.1:1", retries=0)
    with pytest.raises(UnavailableError, match=r"^http://127.0.0.1:1/v1: no answer \(ConnectError\).*check that"):
        engine.warmup()
    engine.close()


# What the server serves.


def test_the_server_is_asked_once(encoder: E2RankEncoder, engine: RemoteEngine, server: LoopbackServer) -> None:
    """And threads that come at once wait for one answer."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: encoder.encode_queries([QUERY]), range(16)))
    assert engine.served().software == "vllm"
    assert engine.served().max_tokens == 40960
    specimens = [body for body in server.requests if len(body["input"]) == 2]
    assert len(specimens) == 1


def test_infinity_is_refused_with_the_reason(engine: RemoteEngine, server: LoopbackServer) -> None:
    """Its vectors would look right."""
    server.models = [{"id": "m", "owned_by": "infinity"}]
    with pytest.raises(ServerError, match="takes no token ids, and strips the line ends"):
        engine.warmup()


def test_a_model_that_is_not_served_is_said_with_those_that_are(server: LoopbackServer) -> None:
    """Rather than a bare 404."""
    for options in ({"model": "e2rank"}, {"listwise_model": "e2rank"}):
        engine = RemoteEngine(server.url, **options)
        with pytest.raises(ServerError, match="it serves 'tiny', and not 'e2rank'"):
            engine.warmup()
        engine.close()


def test_of_several_models_one_must_be_named(engine: RemoteEngine, server: LoopbackServer) -> None:
    """None is guessed."""
    server.models = [{"id": "a"}, {"id": "b"}]
    with pytest.raises(ServerError, match="serves 'a', 'b'; name the model"):
        engine.warmup()
    named = RemoteEngine(server.url, model="b")
    assert named.served().model == "b"
    named.close()


def test_prompts_may_have_a_model_of_their_own(server: LoopbackServer, qwen_encoder: E2RankEncoder) -> None:
    """By which a server switches an adapter on."""
    server.models = [{"id": "base"}, {"id": "prompts"}]
    engine = RemoteEngine(server.url, model="base", listwise_model="prompts")
    Reranker(replace(qwen_encoder, custom_engine=engine)).rank(QUERY, TEXTS)
    names = {(len(ids), body["model"]) for body in server.requests[1:] for ids in body["input"]}
    longest = max(length for length, _ in names)
    assert {name for length, name in names if length == longest} == {"prompts"}
    assert {name for length, name in names if length < longest} == {"base"}
    engine.close()


def test_first_token_pooling_is_found_out_on_first_use(engine: RemoteEngine, server: LoopbackServer) -> None:
    """In a causal model it would give every document that begins alike the same vector."""

    def first_token(handler: Handler, answer: dict[str, Any]) -> None:
        inputs = [TokenInput((ids[0],), "document") for ids in handler.asked["input"]]
        handler.answer(handler.answer_of(handler.server.engine.encode(inputs).vectors))

    server.fault = first_token
    for _ in range(2):  # it is not believed the second time, either
        with pytest.raises(ServerMismatchError, match="pools the first token"):
            engine.encode([TokenInput((5, 6, 7, 8), "document")])


# Threads, loops, processes.


def test_many_threads_and_loops_share_a_bound_on_requests(server: LoopbackServer, qwen_encoder: E2RankEncoder) -> None:
    """Sync and async callers together never have more in flight."""
    gauge, lock = {"now": 0, "most": 0}, threading.Lock()

    class Counting:
        def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
            with lock:
                gauge["now"] += 1
                gauge["most"] = max(gauge["now"], gauge["most"])
            encoded = qwen_encoder.engine.encode(inputs)
            with lock:
                gauge["now"] -= 1
            return encoded

    expected = qwen_encoder.encode_documents(TEXTS)
    engine = RemoteEngine(server.url, max_concurrency=3, batch_inputs=1)
    encoder = replace(qwen_encoder, custom_engine=engine)
    server.engine = Counting()
    try:
        with ThreadPoolExecutor(12) as pool:
            sync = [pool.submit(encoder.encode_documents, TEXTS) for _ in range(12)]
            loops = [pool.submit(lambda: asyncio.run(encoder.aencode_documents(TEXTS))) for _ in range(12)]
            for done in (*sync, *loops):
                np.testing.assert_allclose(done.result(), expected, atol=1e-6)
    finally:
        server.engine = qwen_encoder.engine
        engine.close()
    assert 1 <= gauge["most"] <= 3


async def test_async_calls_do_not_block_the_loop(encoder: E2RankEncoder, server: LoopbackServer) -> None:
    """Others run while the server computes."""
    await encoder.aencode_queries([QUERY])
    gate = threading.Event()

    def gated(handler: Handler, answer: dict[str, Any]) -> None:
        assert gate.wait(30), "the caller's event loop is blocked"
        handler.answer(answer)

    server.fault = gated
    waiting = asyncio.create_task(encoder.aencode_queries([QUERY]))
    await asyncio.sleep(0.05)
    gate.set()
    assert (await waiting).shape == (1, encoder.width)


async def test_a_cancelled_call_gives_its_place_back(server: LoopbackServer, qwen_encoder: E2RankEncoder) -> None:
    """The next one need not wait for what nobody waits for."""
    engine = RemoteEngine(server.url, max_concurrency=1, timeout=20)
    encoder = replace(qwen_encoder, custom_engine=engine)
    await encoder.aencode_queries([QUERY])
    begun, gate = threading.Event(), threading.Event()

    def stuck(handler: Handler, _: dict[str, Any]) -> None:
        begun.set()
        gate.wait(30)

    server.fault = stuck
    call = asyncio.create_task(encoder.aencode_queries([QUERY]))
    await asyncio.to_thread(begun.wait, 30)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    server.fault = None
    assert (await encoder.aencode_queries([QUERY])).shape == (1, encoder.width)
    gate.set()
    engine.close()


def test_one_deadline_holds_for_all_requests_of_a_call(server: LoopbackServer, qwen_encoder: E2RankEncoder) -> None:
    """Each attempt is quick enough, all of them one after the other are not."""
    engine = RemoteEngine(server.url, timeout=1, retries=9)
    patiently(lambda: engine.encode([TokenInput((1, 2), "document")]))

    def slow(handler: Handler, answer: dict[str, Any]) -> None:
        server.stopped.wait(0.3)
        handler.answer({}, 503, Retry_After="0")

    server.fault = slow
    with pytest.raises(EngineTimeoutError, match="within 1 s; raise timeout"):
        engine.encode([TokenInput((1, 2), "document")])
    engine.close()


def test_a_call_of_many_rounds_has_as_many_times_as_long(server: LoopbackServer) -> None:
    """So that a corpus in one call need not know how long it takes."""
    engine = RemoteEngine(server.url, max_concurrency=1, batch_inputs=1, timeout=1)
    patiently(lambda: engine.encode([TokenInput((1, 2), "document")]))

    def slow(handler: Handler, answer: dict[str, Any]) -> None:
        server.stopped.wait(0.3)
        handler.answer(answer)

    server.fault = slow
    assert len(engine.encode([TokenInput((1, i), "document") for i in range(2, 8)]).vectors) == 6
    engine.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own(encoder: E2RankEncoder) -> None:
    """Its parent's belong to a thread that the child does not have."""
    inputs = encoder.query_inputs([QUERY])
    expected = encoder.custom_engine.encode(inputs).vectors
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # which must not go on with the tests, nor last for ever
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)
            os.write(writer, encoder.custom_engine.encode(inputs).vectors.tobytes())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as written:
        found = np.frombuffer(written.read(), np.float32)
    os.waitpid(child, 0)
    np.testing.assert_allclose(found, expected[0], atol=1e-6)


def test_after_closing_the_next_call_opens_again(encoder: E2RankEncoder) -> None:
    """As of every engine."""
    before = encoder.encode_queries([QUERY])
    encoder.close()
    encoder.close()
    np.testing.assert_array_equal(encoder.encode_queries([QUERY]), before)


# Options.


def test_the_key_is_sent_and_never_shown(server: LoopbackServer) -> None:
    """Not by `repr`, nor by a serialiser that goes through attributes; a copy and a pickle keep it."""
    engine = RemoteEngine(server.url, api_key="sk-secret")
    for same in (engine, deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        assert same == engine
        assert hash(same) == hash(engine)
        same.encode([TokenInput((1, 2), "document")])
        assert "sk-secret" not in f"{same!r}{same}{vars(same)}"
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer sk-secret"}
    assert engine != RemoteEngine(server.url, api_key="sk-other")
    engine.close()


def test_the_environment_names_server_and_key(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an argument comes before it."""
    monkeypatch.setenv("E2RANK_BASE_URL", server.url)
    monkeypatch.setenv("E2RANK_API_KEY", "sk-env")
    RemoteEngine().encode([TokenInput((1, 2), "document")])
    assert server.headers[-1]["Authorization"] == "Bearer sk-env"
    RemoteEngine(api_key="").encode([TokenInput((1, 2), "document")])
    assert "Authorization" not in server.headers[-1]
    assert RemoteEngine("http://other").base_url == "http://other/v1"
    for engine in (RemoteEngine(), RemoteEngine(api_key="")):
        engine.close()


@pytest.mark.parametrize(
    ("given", "base_url"),
    [
        ("http://gpu:8000", "http://gpu:8000/v1"),
        ("http://gpu:8000/", "http://gpu:8000/v1"),
        ("https://gpu/v1/", "https://gpu/v1"),
        ("https://gpu/v1/embeddings", "https://gpu/v1"),
        ("https://gpu/openai", "https://gpu/openai"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1"),
    ],
)
def test_an_address_is_read_as_it_is_often_written(given: str, base_url: str) -> None:
    """With or without `/v1`, a slash, or the route."""
    assert RemoteEngine(given).base_url == base_url


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": ""},
        {"base_url": "gpu:8000"},
        {"base_url": "ftp://gpu"},
        {"base_url": "http://"},
        {"base_url": "http://gpu:eighty"},
        {"base_url": "http://g pu"},
        {"base_url": "http://xn--zz--9"},
        {"base_url": 8000},
        {"base_url": "http://user:sk-secret@gpu/v1"},
        {"base_url": "http://gpu/v1?key=sk-secret"},
        {"api_key": "sk-secret\n"},
        {"api_key": "sk-secrét"},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": True},
        {"max_concurrency": 0},
        {"batch_inputs": 1.5},
        {"batch_tokens": None},
        {"retries": -1},
        {"retries": True},
        {"verify": None},
        {"verify": "/no/such/file.pem"},
        {"verify": b"/no/such/file.pem"},
        {"model": ""},
        {"model": "\ud800"},
        {"listwise_model": 3},
    ],
)
def test_an_option_out_of_its_range_is_refused_when_the_engine_is_made(options: dict[str, Any]) -> None:
    """Named, and a key in the wrong place is not repeated."""
    with pytest.raises(InputError, match=f"^{next(iter(options))}: ") as caught:
        RemoteEngine(**{"base_url": "http://gpu", **options})
    assert "sk-" not in str(caught.value)


def test_without_an_address_it_says_where_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Constructor or environment."""
    monkeypatch.delenv("E2RANK_BASE_URL", raising=False)
    with pytest.raises(InputError, match="E2RANK_BASE_URL"):
        RemoteEngine()


# With the rest of the package.


def test_reranking_is_as_in_this_process(encoder: E2RankEncoder, qwen_encoder: E2RankEncoder) -> None:
    """The same order, scores and bill."""
    candidates = [Candidate(text, id=str(i)) for i, text in enumerate(TEXTS)]
    here, there = (Reranker(one).rank(QUERY, candidates) for one in (qwen_encoder, encoder))
    assert [item.candidate.id for item in there] == [item.candidate.id for item in here]
    np.testing.assert_allclose([item.score for item in there], [item.score for item in here], atol=1e-6)
    assert there.usage == here.usage


def test_a_document_cache_saves_requests(encoder: E2RankEncoder, server: LoopbackServer) -> None:
    """What is kept is not asked for again."""
    cached = replace(encoder, document_cache=MemoryCache())
    before = cached.encode_documents(TEXTS)
    asked = len(server.requests)
    np.testing.assert_array_equal(cached.encode_documents(TEXTS), before)
    assert len(server.requests) == asked


def test_a_model_whose_prompts_need_an_adapter_is_refused(
    embedded_encoder: E2RankEncoder, engine: RemoteEngine
) -> None:
    """A server that knows one model alone would leave the adapter out without a word."""
    with pytest.raises(InputError, match="listwise_model"):
        replace(embedded_encoder, custom_engine=engine)
    assert replace(embedded_encoder, custom_engine=engine, listwise_adapter=None).custom_engine is engine
    named = replace(engine, listwise_model="prompts")
    assert replace(embedded_encoder, custom_engine=named).custom_engine is named
