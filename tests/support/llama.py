"""llama.cpp's own server as PyPI's `xllamacpp` has it compiled, with the few flags of `llama-server` that tests need.

`python -m tests.support.llama --model tiny.gguf --port 8080 …` runs until it gets a signal.
"""

from __future__ import annotations

import argparse
import signal
import sys

import xllamacpp

POOLING = {name: xllamacpp.llama_pooling_type[f"LLAMA_POOLING_TYPE_{name.upper()}"] for name in ("mean", "cls", "last")}

CACHES = {name: xllamacpp.ggml_type[f"GGML_TYPE_{name.upper()}"] for name in ("f16", "f32")}


def main(arguments: list[str]) -> None:
    """Serve a model until SIGTERM or SIGINT, which the server takes itself."""
    server = xllamacpp.Server(_parameters(_options(arguments)))
    print(f"Serving at {server.listening_address}", flush=True)
    signal.pause()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--pooling", choices=POOLING)
    parser.add_argument("--ctx-size", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--ubatch-size", type=int, default=512)
    parser.add_argument("--parallel", type=int, default=-1)
    parser.add_argument("--threads", type=int, default=-1)
    parser.add_argument("--cache-type", choices=CACHES, default="f16", help="both of `-ctk` and `-ctv`")
    parser.add_argument("--api-key", action="append", default=[])
    parser.add_argument("--embeddings", action="store_true")
    return parser.parse_args(arguments)


def _parameters(options: argparse.Namespace) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.model
    parameters.port = options.port
    parameters.embedding = options.embeddings
    parameters.n_ctx = options.ctx_size
    parameters.n_batch = options.batch_size
    parameters.n_ubatch = options.ubatch_size
    parameters.n_parallel = options.parallel
    parameters.cpuparams.n_threads = options.threads
    parameters.cache_type_k = parameters.cache_type_v = CACHES[options.cache_type]
    parameters.api_keys = options.api_key
    if options.pooling:
        parameters.pooling_type = POOLING[options.pooling]
    return parameters


if __name__ == "__main__":
    main(sys.argv[1:])
