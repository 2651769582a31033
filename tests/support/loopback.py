"""An embedding server on the loopback interface that embeds with a real engine, and misbehaves where told."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar

from e2rank_integrations.errors import EngineTimeoutError
from e2rank_integrations.values import TokenInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2rank_integrations.engines.base import Engine
    from e2rank_integrations.values import Matrix

    Fault = Callable[["Handler", dict[str, Any]], None]

MODEL = "tiny"

R = TypeVar("R")


class LoopbackServer(ThreadingHTTPServer):
    """Serves one engine.

    Args:
        engine: Embeds what is asked.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, engine: Engine) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.engine = engine
        self.stopped = threading.Event()
        self.fault: Fault | None = None
        self.models: list[dict[str, Any]] = [{"id": MODEL, "owned_by": "vllm", "max_model_len": 40960}]
        self.listing = 200
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news here."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LoopbackServer

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.answer({"object": "list", "data": self.server.models}, self.server.listing)

    def do_POST(self) -> None:
        self.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(self.asked)
        self.server.headers.append(dict(self.headers))
        inputs = [TokenInput(tuple(ids), "document") for ids in self.asked["input"]]
        self.vectors = self.server.engine.encode(inputs).vectors
        answer = self.answer_of(self.vectors)
        if self.server.fault is None:
            self.answer(answer)
        else:
            self.server.fault(self, answer)

    def answer_of(self, vectors: Matrix) -> dict[str, Any]:
        """What the route must give."""
        rows = [{"object": "embedding", "index": i, "embedding": encoded(row)} for i, row in enumerate(vectors)]
        tokens = sum(map(len, self.asked["input"]))
        return {"object": "list", "data": rows, "model": self.asked["model"], "usage": {"prompt_tokens": tokens}}

    def answer(self, answer: object, status: int = 200, **headers: str) -> None:
        self.raw(json.dumps(answer).encode(), status, **headers)

    def raw(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def encoded(row: Any) -> str:
    """A row as base64 of little-endian float32."""
    return base64.b64encode(row.astype("<f4").tobytes()).decode()


def patiently(call: Callable[[], R]) -> R:
    """The result of a call with a short deadline, made again where a busy machine let it pass."""
    for _ in range(60):
        with suppress(EngineTimeoutError):
            return call()
    raise AssertionError("the deadline passed sixty times")


@contextmanager
def loopback_server(engine: Engine) -> Iterator[LoopbackServer]:
    """Run a server until the end of the block."""
    with LoopbackServer(engine) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()  # lets drips and waits end
            server.shutdown()
            thread.join()
