"""Models, stores and engines that many tests share; what costs something to build, once per session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import chromadb
import pytest
import torch

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines import local, registry
from e2rank_integrations.stores import trust
from tests.support.chroma import chroma_server, disk_client, server_client
from tests.support.engines import Recording, Remembering
from tests.support.models import save_qwen3, with_weights
from tests.support.passages import TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chromadb.api import ClientAPI

    from e2rank_integrations.engines.registry import EngineKey
    from e2rank_integrations.values import Matrix

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


@pytest.fixture(scope="session")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Chroma server."""
    with chroma_server(tmp_path_factory.mktemp("server")) as port:
        yield port


@pytest.fixture
def memory() -> ClientAPI:
    """The process's in-memory database."""
    return chromadb.EphemeralClient()


@pytest.fixture(params=["memory", "disk", "server"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClientAPI]:
    """Chroma in memory, on disk, and as a server."""
    if request.param == "memory":
        yield chromadb.EphemeralClient()
    elif request.param == "disk":
        with disk_client(tmp_path / "chroma") as found:
            yield found
    else:
        with server_client(request.getfixturevalue("server_port")) as found:
            yield found


@pytest.fixture(scope="session")
def other_qwen(qwen_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> E2RankEncoder:
    """A model like `qwen_encoder`, of the same architecture and width, with other weights."""
    folder = tmp_path_factory.mktemp("other") / "qwen3"
    with_weights(qwen_folder, folder, lambda weights: {name: rows.roll(1, 0) for name, rows in weights.items()})
    return E2RankEncoder(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def passage_vectors(embedded_encoder: E2RankEncoder) -> Matrix:
    """The passages' embeddings by the embedded model."""
    return embedded_encoder.encode_documents(TEXTS)


@pytest.fixture(scope="session")
def remembering(embedded_encoder: E2RankEncoder) -> Remembering:
    """The embedded model, which embeds no input twice in a session of tests."""
    return Remembering(embedded_encoder.engine)


@pytest.fixture
def recording(remembering: Remembering) -> Recording:
    """Counts what the embedded model is asked."""
    return Recording(remembering)


@pytest.fixture
def encoder(embedded_encoder: E2RankEncoder, recording: Recording) -> E2RankEncoder:
    """The embedded model, counted."""
    return replace(embedded_encoder, custom_engine=recording)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which no index was checked yet."""
    monkeypatch.setattr(trust, "_checked", set())
