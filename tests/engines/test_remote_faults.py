"""Every way in which an embedding server can fail, over real sockets, and what a user sees of it."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2rank_integrations import Candidate, RemoteEngine, Reranker
from e2rank_integrations.engines import connection
from e2rank_integrations.errors import (
    AuthenticationError,
    E2RankError,
    EngineTimeoutError,
    NonFiniteError,
    ProtocolError,
    ServerError,
    ServerMismatchError,
    TransientError,
    UnavailableError,
)
from tests.support.loopback import Handler, LoopbackServer, encoded, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2rank_integrations import E2RankEncoder

KEY = "sk-do-not-show"
QUERY = "which fruit falls"
TEXTS = [f"Passage {number} about apples and gravity." for number in range(5)]
RETRIES = 2
DRIPS = 200
LONG = 40
"""Tokens that none of the texts has."""


def status(code: int, **headers: str) -> Callable[[Handler, dict[str, Any]], None]:
    """A status with a body that repeats what no message may repeat."""
    return lambda handler, _: handler.answer({"error": f"{QUERY} {KEY}"}, code, **headers)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Handler, dict[str, Any]], None]:
    """The honest answer, changed in place."""

    def fault(handler: Handler, answer: dict[str, Any]) -> None:
        change(answer)
        handler.answer(answer)

    return fault


def every_row(make: Callable[[np.ndarray], object]) -> Callable[[Handler, dict[str, Any]], None]:
    """The honest answer with other rows."""

    def change(answer: dict[str, Any]) -> None:
        for item in answer["data"]:
            item["embedding"] = make(np.frombuffer(base64.b64decode(item["embedding"]), dtype="<f4").copy())

    return changed(change)


def first_row(value: object) -> Callable[[Handler, dict[str, Any]], None]:
    """The honest answer whose first row is something else."""
    return changed(lambda answer: answer["data"][0].update(embedding=value))


def reset(handler: Handler, _: dict[str, Any]) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def hang_up(handler: Handler, _: dict[str, Any]) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def cut_short(handler: Handler, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    hang_up(handler, answer)


def silent(handler: Handler, _: dict[str, Any]) -> None:
    handler.server.stopped.wait(30)
    handler.close_connection = True


def dripped(handler: Handler, answer: dict[str, Any]) -> None:
    """One byte after the other: each read succeeds, the whole never ends."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(DRIPS))
    handler.end_headers()
    _drip(handler, b"{" * DRIPS)


def dripped_headers(handler: Handler, answer: dict[str, Any]) -> None:
    _drip(handler, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * DRIPS)


def _drip(handler: Handler, data: bytes) -> None:
    for byte in data:
        if handler.server.stopped.wait(0.05):
            break
        handler.wfile.write(bytes([byte]))
    handler.close_connection = True


