"""A relay that does to token ids what text-embeddings-inference does: it makes text of them again."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def text_relay(url: str) -> Iterator[str]:
    """Stand before a llama.cpp server and send it texts instead of ids; gives the relay's address up to `/v1`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(_call(url + self.path.removeprefix("/v1")))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked["input"] = [_text(url, ids) for ids in asked["input"]]
            self._answer(_call(f"{url}/embeddings", asked))

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as relay:
        thread = threading.Thread(target=relay.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{relay.server_address[1]}/v1"
        finally:
            relay.shutdown()
            thread.join()


def _text(url: str, ids: list[int]) -> str:
    return json.loads(_call(f"{url.removesuffix('/v1')}/detokenize", {"tokens": ids}))["content"]


def _call(url: str, body: dict[str, Any] | None = None) -> bytes:
    with urlopen(Request(url, None if body is None else json.dumps(body).encode())) as response:
        return response.read()
