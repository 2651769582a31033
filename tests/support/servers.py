"""Real embedding servers for tests: llama.cpp's from PyPI, and vLLM's from an environment of its own."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.processes import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LLAMA_SERVER = "E2RANK_LLAMA_SERVER"
"""Names a `llama-server` to test instead of the one from PyPI."""

EXACT = ("--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off")
"""By default llama.cpp keeps keys and values in float16, which moves these small models' vectors by 4e-4."""

SMALL = ("--threads", "1", "--ubatch-size", "128")
"""For each token of a batch llama.cpp holds the scores of all next tokens, 600 kB; a longer input is computed in parts,
with last-token pooling."""

VLLM_PATIENCE = 300.0
"""Seconds until vLLM must answer; it takes half a minute to two."""


@contextmanager
def llama_server(model: Path, log: Path, *flags: str, pooling: str = "last") -> Iterator[str]:
    """Serve a file of `write_gguf` with llama.cpp, in float32; gives the address up to `/v1`.

    Args:
        model: The file.
        log: The file that takes what the server prints.
        *flags: Further flags of `llama-server`, as far as `tests.support.llama` knows them.
        pooling: `last`, or wrongly `mean` or `cls`.
    """
    binary = os.environ.get(LLAMA_SERVER)
    command = [binary] if binary else [sys.executable, "-m", "tests.support.llama"]
    command += ["--model", str(model), "--embeddings", "--pooling", pooling, *SMALL, *EXACT, *flags, "--port"]
    with serving(lambda port: [*command, str(port)], log, ready="/health") as port:
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def vllm_server(python: str, checkpoint: Path, log: Path, *flags: str) -> Iterator[str]:
    """Serve a checkpoint with vLLM on the CPU, in float32; gives the address up to `/v1`.

    Args:
        python: The interpreter of an environment that holds vLLM.
        checkpoint: A folder of `save_qwen3`.
        log: The file that takes what the server prints.
        *flags: Further flags of `vllm serve`.
    """
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint), "--host", "127.0.0.1"]
    command += ["--runner", "pooling", "--convert", "embed", "--pooler-config.pooling_type", "LAST"]
    command += ["--dtype", "float32", "--enforce-eager", *flags, "--port"]
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CACHE_ROOT": str(log.with_name("cache"))}
    with serving(
        lambda port: [*command, str(port)],
        log,
        ready="/health",
        patience=VLLM_PATIENCE,
        environment={**os.environ, **own},
    ) as port:
        yield f"http://127.0.0.1:{port}/v1"
