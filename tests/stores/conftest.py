"""Native Chroma clients of all three kinds, and the embedded model under a counter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import chromadb
import pytest
import torch

from e2rank_integrations.stores import trust
from tests.support.chroma import chroma_server, disk_client, server_client
from tests.support.engines import Recording
from tests.support.passages import TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chromadb.api import ClientAPI

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import Matrix


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
def passage_vectors(embedded_encoder: E2RankEncoder) -> Matrix:
    """The passages' embeddings by the embedded model."""
    return embedded_encoder.encode_documents(TEXTS)


@pytest.fixture
def recording(embedded_encoder: E2RankEncoder) -> Recording:
    """Counts what the embedded model is asked."""
    return Recording(embedded_encoder.engine)


@pytest.fixture
def encoder(embedded_encoder: E2RankEncoder, recording: Recording) -> E2RankEncoder:
    """The embedded model, counted."""
    return replace(embedded_encoder, custom_engine=recording)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which no index was checked yet."""
    monkeypatch.setattr(trust, "_checked", set())


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Inputs this short only wait for one another's cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
