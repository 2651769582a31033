"""Writing to Chroma: what is stored is what was given, whole, and once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from e2rank_integrations import Candidate
from e2rank_integrations.errors import InputError, StoreError, VectorError
from e2rank_integrations.stores.chroma import ChromaStore
from tests.support.chroma import unique_name

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

    from e2rank_integrations.stores import WritableStore

ROWS = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)


def record(number: int, **changes: Any) -> Candidate:
    given = Candidate(f"text {number}", id=str(number), vector=ROWS[number], metadata={"number": number})
    return replace(given, **changes)


@pytest.fixture
def store(client: ClientAPI) -> ChromaStore:
    return ChromaStore(client.create_collection(unique_name(), embedding_function=None))


def test_records_come_back_as_they_were_written(store: WritableStore) -> None:
    """Text, vector to the bit, and metadata, none among them; a second time changes nothing."""
    records = [
        record(0),
        record(1, metadata={}),
        record(2, text=""),
        record(3, metadata={"a": "é", "b": 1.5, "c": True}),
    ]
    for _ in range(2):
        store.upsert(records)
        assert store.count() == len(records)
        found = store.get([str(item.id) for item in records])
        for item in records:
            stored = found[str(item.id)]
            assert (stored.text, stored.metadata) == (item.text, item.metadata)
            assert np.array_equal(np.asarray(stored.vector, dtype=np.float32), item.vector)


def test_a_record_is_replaced_as_a_whole(store: WritableStore) -> None:
    """Nothing of the old record stays, not even a key of its metadata that the new one lacks."""
    store.upsert([record(0, metadata={"old": 1, "kept": 1}), record(1)])
    store.upsert([record(0, text="new", vector=ROWS[5], metadata={"kept": 2}), record(1, metadata={})])
    found = store.get(["0", "1"])
    assert (found["0"].text, found["0"].metadata, found["1"].metadata) == ("new", {"kept": 2}, {})
    assert np.array_equal(np.asarray(found["0"].vector, dtype=np.float32), ROWS[5])
    assert store.count() == 2


def test_nothing_is_written_of_nothing(store: WritableStore) -> None:
    """An empty list is no error."""
    store.upsert([])
    assert store.count() == 0


def test_more_than_a_batch_is_written_in_parts(store: ChromaStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chroma bounds a batch; whatever its bound, every record is written, under its own id."""
    monkeypatch.setattr(store._collection._client, "get_max_batch_size", lambda: 5)
    store.upsert([record(number) for number in range(12)])
    found = store.get([str(number) for number in range(12)])
    assert [found[str(number)].text for number in range(12)] == [f"text {number}" for number in range(12)]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (record(1, id=None), InputError),
        (record(1, id=""), InputError),
        (record(1, id="0"), InputError),
        (record(1, vector=None), InputError),
        (record(1, vector=[1.0, 2.0]), VectorError),
        (record(1, vector=[float("nan")] * 8), VectorError),
        (record(1, vector=[0.0] * 8), VectorError),
        (record(1, metadata={"a": float("inf")}), InputError),
        (record(1, metadata={"a": [2**70]}), InputError),
        (record(1, metadata={"a": {"b": 1}}), StoreError),
        (record(1, text="\ud800"), StoreError),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is(
    store: WritableStore, bad: Candidate, error: type[Exception]
) -> None:
    """A typed error that shows no text; the good record of the same batch is not written either."""
    with pytest.raises(error) as refused:
        store.upsert([record(0), bad])
    assert "text" not in str(refused.value).replace("embed its text", "").replace("embed the text", "")
    assert store.count() == 0
