"""Every store of the package, and the one that the docs show how to write, passes the suite; broken ones do not."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import chromadb
import numpy as np
import pytest

from e2rank_integrations.stores.chroma import ChromaStore, open_collection
from e2rank_integrations.stores.conformance import WIDTH, WritableStoreConformance
from e2rank_integrations.stores.pgvector import PgVectorStore
from tests.packaging.examples import ROOT, examples
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
        return self.open(store._statements.name[-1])


class TestPgVectorOfHalfPrecision(TestPgVector):
    precision = 5e-4
    half = True
    test_many_are_written_and_given_in_one_call = None  # the same statements as in single precision


def folder_store() -> type[Any]:
    """The store of docs/stores.md, as it stands there."""
    page = examples(ROOT / "docs" / "stores.md")
    code = next(block.code for item in page for block in item.blocks if "class FolderStore" in block.code)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["FolderStore"]


FolderStore = folder_store()


class TestTheStoreOfTheDocs(WritableStoreConformance):
    even = EVEN
    kind = FolderStore

    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeWritable:
        return partial(self.made, tmp_path)

    def made(self, folder: Path, records: Any) -> Any:
        own = folder / uuid4().hex
        own.mkdir()
        store = self.kind(own)
        store.upsert(records)
        return store

    def reopened(self, store: Any) -> Any:
        return self.kind(store.folder)


class WorstFirst(FolderStore):
    def search(self, vector, k, **options):
        return super().search(vector, k, **options)[::-1]


class WithoutVectors(FolderStore):
    def search(self, vector, k, **options):
        return [replace(item, vector=None) for item in super().search(vector, k, **options)]


class Obliging(FolderStore):
    def search(self, vector, k, where=None, **options):
        return super().search(vector, k, where=where)


class FilteringLate(FolderStore):
    def search(self, vector, k, where=None, **options):
        found = super().search(vector, k, **options)
        return [item for item in found if (where or {}).items() <= item.metadata.items()]


class Narrow(FolderStore):
    def search(self, vector, k, **options):
        return super().search(vector, min(k, 100), **options)


class Misaligned(FolderStore):
    def get(self, ids):
        found = {id_: item for id_, item in self.records.items() if id_ in set(ids)}
        return dict(zip([id_ for id_ in dict.fromkeys(ids) if id_ in found], found.values(), strict=True))


class EverythingForNothing(FolderStore):
    def get(self, ids):
        return super().get(ids or list(self.records))


class AddOnly(FolderStore):
    def upsert(self, records):
        super().upsert([item for item in records if item.id not in self.records])


class KeepingOldMetadata(FolderStore):
    def upsert(self, records):
        old = {item.id: item.metadata for item in self.records.values()}
        super().upsert([replace(item, metadata={**old.get(item.id, {}), **item.metadata}) for item in records])


class Forgetful(FolderStore):
    saved = None
    fingerprint = property(lambda self: self.saved)

    def save_fingerprint(self, fingerprint):
        self.saved = fingerprint


class Anonymous(FolderStore):
    identity = property(lambda self: "folder")


class Trusting(FolderStore):
    def get(self, ids):
        return {id_: self.records[id_] for id_ in ids if id_ in self.records}


class Rounding(FolderStore):
    def own(self, record):
        return replace(super().own(record), vector=np.float32(np.float16(record.vector)))


class Borrowing(FolderStore):
    def own(self, record):
        return replace(record, vector=np.asarray(record.vector, dtype=np.float32), vector_source="store")


class Careless(FolderStore):
    def upsert(self, records):
        for record in records:
            super().upsert([record])


class Raw(FolderStore):
    def search(self, vector, k, **options):
        if vector.size != 64:
            raise ValueError("matmul: Input operand 1 has a mismatch")
        return super().search(vector, k, **options)


class ByInnerProduct(FolderStore):
    """Ranks by the inner product with what is stored, whatever its length."""

    def search(self, vector, k, where=None, **options):
        rows = [item for item in self.records.values() if (where or {}).items() <= item.metadata.items()]
        return sorted(rows, key=lambda item: -float(item.vector @ vector))[:k]


class Renamed(FolderStore):
    """Is another store each time it is opened."""

    def __init__(self, folder):
        super().__init__(folder)
        self.identity_ = uuid4().hex

    identity = property(lambda self: self.identity_)


class DroppingTheRest(FolderStore):
    def upsert(self, records):
        super().upsert(records[:1000])


class GivingTwoHundred(FolderStore):
    def get(self, ids):
        return super().get(ids[:200])


class Scratching(FolderStore):
    """Keeps the query in the object while it searches; two threads always do so at once."""

    def __init__(self, folder):
        super().__init__(folder)
        self.both = threading.Barrier(2, timeout=30)

    def search(self, vector, k, **options):
        self.query = vector
        with suppress(threading.BrokenBarrierError):
            self.both.wait()
        query = self.query
        if not np.array_equal(query, vector):
            self.both.abort()  # that was it; a thread that is left over need not wait
        return super().search(query, k, **options)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (WorstFirst, "a_search_is_ordered_by_cosine_and_brings_vectors"),
        (WithoutVectors, "a_search_is_ordered_by_cosine_and_brings_vectors"),
        (Rounding, "a_search_is_ordered_by_cosine_and_brings_vectors"),
        (Obliging, "arguments_that_are_not_known_are_refused"),
        (FilteringLate, "a_filter_holds_and_loses_nothing"),
        (Narrow, "a_search_finds_what_is_nearest"),
        (Misaligned, "records_are_given_by_id"),
        (EverythingForNothing, "records_are_given_by_id"),
        (AddOnly, "writing_replaces_a_record_as_a_whole"),
        (KeepingOldMetadata, "writing_replaces_a_record_as_a_whole"),
        (Borrowing, "what_was_written_is_no_longer_the_callers"),
        (Forgetful, "a_fingerprint_is_kept"),
        (Anonymous, "stores_are_told_apart"),
        (Trusting, "a_stale_vector_is_not_given"),
        (Raw, "a_query_of_another_width_is_a_typed_error"),
        (ByInnerProduct, "the_length_of_a_vector_does_not_count"),
        (Renamed, "an_identity_stays_when_opened_again"),
        (DroppingTheRest, "many_are_written_and_given_in_one_call"),
        (GivingTwoHundred, "many_are_written_and_given_in_one_call"),
        (Scratching, "threads_do_not_disturb_each_other"),
    ],
)
def test_a_wrong_store_does_not_pass(kind: type[Any], test: str, tmp_path: Path) -> None:
    """The suite finds each of these mistakes, by the test that is about it."""
    suite = TestTheStoreOfTheDocs()
    suite.kind = kind
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception)):
        getattr(suite, f"test_{test}")(partial(suite.made, tmp_path))


def test_a_store_that_writes_half_of_a_faulty_call_does_not_pass(tmp_path: Path) -> None:
    """Records before the faulty one must not be written."""
    suite = TestTheStoreOfTheDocs()
    suite.kind = Careless
    with pytest.raises(AssertionError):
        suite.test_what_cannot_be_stored_is_refused(partial(suite.made, tmp_path), "no vector")
