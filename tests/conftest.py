"""Fixtures that cost something to build, once per session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines import local, registry
from tests.support.models import save_qwen3

if TYPE_CHECKING:
    from pathlib import Path

    from e2rank_integrations.engines.registry import EngineKey

# The models here are small: on busy cores a second thread costs more than it brings.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3 with the real tokenizer."""
    return save_qwen3(tmp_path_factory.mktemp("qwen3"))


@pytest.fixture(scope="session")
def qwen_encoder(qwen_folder: Path) -> E2RankEncoder:
    """The tiny Qwen3 in float32 on the CPU."""
    return E2RankEncoder(str(qwen_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def embedded_encoder() -> E2RankEncoder:
    """The embedded default in float32 on the CPU."""
    return E2RankEncoder.embedded(device="cpu", dtype="float32")


@pytest.fixture
def no_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which nobody asked for an engine yet."""
    monkeypatch.setattr(registry, "_engines", {})


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, no_engines: None) -> list[EngineKey]:
    """The keys whose weights were loaded, in order."""
    keys: list[EngineKey] = []
    load_model = local.load_model

    def counting(key: EngineKey) -> Any:
        keys.append(key)
        return load_model(key)

    monkeypatch.setattr(local, "load_model", counting)
    return keys