def flood(handler: Handler, _: dict[str, Any]) -> None:
    """An answer without an announced length that is larger than any answer may be."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    for _ in range(64):
        handler.wfile.write(b" " * (1 << 17))
    handler.close_connection = True


def bomb(handler: Handler, _: dict[str, Any]) -> None:
    """Ten kilobytes that would be ten megabytes."""
    handler.raw(gzip.compress(b"0" * 10_000_000), Content_Encoding="gzip")


def not_http(handler: Handler, _: dict[str, Any]) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    handler.close_connection = True


def twice_tokens(count: Callable[[int, int], int]) -> Callable[[Handler, dict[str, Any]], None]:
    """The honest answer with another count, made of tokens and inputs."""

    def change(answer: dict[str, Any]) -> None:
        answer["usage"]["prompt_tokens"] = count(answer["usage"]["prompt_tokens"], len(answer["data"]))

    return changed(change)


@dataclass(frozen=True)
class Case:
    """A fault, the error it becomes, words of its message, and how often a request is sent."""

    fault: Callable[[Handler, dict[str, Any]], None]
    error: type[E2RankError]
    says: str
    requests: int = 1


CASES = {
    "reset": Case(reset, UnavailableError, "no answer", 1 + RETRIES),
    "hangs up": Case(hang_up, UnavailableError, "no answer", 1 + RETRIES),
    "body cut short": Case(cut_short, UnavailableError, "no answer", 1 + RETRIES),
    "no HTTP": Case(not_http, UnavailableError, "no answer", 1 + RETRIES),
    "500": Case(status(500), UnavailableError, "answered 500", 1 + RETRIES),
    "501": Case(status(501), ServerError, "was it started to embed?"),
    "502": Case(status(502), UnavailableError, "answered 502", 1 + RETRIES),
    "503": Case(status(503, Retry_After="0"), UnavailableError, "answered 503", 1 + RETRIES),
    "504": Case(status(504, Retry_After="soon"), UnavailableError, "answered 504", 1 + RETRIES),
    "429": Case(status(429, Retry_After="0"), UnavailableError, "answered 429", 1 + RETRIES),
    "503, come back in a geological age": Case(
        status(503, Retry_After="Mon, 01 Jan 99999999999 00:00:00 GMT"), UnavailableError, "answered 503", 1 + RETRIES
    ),
    "429, come back tomorrow": Case(status(429, Retry_After="86400"), UnavailableError, "answered 429", 1 + RETRIES),
    "408": Case(status(408), UnavailableError, "answered 408", 1 + RETRIES),
    "never answers": Case(silent, EngineTimeoutError, "within 1 s"),
    "drips its body": Case(dripped, EngineTimeoutError, "within 1 s"),
    "drips its headers": Case(dripped_headers, EngineTimeoutError, "within 1 s"),
    "400": Case(status(400), ServerError, "status 400 for 1 listwise input of up to"),
    "413": Case(status(413), ServerError, "longer than the server takes"),
    "422": Case(status(422), ServerError, "the server's log says why"),
    "404": Case(status(404), ServerError, "base_url ends in /v1"),
    "401": Case(status(401), AuthenticationError, "a key was not accepted"),
    "403": Case(status(403), AuthenticationError, "E2RANK_API_KEY"),
    "301": Case(status(301, Location="http://127.0.0.1:1/v1/embeddings"), ServerError, "redirects are not followed"),
    "307 elsewhere": Case(status(307, Location="http://example.com/"), ServerError, "redirects are not followed"),
    "307 to no address": Case(status(307, Location="http://[::1"), ServerError, "redirects are not followed"),
    "307 to no text": Case(status(307, Location="\x7f"), ServerError, "redirects are not followed"),
    "307 to no name": Case(status(307, Location="https://xn--zz--/"), ServerError, "redirects are not followed"),
    "204": Case(lambda handler, _: handler.raw(b"", 204), ProtocolError, "expected 200"),
    "flood": Case(flood, ProtocolError, "more than the"),
    "gzip bomb": Case(bomb, ProtocolError, "compressed"),
    "HTML": Case(lambda handler, _: handler.raw(b"<html>busy</html>"), ProtocolError, "is not JSON"),
    "empty": Case(lambda handler, _: handler.raw(b""), ProtocolError, "is not JSON"),
    "deep JSON": Case(lambda handler, _: handler.raw(b"[" * 200_000), ProtocolError, "is not JSON"),
    "a list": Case(lambda handler, _: handler.answer([1]), ProtocolError, "not a JSON object but a list"),
    "an error as 200": Case(lambda handler, _: handler.answer({"error": KEY}), ProtocolError, "'data'"),
    "data of strings": Case(changed(lambda a: a.update(data=["x"])), ProtocolError, "'data'"),
    "no rows": Case(changed(lambda a: a["data"].clear()), ProtocolError, "found 0 rows"),
    "a row twice": Case(changed(lambda a: a["data"].append(a["data"][0])), ProtocolError, "found 2 rows for 1"),
    "index out of range": Case(changed(lambda a: a["data"][0].update(index=1)), ProtocolError, "each once"),
    "negative index": Case(changed(lambda a: a["data"][0].update(index=-1)), ProtocolError, "each once"),
    "no index": Case(changed(lambda a: a["data"][0].pop("index")), ProtocolError, "each once"),
    "index true": Case(changed(lambda a: a["data"][0].update(index=False)), ProtocolError, "each once"),
    "index in a list": Case(changed(lambda a: a["data"][0].update(index=[0])), ProtocolError, "each once"),
    "no usage": Case(changed(lambda a: a.pop("usage")), ProtocolError, "usage.prompt_tokens"),
    "usage in words": Case(changed(lambda a: a["usage"].update(prompt_tokens="9")), ProtocolError, "prompt_tokens"),
    "no base64": Case(first_row("*" * 8), ProtocolError, "neither base64"),
    "base64 of 3 bytes": Case(first_row("AAAA"), ProtocolError, "neither base64"),
    "null": Case(first_row(None), ProtocolError, "neither base64"),
    "numbers as strings": Case(first_row(["1", "0"]), ProtocolError, "neither base64"),
    "a number no float holds": Case(first_row([10**400]), ProtocolError, "neither base64"),
    "empty vector": Case(every_row(lambda row: ""), ServerMismatchError, "length 1"),
    "NaN in base64": Case(every_row(lambda row: encoded(row * np.nan)), NonFiniteError, "NaN"),
    "NaN in JSON": Case(every_row(lambda row: [float("nan")] * len(row)), NonFiniteError, "NaN"),
    "1e999": Case(
        lambda handler, answer: handler.raw(
            json.dumps(answer).replace(json.dumps(answer["data"][0]["embedding"]), "[1e999]").encode()
        ),
        NonFiniteError,
        "infinity",
    ),
    "1e300": Case(first_row([1e300, 0.0]), NonFiniteError, "infinity"),
    "zero vector": Case(every_row(lambda row: encoded(row * 0)), ServerMismatchError, "found 0"),
    "not normalised": Case(every_row(lambda row: encoded(row * 7)), ServerMismatchError, "does not normalise"),
    "another width": Case(every_row(lambda row: encoded(unit(row[:16]))), ServerMismatchError, "width 64, found 16"),
    "a closing token of its own": Case(twice_tokens(lambda t, n: t + n), ServerMismatchError, "adds 1 to each input"),
    "decodes ids": Case(twice_tokens(lambda t, n: t + 40 * n), ServerMismatchError, "decodes them and encodes"),
    "numbers beyond a square": Case(every_row(lambda row: [3e38] * len(row)), ServerMismatchError, "length 1"),
    "cuts": Case(twice_tokens(lambda t, n: t - 9), ServerMismatchError, "cuts long inputs"),
}


def unit(row: np.ndarray) -> np.ndarray:
    return row / np.linalg.norm(row)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    monkeypatch.setattr(connection, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(connection, "LONGEST_PAUSE", 0.002)


@pytest.fixture
def remote(server: LoopbackServer, qwen_encoder: E2RankEncoder) -> Iterator[E2RankEncoder]:
    """An encoder on that server, which was in order when it began."""
    engine = RemoteEngine(server.url, api_key=KEY, retries=RETRIES, timeout=30.0)
    encoder = replace(qwen_encoder, custom_engine=engine)
    encoder.encode_queries([QUERY])
    server.requests.clear()
    yield encoder
    engine.close()


@pytest.fixture
def hurried(remote: E2RankEncoder) -> Iterator[E2RankEncoder]:
    """The same with a deadline of a second."""
    engine = replace(remote.custom_engine, timeout=1.0)
    encoder = replace(remote, custom_engine=engine)
    patiently(lambda: encoder.encode_queries([QUERY]))
    yield encoder
    engine.close()


def candidates(encoder: E2RankEncoder) -> list[Candidate]:
    """With stored vectors, so that a rerank sends one prompt alone."""
    vectors = encoder.encode_documents(TEXTS)
    return [Candidate(text, id=str(i), vector=row) for i, (text, row) in enumerate(zip(TEXTS, vectors, strict=True))]


@pytest.mark.parametrize("name", CASES)
async def test_a_fault_is_the_right_error(
    remote: E2RankEncoder, server: LoopbackServer, request: pytest.FixtureRequest, name: str
) -> None:
    """It costs the requests that it may, `keep_order` absorbs what may pass, and afterwards the engine goes on."""
    case, given = CASES[name], candidates(remote)
    encoder = request.getfixturevalue("hurried") if case.error is EngineTimeoutError else remote
    server.requests.clear()
    server.fault = case.fault
    with pytest.raises(case.error) as caught:
        Reranker(encoder, query_weight=0).rank(QUERY, given)
    assert len(server.requests) == case.requests
    expect_told(case, caught.value)
    await expect_absorbed(case, Reranker(encoder, query_weight=0, on_error="keep_order"), given)
    server.fault = None  # no broken connection is used again, and no row of a broken answer is left behind
    found = patiently(lambda: encoder.encode_documents(TEXTS))
    np.testing.assert_allclose(found, [candidate.vector for candidate in given], atol=1e-6)


def expect_told(case: Case, error: Exception) -> None:
    """The error's type and words; neither the key nor a text is in it."""
    assert type(error) is case.error
    assert case.says in str(error)
    said = "".join(str(cause) for cause in chain(error))
    assert KEY not in said
    assert "apples" not in said
    assert QUERY not in said


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__


