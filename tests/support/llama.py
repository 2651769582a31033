"""llama.cpp's own server, as PyPI's `xllamacpp` has it compiled, behind those flags of `llama-server` that tests need.

`python -m tests.support.llama --model tiny.gguf --port 8080 …` runs until a signal ends it.
"""

from __future__ import annotations

import argparse
import signal
import sys

import xllamacpp

POOLING = {name: xllamacpp.llama_pooling_type[f"LLAMA_POOLING_TYPE_{name.upper()}"] for name in ("mean", "cls", "last")}
TYPES = {name: xllamacpp.ggml_type[f"GGML_TYPE_{name.upper()}"] for name in ("f16", "f32")}
FLASH = {name: xllamacpp.llama_flash_attn_type(value) for value, name in enumerate(("auto", "off", "on"), start=-1)}


def main(arguments: list[str]) -> None:
    """Serve a model until SIGTERM or SIGINT, which the server takes itself."""
    server = xllamacpp.Server(_parameters(_options(arguments)))
    sys.stdout.write(f"Serving at {server.listening_address}\n")
    signal.pause()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--pooling", choices=POOLING, default="last")
    parser.add_argument("--ctx-size", type=int, default=0)
    parser.add_argument("--ubatch-size", type=int, default=512)
    parser.add_argument("--parallel", type=int, default=-1)
    parser.add_argument("--threads", type=int, default=-1)
    parser.add_argument("--cache-type-k", choices=TYPES, default="f16")
    parser.add_argument("--cache-type-v", choices=TYPES, default="f16")
    parser.add_argument("--flash-attn", choices=FLASH, default="auto")
    parser.add_argument("--api-key", action="append", default=[])
    return parser.parse_args(arguments)


def _parameters(options: argparse.Namespace) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = options.model
    parameters.port = options.port
    parameters.embedding = options.embeddings
    parameters.pooling_type = POOLING[options.pooling]
    parameters.n_ctx = options.ctx_size
    parameters.n_ubatch = options.ubatch_size
    parameters.n_parallel = options.parallel
    parameters.cpuparams.n_threads = options.threads
    parameters.cache_type_k = TYPES[options.cache_type_k]
    parameters.cache_type_v = TYPES[options.cache_type_v]
    parameters.flash_attn_type = FLASH[options.flash_attn]
    parameters.api_keys = options.api_key
    return parameters


if __name__ == "__main__":
    main(sys.argv[1:])
