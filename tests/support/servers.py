"""Real embedding servers for tests: llama.cpp's, and vLLM's where an environment with it was made."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.processes import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def llama_server(model: Path, log: Path, *flags: str, pooling: str = "last") -> Iterator[str]:
    """Serve a GGUF file with llama.cpp; gives the address under which `/embeddings` is.

    Args:
        model: A file of `write_gguf`.
        log: The file that takes what the server prints.
        *flags: Further flags of `llama-server`, as far as `tests.support.llama` knows them.
        pooling: `last`, or wrongly `mean` or `cls`.
    """
    command = [sys.executable, "-m", "tests.support.llama", "--model", str(model), "--embeddings"]
    command += ["--pooling", pooling, "--threads", "1", *flags, "--port"]
    with serving(lambda port: [*command, str(port)], log, ready="/health") as port:
        yield f"http://127.0.0.1:{port}/v1"
