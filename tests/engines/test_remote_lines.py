"""What goes over the line, and what becomes of the line: certificates, proxies, cookies, cancelling, closing."""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
import random
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2rank_integrations import Candidate, DiskCache, MemoryCache, RemoteEngine, Reranker
from e2rank_integrations.engines import connection
from e2rank_integrations.engines.session import Session
from e2rank_integrations.errors import (
    InputError,
    ServerError,
    StoreMismatchError,
    TransientError,
    UnavailableError,
)
from e2rank_integrations.stores import expect_same_embedding
from e2rank_integrations.values import TokenInput
from tests.support.loopback import MODEL, LoopbackServer, loopback_server
from tests.support.tls import self_signed, tls_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from e2rank_integrations import E2RankEncoder
    from tests.support.loopback import Handler

QUERY = "what falls"
SHORT = [TokenInput((5, 6, 7), "document")]


@pytest.fixture
def engine(server: LoopbackServer) -> Iterator[RemoteEngine]:
    engine = RemoteEngine(server.url)
    yield engine
    engine.close()


# Certificates.


def test_a_certificate_is_checked_against_the_file_that_was_given(server: LoopbackServer, tmp_path: Path) -> None:
    """And one that is not trusted is said at once, whatever the route."""
    with tls_proxy(server.server_port, tmp_path) as (proxy, certificate):
        url = f"https://127.0.0.1:{proxy.server_port}/v1"
        options = {"api_key": "k3y-of-the-t3sts", "retries": 3}
        trusting = RemoteEngine(url, verify=str(certificate), **options)
        assert trusting.encode(SHORT).vectors.shape == (1, 64)
        careless = RemoteEngine(url, verify=False, **options)
        assert careless.encode(SHORT).vectors.shape == (1, 64)
        wary = RemoteEngine(url, **options)
        named = RemoteEngine(url, model=MODEL, **options)
        for engine in (wary, named):
            with pytest.raises(ServerError, match=r"its certificate is not trusted \(self.signed.*verify='ca.pem'"):
                engine.encode(SHORT)
        for engine in (trusting, careless, wary, named):
            engine.close()


