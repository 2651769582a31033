"""An embedding server that computes nothing: what a request to it takes is the client's time, and the loopback's.

`python -m tests.benchmarks.canned PORT WIDTH` runs until a signal ends it. Vectors are random, seeded by the ids, and
the answer to a body that was sent before is kept.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np


class CannedServer(ThreadingHTTPServer):
    """Answers with vectors of one width."""

    daemon_threads = True

    def __init__(self, port: int, width: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.width = width
        self.kept: dict[bytes, bytes] = {}

    def answer(self, body: bytes) -> bytes:
        """The JSON of a body's vectors."""
        if body not in self.kept:
            self.kept[body] = _embedded(json.loads(body), self.width)
        return self.kept[body]


class Handler(BaseHTTPRequestHandler):
    """One connection; an answer leaves in one piece."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 20
    server: CannedServer

    def do_GET(self) -> None:
        self._send(json.dumps({"object": "list", "data": [{"id": "canned"}]}).encode())

    def do_POST(self) -> None:
        self._send(self.server.answer(self.rfile.read(int(self.headers["Content-Length"]))))

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass


def _embedded(asked: dict[str, list[list[int]]], width: int) -> bytes:
    rows = [{"index": place, "embedding": _row(ids, width)} for place, ids in enumerate(asked["input"])]
    return json.dumps({"data": rows, "usage": {"prompt_tokens": sum(map(len, asked["input"]))}}).encode()


def _row(ids: list[int], width: int) -> str:
    row = np.random.default_rng(zlib.crc32(repr(ids).encode())).normal(size=width)
    return base64.b64encode((row / np.linalg.norm(row)).astype("<f4").tobytes()).decode()


if __name__ == "__main__":
    CannedServer(int(sys.argv[1]), int(sys.argv[2])).serve_forever()
