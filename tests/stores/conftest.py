"""Native Chroma clients of all three kinds, and the embedded model under a counter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import chromadb
import numpy as np
import pytest

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.stores import trust
from e2rank_integrations.values import Encoded, Usage
from tests.support.chroma import chroma_server, disk_client, server_client
from tests.support.engines import Recording
from tests.support.models import with_weights
from tests.support.passages import TEXTS
from tests.support.postgres import new_database, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from chromadb.api import ClientAPI

    from e2rank_integrations.engines.base import Engine
    from e2rank_integrations.values import Matrix, TokenInput, Vector


class Remembering(Recording):
    """Answers what it was asked before from memory, as if it were computed: tests ask for the same texts often."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.known: dict[TokenInput, Vector] = {}

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        new = [item for item in dict.fromkeys(inputs) if item not in self.known]
        if new:
            self.known.update(zip(new, self.engine.encode(new).vectors, strict=True))
        return Encoded(np.stack([self.known[item] for item in inputs]), Usage.of(inputs))


@pytest.fixture(scope="session")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Chroma server."""
    with chroma_server(tmp_path_factory.mktemp("server")) as port:
        yield port


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL with pgvector; its address."""
    with postgres() as address:
        yield address


@pytest.fixture(scope="module")
def database(postgres_server: str) -> Iterator[str]:
    """A database of the module's own; its address."""
    with new_database(postgres_server) as address:
        yield address


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
    folder = tmp_path_factory.getbasetemp() / "other-qwen3"  # one for the packages that use this fixture
    if not folder.exists():
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
