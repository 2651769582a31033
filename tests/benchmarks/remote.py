"""What `RemoteEngine` adds to a request, and many threads on one real server: `python -m tests.benchmarks.remote`.

1. Requests of 20 documents to a server on the loopback interface that computes nothing, by turns through the engine
   and through `http.client` with bytes that were encoded before; the difference is what the engine adds.
2. 32 threads with 100 requests each, of all kinds and lengths, on a llama.cpp server; their results are compared with
   those of one thread in this process.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch

from e2rank_integrations import E2RankEncoder, RemoteEngine
from e2rank_integrations.engines.wire import request_body
from e2rank_integrations.values import TokenInput
from tests.support.gguf import write_gguf
from tests.support.mixed import calls, run_at_once, run_serially
from tests.support.models import save_qwen3
from tests.support.processes import serving
from tests.support.servers import llama_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DOCUMENTS = 20
WIDTH = 1024
"""Of E2Rank-0.6B."""
LENGTHS = (40, 150, 512)
"""Tokens of a document."""
BODIES = 10
"""Different requests that take turns; the server's answers to them are ready."""


@dataclass(frozen=True, slots=True)
class Added:
    """Milliseconds of a request, over all rounds.

    Attributes:
        tokens: Of each document.
        raw: Median with `http.client`, bytes in and bytes out.
        engine: Median through the engine, ids in and vectors out.
        least: The least through the engine less the least with `http.client`.
        difference: Median of the differences, round by round.
    """

    tokens: int
    raw: float
    engine: float
    least: float
    difference: float

    def __str__(self) -> str:
        return (
            f"{DOCUMENTS} documents of {self.tokens} tokens: http.client {self.raw:.2f} ms, "
            f"engine {self.engine:.2f} ms; added: {self.difference:.2f} ms at the median, "
            f"{self.least:.2f} ms at the least"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500, help="requests of each way and length (default: 500)")
    parser.add_argument("--threads", type=int, default=32, help="threads on the llama.cpp server (default: 32)")
    parser.add_argument("--requests", type=int, default=100, help="requests of each thread (default: 100)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for found in overhead(folder, options.rounds):
            print(found, flush=True)
        print(many_threads(folder, options.threads, options.requests))


def overhead(folder: Path, rounds: int) -> Iterator[Added]:
    """What the engine adds to requests of 20 documents, by their length."""
    command = [sys.executable, "-m", "tests.benchmarks.canned"]
    with serving(lambda port: [*command, str(port), str(WIDTH)], folder / "log", ready="/health") as port:
        url = f"http://127.0.0.1:{port}/v1"
        engine = RemoteEngine(url, model="canned")
        for tokens in LENGTHS:
            yield _added(engine, url, tokens, rounds)
        engine.close()


def _added(engine: RemoteEngine, url: str, tokens: int, rounds: int) -> Added:
    requests = [_documents(tokens, seed) for seed in range(BODIES)]
    bodies = [request_body("canned", inputs) for inputs in requests]
    times: list[tuple[float, float]] = []
    with _raw(url) as send:
        for inputs, body in zip(requests, bodies, strict=True):  # the server's answers are ready from here on
            engine.encode(inputs), send(body)
        for place in range(rounds):
            inputs, body = requests[place % BODIES], bodies[place % BODIES]
            times.append((_milliseconds(send, body), _milliseconds(engine.encode, inputs)))
    raw, through = zip(*times, strict=True)
    difference = median(two - one for one, two in times)
    return Added(tokens, median(raw), median(through), min(through) - min(raw), difference)


def many_threads(folder: Path, threads: int, requests: int) -> str:
    """Requests of all kinds on a llama.cpp server, against the same in this process, one after another."""
    local = E2RankEncoder(str(save_qwen3(folder / "model")), device="cpu", dtype="float32")
    wanted = calls(threads * requests)
    expected = run_serially(local, wanted)
    with llama_server(write_gguf(folder / "model", folder / "tiny.gguf"), folder / "llama.log") as url:
        remote = replace(local, custom_engine=RemoteEngine(url, timeout=600))
        remote.warmup()
        started = perf_counter()
        found = run_at_once(remote, wanted, threads=threads)
        seconds = perf_counter() - started
        remote.close()
    off = max(float(np.abs(one - two).max()) for one, two in zip(found, expected, strict=True))
    return (
        f"{threads} threads, {requests} requests each: {len(found)} answers and no error in {seconds:.0f} s; "
        f"no result further than {off:.1e} from that of one thread in this process"
    )


def _documents(tokens: int, seed: int) -> list[TokenInput]:
    ids = np.random.default_rng(seed).integers(0, 151_643, (DOCUMENTS, tokens))
    return [TokenInput(tuple(row), "document") for row in ids.tolist()]


@contextmanager
def _raw(url: str) -> Iterator[Callable[[bytes], bytes]]:
    """Sends bytes over one open connection and gives back the answer's, unread."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)

    def send(body: bytes) -> bytes:
        connection.request("POST", f"{parts.path}/embeddings", body, {"Content-Type": "application/json"})
        return connection.getresponse().read()

    try:
        yield send
    finally:
        connection.close()


def _milliseconds(call: Callable[[Any], object], argument: object) -> float:
    started = perf_counter()
    call(argument)
    return 1000 * (perf_counter() - started)


if __name__ == "__main__":
    main()
