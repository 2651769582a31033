"""Every store of the package, and the one that the docs show how to write, passes the suite; broken ones do not."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import chromadb
import pytest

from e2rank_integrations.stores.chroma import ChromaStore, open_collection
from e2rank_integrations.stores.conformance import WIDTH, WritableStoreConformance
from e2rank_integrations.stores.pgvector import PgVectorStore
from tests.support.chroma import unique_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from e2rank_integrations.stores.conformance import MakeWritable


EVEN = {"where": {"parity": "even"}}
ROUNDED = 1e-6  # Chroma makes vectors unit again where the space is cosine


class TestChromaInMemory(WritableStoreConformance):
    even, precision = EVEN, ROUNDED

    @pytest.fixture
    def make_store(self) -> MakeWritable:
        def make(records: Any) -> ChromaStore:
            options = {"hnsw": {"space": "cosine"}}
            client = chromadb.EphemeralClient()
            store = ChromaStore(client.create_collection(unique_name(), configuration=options, embedding_function=None))
            store.upsert(records)
            return store

        return make

    def reopened(self, store: Any) -> ChromaStore:
        return ChromaStore(chromadb.EphemeralClient().get_collection(store._collection.name, embedding_function=None))


class OpenedChroma(WritableStoreConformance):
    even, precision = EVEN, ROUNDED

    @pytest.fixture
    def where(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def make_store(self, where: str) -> Iterator[MakeWritable]:
        with ExitStack() as opened:

            def make(records: Any) -> ChromaStore:
                store = opened.enter_context(closing(open_collection(where, unique_name())))
                store.upsert(records)
                return store

            self.open = lambda name: opened.enter_context(closing(open_collection(where, name, create=False)))
            yield make

    def reopened(self, store: Any) -> ChromaStore:
        return self.open(store._collection.name)


class TestChromaOnDisk(OpenedChroma):
    @pytest.fixture
    def where(self, tmp_path: Path) -> str:
        return str(tmp_path)


class TestChromaOnAServer(OpenedChroma):
    @pytest.fixture
    def where(self, server_port: int) -> str:
        return f"http://127.0.0.1:{server_port}"


class TestPgVector(WritableStoreConformance):
    even = EVEN
    half = False

    @pytest.fixture
    def make_store(self, database: str) -> Iterator[MakeWritable]:
        with ExitStack() as opened:

            def make(records: Any) -> PgVectorStore:
                table = f"t-{uuid4().hex}"
                store = opened.enter_context(closing(PgVectorStore.create(database, table, WIDTH, half=self.half)))
                store.upsert(records)
                return store

            self.open = lambda name: opened.enter_context(closing(PgVectorStore(database, name)))
            yield make

    def reopened(self, store: Any) -> PgVectorStore:
        return self.open(store._name._obj[0])


class TestPgVectorOfHalfPrecision(TestPgVector):
    precision = 5e-4
    half = True
