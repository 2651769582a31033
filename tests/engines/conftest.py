"""Engines of a Qwen3 so small that each test may load its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from e2rank_integrations.engines.local import LocalEngine
from e2rank_integrations.engines.registry import EngineKey
from tests.support.loopback import loopback_server
from tests.support.models import save_bare_qwen3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from e2rank_integrations import E2RankEncoder
    from tests.support.loopback import LoopbackServer


@pytest.fixture(scope="session")
def bare_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and config of a tiny Qwen3 with 512 tokens."""
    return save_bare_qwen3(tmp_path_factory.mktemp("bare"))


@pytest.fixture
def make_engine(bare_folder: Path) -> Callable[..., LocalEngine]:
    """Engines that no other test shares."""

    def make(folder: Path | None = None, **options: Any) -> LocalEngine:
        settings = {"architecture": "qwen3", "pooling": "last", "dtype": "float32", "device": "cpu", **options}
        return LocalEngine(EngineKey(folder=folder or bare_folder, **settings))

    return make


@pytest.fixture(scope="session")
def bare_engine(bare_folder: Path) -> LocalEngine:
    """One engine for tests that only read."""
    return LocalEngine(EngineKey(bare_folder, "qwen3", "last", dtype="float32", device="cpu"))


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only wait for one another's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def server(qwen_encoder: E2RankEncoder) -> Iterator[LoopbackServer]:
    """An honest server that embeds with the tiny Qwen3, and that no call of another test still asks."""
    with loopback_server(qwen_encoder.engine) as found:
        yield found
