"""Real Chromas for tests: in memory, on disk, and a server started with `chroma run`."""

from __future__ import annotations

import sysconfig
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import chromadb

from e2rank_integrations.stores.chroma.opening import close_client
from tests.support.processes import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from e2rank_integrations.values import Matrix


def unique_name() -> str:
    """A collection's name that no other test has: all in-memory clients of a process share one database."""
    return f"test-{uuid4().hex}"


def new_collection(
    client: ClientAPI,
    texts: Mapping[str, str],
    vectors: Matrix,
    *,
    metadatas: list[dict[str, str | int]] | None = None,
    metadata: dict[str, str] | None = None,
) -> Collection:
    """A collection indexed through the native client, with cosine space unless `metadata` says otherwise."""
    collection = client.create_collection(
        unique_name(), metadata={"hnsw:space": "cosine"} if metadata is None else metadata, embedding_function=None
    )
    collection.add(ids=list(texts), documents=list(texts.values()), embeddings=vectors, metadatas=metadatas)
    return collection


@contextmanager
def disk_client(folder: Path) -> Iterator[ClientAPI]:
    """A client of a database on disk."""
    client = chromadb.PersistentClient(str(folder))
    try:
        yield client
    finally:
        close_client(client)


@contextmanager
def server_client(port: int) -> Iterator[ClientAPI]:
    """A client of a server on this machine."""
    client = chromadb.HttpClient(host="127.0.0.1", port=port)
    try:
        yield client
    finally:
        close_client(client)


@contextmanager
def chroma_server(folder: Path) -> Iterator[int]:
    """Run `chroma run` with its data in a folder; gives its port on the loopback interface."""
    program = Path(sysconfig.get_path("scripts")) / "chroma"
    address = ["--host", "127.0.0.1", "--port"]
    with serving(
        lambda port: [program, "run", "--path", folder / "data", *address, str(port)],
        folder / "server.log",
        ready="/api/v2/heartbeat",
    ) as port:
        yield port
