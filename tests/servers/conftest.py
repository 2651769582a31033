"""The tiny Qwen3 in this process and on a real server: llama.cpp's, or vLLM's where `E2RANK_VLLM` names a Python."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2rank_integrations import RemoteEngine
from tests.support.gguf import write_gguf
from tests.support.models import save_qwen3
from tests.support.servers import llama_server, vllm_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2rank_integrations import E2RankEncoder

VLLM = os.environ.get("E2RANK_VLLM")
"""The Python of an environment with vLLM, which is then tested instead of llama.cpp's server."""


@pytest.fixture(scope="session")
def gguf(qwen_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Qwen3 as llama.cpp reads it; it says, wrongly, that texts get a closing token, as many files do."""
    return write_gguf(qwen_folder, tmp_path_factory.mktemp("gguf") / "tiny.gguf", add_eos=True)


@pytest.fixture(scope="session")
def llama(gguf: Path) -> Iterator[str]:
    """The address of a llama.cpp server that runs the tiny Qwen3, and adds a closing token to texts."""
    with llama_server(gguf, gguf.with_suffix(".log")) as url:
        yield url


@pytest.fixture(scope="session")
def local(qwen_encoder: E2RankEncoder, tmp_path_factory: pytest.TempPathFactory) -> E2RankEncoder:
    """The model in this process; for vLLM, whose attention on the CPU takes no smaller heads, one of its own."""
    if VLLM is None:
        return qwen_encoder
    return replace(qwen_encoder, model=str(save_qwen3(tmp_path_factory.mktemp("heads"), head_dim=32)))


@pytest.fixture(scope="session")
def url(
    request: pytest.FixtureRequest, local: E2RankEncoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of the server whose vectors are compared."""
    if VLLM is None:
        yield request.getfixturevalue("llama")
        return
    with vllm_server(VLLM, Path(local.model), tmp_path_factory.mktemp("vllm") / "server.log") as found:
        yield found


@pytest.fixture
def engine(url: str) -> Iterator[RemoteEngine]:
    """The server, as encoders use it."""
    engine = RemoteEngine(url, batch_inputs=5)
    yield engine
    engine.close()


@pytest.fixture
def remote(local: E2RankEncoder, engine: RemoteEngine) -> E2RankEncoder:
    """The same on the server."""
    return replace(local, custom_engine=engine)