async def expect_absorbed(case: Case, reranker: Reranker, given: list[Candidate]) -> None:
    """A failure of the call becomes the retrieval order, whole; a server that is set up wrong stays an error."""
    if not issubclass(case.error, TransientError):
        with pytest.raises(case.error):
            await reranker.arank(QUERY, given)
        return
    ranking = await reranker.arank(QUERY, given)
    assert type(ranking.error) is case.error
    assert [item.candidate for item in ranking] == given
    assert [item.score for item in ranking] == [None] * len(given)


def indexed(*places: int) -> Callable[[Handler, dict[str, Any]], None]:
    """The honest answer to five inputs, whose rows say that they answer others."""

    def change(answer: dict[str, Any]) -> None:
        for item, place in zip(answer["data"], places, strict=True):
            item["index"] = place

    return changed(change)


def narrower(handler: Handler, answer: dict[str, Any]) -> None:
    """The honest answer, where the row of the longest of the texts has another width."""
    for item, ids, row in zip(answer["data"], handler.asked["input"], handler.vectors, strict=True):
        if len(ids) > LONG:
            item["embedding"] = encoded(unit(row[:16]))
    handler.answer(answer)


@pytest.mark.parametrize(
    ("fault", "batch_inputs", "says"),
    [
        (indexed(0, 0, 0, 0, 0), 5, "5 inputs, each once, found 5 rows for 1"),
        (indexed(0, 1, 2, 3, 3), 5, "found 5 rows for 4"),
        (indexed(0, 1, 1, 3, 4), 5, "found 5 rows for 4"),
        (indexed(1, 2, 3, 4, 5), 5, "each once"),
        (indexed(-1, 0, 1, 2, 3), 5, "each once"),
        (narrower, 5, "answer holds rows of several widths"),
        (narrower, 1, r"answers hold rows of several widths: \[16, 64\]"),
    ],
)
def test_no_row_is_taken_for_another_inputs(
    remote: E2RankEncoder, server: LoopbackServer, fault: Any, batch_inputs: int, says: str
) -> None:
    """Of several inputs in a request, or of several requests."""
    engine = replace(remote.custom_engine, batch_inputs=batch_inputs)
    encoder = replace(remote, custom_engine=engine)
    encoder.encode_queries([QUERY])
    server.fault = fault
    with pytest.raises(ProtocolError, match=says):
        encoder.encode_documents([*TEXTS[:4], "a long text " * LONG])
    engine.close()
