"""Real Chromas for tests: in memory, on disk, and a server started with `chroma run`."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sysconfig
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import chromadb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

    from e2rank_integrations.values import Matrix

PATIENCE = 60.0
"""Seconds within which a server must answer; it takes about two."""

ATTEMPTS = 3
"""A free port may be taken by someone else between asking for it and using it."""


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
        close(client)


@contextmanager
def server_client(port: int) -> Iterator[ClientAPI]:
    """A client of a server on this machine."""
    client = chromadb.HttpClient(host="127.0.0.1", port=port)
    try:
        yield client
    finally:
        close(client)


def close(client: ClientAPI) -> None:
    """Close a client and its connections, which Chroma's own `close` leaves open."""
    for owner in (client, getattr(client, "_admin_client", None)):
        session = getattr(getattr(owner, "_server", None), "_session", None)
        if session is not None:
            session.close()
    if hasattr(client, "close"):  # not before Chroma 1.5
        client.close()


@contextmanager
def chroma_server(folder: Path) -> Iterator[int]:
    """Run `chroma run` with its data in a folder; gives its port on the loopback interface."""
    for _ in range(ATTEMPTS):
        port = _free_port()
        with (folder / "server.log").open("wb") as log, _process(folder, port, log) as process:
            if _answers(process, port):
                yield port
                return
    raise AssertionError(f"chroma run did not start: {(folder / 'server.log').read_text(errors='replace')[-2000:]}")


@contextmanager
def _process(folder: Path, port: int, log: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [Path(sysconfig.get_path("scripts")) / "chroma", "run", "--path", folder / "data"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the server comes up; False where its process ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if _heartbeat(port):
            return True
        time.sleep(0.1)
    return False


def _heartbeat(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/v2/heartbeat")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