def test_a_certificate_of_another_name_is_said_as_that(server: LoopbackServer, tmp_path: Path) -> None:
    """Not as one of an unknown authority."""
    with tls_proxy(server.server_port, tmp_path) as (proxy, certificate):
        engine = RemoteEngine(f"https://localhost:{proxy.server_port}", verify=certificate, retries=3)
        with pytest.raises(ServerError, match=r"not trusted \(Hostname mismatch, .*valid for 'localhost'\); if an"):
            engine.encode(SHORT)
        engine.close()


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_that_cannot_work_is_told_at_once(
    server: LoopbackServer, tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    """A certificate of the client's is wanted, at either of two moments; it is no failure that passes."""
    with tls_proxy(server.server_port, tmp_path) as (proxy, certificate):
        proxy.context.maximum_version = newest
        proxy.context.verify_mode = ssl.CERT_REQUIRED
        engine = RemoteEngine(f"https://127.0.0.1:{proxy.server_port}", verify=certificate, retries=3)
        with pytest.raises(ServerError, match=r"no TLS connection \(\w+\); .*wants a client's certificate"):
            await engine.aencode(SHORT)
        engine.close()


def test_a_server_without_tls_is_told_at_once(server: LoopbackServer) -> None:
    """Its address begins with http."""
    engine = RemoteEngine(f"https://127.0.0.1:{server.server_port}", retries=3)
    with pytest.raises(ServerError, match=r"no TLS connection \(WRONG_VERSION_NUMBER\); .*http://"):
        engine.encode(SHORT)
    engine.close()


def test_a_connection_that_breaks_off_before_tls_may_pass() -> None:
    """As a server does that is not up yet."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        engine = RemoteEngine(f"https://127.0.0.1:{listening.getsockname()[1]}", retries=0)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(engine.encode, SHORT)
            connection, _ = listening.accept()
            connection.recv(1 << 12)
            connection.close()
            with pytest.raises(UnavailableError, match="no answer"):
                call.result(20)
    engine.close()


def test_certificates_are_found_from_another_folder_or_missed_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine may be unpickled where the file is not."""
    certificate, _ = self_signed(tmp_path)
    monkeypatch.chdir(tmp_path)
    engine = RemoteEngine("https://127.0.0.1:1", verify=certificate.name, retries=0)
    assert engine.verify == str(certificate)
    assert engine == RemoteEngine("https://127.0.0.1:1", verify=certificate, retries=0)
    travelled = pickle.dumps(engine)
    certificate.unlink()
    with pytest.raises(InputError, match=r"verify: no certificates in .*server.pem"):
        pickle.loads(travelled).encode(SHORT)


def test_a_file_without_certificates_is_refused_when_the_engine_is_made(tmp_path: Path) -> None:
    """Not at the first call."""
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(InputError, match=r"verify: .*certificates in PEM"):
        RemoteEngine("https://gpu", verify=str(tmp_path / "ca.pem"))


# What goes along.


def test_no_proxy_is_taken_from_the_environment(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and ids go to the server that was named, and nowhere else."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    engine = RemoteEngine(server.url, retries=0)
    assert engine.encode(SHORT).vectors.shape == (1, 64)
    engine.close()


def test_cookies_are_not_kept(engine: RemoteEngine, server: LoopbackServer) -> None:
    """They would tie all requests to one replica."""

    def sticky(handler: Handler, answer: dict[str, Any]) -> None:
        handler.answer(answer, Set_Cookie="replica=7; Path=/")

    server.fault = sticky
    engine.encode(SHORT)
    engine.encode(SHORT)
    assert all("Cookie" not in headers for headers in server.headers)


def test_the_key_is_hidden_from_whoever_walks_through_attributes(server: LoopbackServer) -> None:
    """As tracers and serialisers do; a changed copy keeps it."""
    engine = RemoteEngine(server.url, api_key="sk-secret")
    copy = replace(engine, timeout=3)
    copy.encode(SHORT)
    assert server.headers[-1]["Authorization"] == "Bearer sk-secret"
    walked = [str(engine.endpoint), json.dumps(asdict(copy), default=str), json.dumps(vars(copy), default=repr)]
    assert "sk-secret" not in "".join(walked)
    with pytest.raises(TypeError):
        vars(engine.api_key)
    copy.close()


def test_a_copy_without_a_key_stays_without(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that has one for another server does not change that."""
    engine = RemoteEngine(server.url, api_key="")
    monkeypatch.setenv("E2RANK_API_KEY", "sk-other")
    copy = replace(engine, timeout=3)
    copy.encode(SHORT)
    assert "Authorization" not in server.headers[-1]
    copy.close()


# The list of models.


def test_the_list_is_asked_for_once(engine: RemoteEngine, server: LoopbackServer) -> None:
    """By many threads at once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: engine.encode(SHORT), range(16)))
    assert server.asked == ["/v1/models"]


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_a_list_will_do_for_a_named_model(server: LoopbackServer, status: int) -> None:
    """Without a name there is nothing to ask for."""
    server.listing = status
    try:
        named, nameless = RemoteEngine(server.url, model="m"), RemoteEngine(server.url)
        assert named.encode(SHORT).vectors.shape == (1, 64)
        with pytest.raises(ServerError, match="does not say what it serves; name the model"):
            nameless.encode(SHORT)
    finally:
        server.listing = 200
    named.close()
    nameless.close()


@pytest.mark.parametrize(
    ("status", "says"), [(301, "redirects are not followed"), (401, "a key is wanted"), (400, "400")]
)
def test_what_is_wrong_with_the_list_is_said_as_it_is(server: LoopbackServer, status: int, says: str) -> None:
    """Not as a model that lacks a name."""
    server.listing = status
    engine = RemoteEngine(server.url)
    try:
        with pytest.raises(ServerError, match=says):
            engine.encode(SHORT)
    finally:
        server.listing = 200
        engine.close()


def test_a_long_list_does_not_fill_a_message(engine: RemoteEngine, server: LoopbackServer) -> None:
    """A server's words reach logs in small portions."""
    server.models = [{"id": f"{number}" * 1000} for number in range(100, 200)]
    with pytest.raises(ServerError, match="…; name the model") as caught:
        engine.warmup()
    assert len(str(caught.value)) < 800


def test_a_name_that_no_request_can_carry_is_passed_over(engine: RemoteEngine, server: LoopbackServer) -> None:
    """Half a character, as a list of models may have it."""
    server.models = [{"id": "\ud800"}, {"id": ""}, {"id": "m"}]
    assert engine.served().model == "m"


def test_what_a_server_says_of_itself_is_cut_and_escaped(engine: RemoteEngine, server: LoopbackServer) -> None:
    """It must not fill or command a terminal."""
    server.models = [{"id": "\x1b[2J" * 10_000, "owned_by": "\x1b]0;" * 10_000}]
    said = str(engine.served())
    assert said.isprintable()
    assert len(said) < 1000


@pytest.mark.parametrize("begun", [RemoteEngine.warmup, lambda engine: engine.encode(SHORT)])
def test_a_server_that_begins_anew_under_another_name_is_asked_again(
    engine: RemoteEngine, server: LoopbackServer, begun: Callable[[RemoteEngine], object]
) -> None:
    """The call that found out fails, and no other after it."""
    begun(engine)
    server.models = [{"id": "new"}]

    def by_name(handler: Handler, answer: dict[str, Any]) -> None:
        handler.answer(answer, 200 if handler.asked["model"] == "new" else 404)

    server.fault = by_name
    with pytest.raises(ServerError, match="404"):
        engine.encode(SHORT)
    assert engine.encode(SHORT).vectors.shape == (1, 64)
    assert engine.served().model == "new"


def test_ids_that_repeat_do_not_accuse_a_server(engine: RemoteEngine, server: LoopbackServer) -> None:
    """Two inputs of one id alone have one vector; what tells them apart is waited for."""
    repeated = TokenInput((5,) * 8 + (9, 5), "document")
    server.fault = lambda handler, _: handler.answer(handler.answer_of(sums_of_ids(handler)))
    assert engine.encode([repeated]).vectors.shape == (1, 64)
    assert engine.encode(SHORT).vectors.shape == (1, 64)
    assert [len(body["input"]) for body in server.requests] == [1, 2, 1]


def sums_of_ids(handler: Handler) -> Any:
    """Vectors that inputs of one id have in common, whatever their length, as a causal model's are."""
    rows = np.array([[np.mean(ids), *([1.0] * 63)] for ids in handler.asked["input"]], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_callers_of_a_server_that_is_not_there_fail_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for one attempt, and not each for those before it."""
    monkeypatch.setattr(connection, "FIRST_PAUSE", 0.001)
    engine = RemoteEngine("http://127.0.0.1:1", retries=2, timeout=20)
    counted: list[int] = []
    sent = connection.Connection._sent
    all_wait = asyncio.Event()  # on the package's loop
    entered(monkeypatch, Session, "served", 24, all_wait.set)

    async def counting(self: connection.Connection, request: connection.Request) -> bytes:
        await all_wait.wait()
        counted.append(1)
        return await sent(self, request)

    monkeypatch.setattr(connection.Connection, "_sent", counting)

    async def all_at_once() -> list[BaseException | object]:
        return await asyncio.gather(*(engine.aencode(SHORT) for _ in range(24)), return_exceptions=True)

    outcomes = asyncio.run(all_at_once())
    assert {type(outcome) for outcome in outcomes} == {UnavailableError}
    assert len(counted) == 3
    engine.close()


def entered(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, times: int, then: Callable[[], object]) -> None:
    """Have something done on the package's loop when a coroutine is begun so many times, counted from now.

    What another thread starts on that loop thereupon finds the coroutine where it waits for the first time.
    """
    method, count = getattr(owner, name), itertools.count(1)

    async def counting(*arguments: Any) -> Any:
        if next(count) == times:
            then()
        return await method(*arguments)

    monkeypatch.setattr(owner, name, counting)


def test_one_token_does_not_stand_for_the_first_use(engine: RemoteEngine, server: LoopbackServer) -> None:
    """Nothing can be compared with it, so what comes next is."""

    def constant(handler: Handler, answer: dict[str, Any]) -> None:
        vectors = np.zeros_like(handler.vectors)
        vectors[:, 0] = 1
        handler.answer(handler.answer_of(vectors))

    server.fault = constant
    assert len(engine.encode([TokenInput((5,), "document")]).vectors) == 1
    with pytest.raises(Exception, match="does not read its input"):
        engine.encode(SHORT)


def test_an_input_without_ids_is_refused(engine: RemoteEngine) -> None:
    """With its place."""
    with pytest.raises(InputError, match="input 1: it has no ids"):
        engine.encode([*SHORT, TokenInput((), "document")])


# Cancelling and closing.


def test_a_storm_of_cancelled_calls_leaves_the_engine_alive(
    server: LoopbackServer, qwen_encoder: E2RankEncoder
) -> None:
    """Each gives its place back, whenever it was cancelled."""
    engine = RemoteEngine(server.url, max_concurrency=2, batch_inputs=1, timeout=30)
    inputs = [TokenInput((5, 6, i), "document") for i in range(7, 13)]
    expected = engine.encode(inputs).vectors
    chance = random.Random(0)

    async def storm() -> None:
        for _ in range(60):
            calls = [asyncio.create_task(engine.aencode(inputs)) for _ in range(3)]
            await asyncio.sleep(chance.random() * 0.01)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(storm())
    np.testing.assert_allclose(engine.encode(inputs).vectors, expected, atol=1e-6)
    engine.close()


def test_closing_ends_calls_in_flight_with_a_typed_error(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait for an answer, and those that wait for their turn."""
    engine = RemoteEngine(server.url, max_concurrency=1, batch_inputs=1, timeout=20)
    engine.encode(SHORT)
    begun, all_wait, closed = threading.Event(), threading.Event(), threading.Event()
    entered(monkeypatch, connection.Connection, "send", 3, all_wait.set)

    def stuck(handler: Handler, _: dict[str, Any]) -> None:
        begun.set()
        closed.wait(20)
        handler.close_connection = True

    server.fault = stuck
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(engine.encode, SHORT) for _ in range(3)]
        assert begun.wait(20)
        assert all_wait.wait(20)
        engine.close()
        closed.set()
        server.fault = None
        for call in calls:
            with pytest.raises(TransientError):
                call.result(20)
    assert engine.encode(SHORT).vectors.shape == (1, 64)
    engine.close()


def test_a_large_call_does_not_queue_before_everybody_else(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rerank beside an indexing job gets its turn after the requests in flight, not after the whole job."""
    engine = RemoteEngine(server.url, max_concurrency=2, batch_inputs=1)
    engine.encode(SHORT)
    server.requests.clear()
    in_flight, waits, gate = threading.Barrier(3), threading.Event(), threading.Event()
    entered(monkeypatch, connection.Connection, "send", 3, waits.set)

    def gated(handler: Handler, answer: dict[str, Any]) -> None:
        if not gate.is_set():
            in_flight.wait(20)
        assert gate.wait(20)
        handler.answer(answer)

    server.fault = gated
    many = [TokenInput((5, 6, i), "document") for i in range(50, 80)]
    with ThreadPoolExecutor(2) as pool:
        job = pool.submit(engine.encode, many)
        in_flight.wait(20)
        short = pool.submit(engine.encode, SHORT)
        assert waits.wait(20)
        gate.set()
        assert len(job.result(20).vectors) == len(many)
        assert len(short.result(20).vectors) == 1
    place = [body["input"] for body in server.requests].index([[5, 6, 7]])
    assert place in {2, 3}  # after the two in flight, beside the next of the job
    engine.close()


# Whose weights they are.


def other_server(tmp_path: Path) -> Any:
    """One that runs another model of the same width."""
    from e2rank_integrations import E2RankEncoder
    from tests.support.models import save_qwen3

    other = E2RankEncoder(str(save_qwen3(tmp_path / "other", seed=1)), device="cpu", dtype="float32")
    return loopback_server(other.engine)


class Records:
    """An index with a fingerprint, whose records were embedded by one encoder."""

    identity = ("records",)

    def __init__(self, encoder: E2RankEncoder) -> None:
        texts = ["Apples fall from trees.", "Tea is hot."]
        self.fingerprint = encoder.fingerprint.to_json()
        self.records = [
            Candidate(text, id=text, vector=row, vector_source="store")
            for text, row in zip(texts, encoder.encode_documents(texts), strict=True)
        ]

    def sample(self) -> list[Candidate]:
        return self.records


def test_files_at_hand_do_not_vouch_for_a_server(
    qwen_encoder: E2RankEncoder, engine: RemoteEngine, tmp_path: Path
) -> None:
    """An index of this model is compared by its vectors with what each server makes, whatever was found of another."""
    store = Records(qwen_encoder)
    good = replace(qwen_encoder, custom_engine=engine)
    with other_server(tmp_path) as wrong:
        bad = replace(qwen_encoder, custom_engine=RemoteEngine(wrong.url))
        assert bad.fingerprint.weights is None
        for _ in range(2):
            with pytest.raises(StoreMismatchError, match="cosine"):
                expect_same_embedding(store, bad)
            expect_same_embedding(store, good)
        bad.close()


def test_an_index_made_on_a_server_is_read_in_process_and_the_other_way_round(
    qwen_encoder: E2RankEncoder, engine: RemoteEngine
) -> None:
    """After a look at a few of its vectors."""
    remote = replace(qwen_encoder, custom_engine=engine)
    assert "weights" not in remote.fingerprint.differences(qwen_encoder.fingerprint)
    expect_same_embedding(Records(remote), qwen_encoder)
    expect_same_embedding(Records(qwen_encoder), remote)


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_document_cache_tells_servers_apart(
    qwen_encoder: E2RankEncoder, engine: RemoteEngine, tmp_path: Path, kind: str
) -> None:
    """And a server from this process: no vector of one is another's."""
    cache = MemoryCache() if kind == "memory" else DiskCache(tmp_path / "cache")
    with other_server(tmp_path) as wrong:
        engines = (RemoteEngine(wrong.url), engine, None)
        encoders = [replace(qwen_encoder, custom_engine=one, document_cache=cache) for one in engines]
        vectors = [encoder.encode_documents(["Apples fall."])[0] for encoder in encoders]
        assert abs(float(vectors[0] @ vectors[1])) < 0.9
        assert float(vectors[1] @ vectors[2]) == pytest.approx(1, abs=1e-6)
        engines[0].close()
    cache.close()


def test_a_server_that_is_gone_costs_many_queries_one_call(server: LoopbackServer, qwen_encoder: E2RankEncoder) -> None:
    """Not one after the other, each with its own deadline."""
    engine = RemoteEngine(server.url, retries=0)
    reranker = Reranker(replace(qwen_encoder, custom_engine=engine), on_error="keep_order")
    engine.encode(SHORT)
    server.requests.clear()
    server.fault = lambda handler, _: handler.answer({}, 503)
    rankings = reranker.rank_many([(QUERY, ["a text", f"another {i}"]) for i in range(6)])
    assert all(isinstance(ranking.error, UnavailableError) for ranking in rankings)
    assert [len(ranking) for ranking in rankings] == [2] * 6
    assert len(server.requests) <= 2
    engine.close()
