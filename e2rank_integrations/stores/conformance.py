"""What every store must do, as tests: subclass in a test file of yours, say how a store is made, and run pytest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from e2rank_integrations.errors import E2RankError, InputError, StoreError
from e2rank_integrations.stores.base import TEXT_HASH_KEY, text_hash
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from e2rank_integrations.stores.base import VectorStore, WritableStore
    from e2rank_integrations.values import Matrix, Vector

    MakeStore = Callable[[Sequence[Candidate]], VectorStore]
    MakeWritable = Callable[[Sequence[Candidate]], WritableStore]

WIDTH = 64
"""Dimensions of the vectors that a store is tested with."""

STRANGE = (
    "é", "日本語のテキスト", "🍏🍎", "שלום", " spaces ", "a'b\"c\\d", "%s %(x)s {y} $1", "'; DROP TABLE t; --",
    "two\nlines\ttab", "x" * 300,
)  # fmt: skip
"""Ids and texts that a store must neither change nor choke on."""


class StoreConformance:
    """Tests of a store that is read.

    A subclass gives the fixture `make_store`, and `reopened`; the rest says what the store promises.

    Attributes:
        precision: The largest difference of a component from what was stored; 0 where float32 is kept to the bit.
        even: The store's own search arguments by which a search finds only records whose metadata have
            `parity` = `"even"`; None where it has no filter.
    """

    precision: ClassVar[float] = 0.0
    even: ClassVar[Mapping[str, Any] | None] = None

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Makes a new store that holds these records, and no other; several are made in one test."""
        raise NotImplementedError("give a fixture make_store, which returns a function from records to a new store")

    def reopened(self, store: VectorStore) -> VectorStore:
        """The same records through another object, as a later process would open them."""
        raise NotImplementedError("say how a store is opened again")

    def test_a_search_is_ordered_by_cosine_and_brings_vectors(self, make_store: MakeStore) -> None:
        """The nearest first, with ids, texts, metadata and the very vectors that were stored."""
        records = some(40)
        store = make_store(records)
        for query in queries(5):
            found = store.search(query, 10)
            assert ids(found) == nearest(records, query, 10)
            self.expect_as_stored(found, records)
            assert {item.vector_source for item in found} == {"store"}

    def test_the_length_of_a_vector_does_not_count(self, make_store: MakeStore) -> None:
        """Records may be longer or shorter than one; the order is that of the cosine, and not of the inner product."""
        records = [
            replace(item, vector=np.asarray(item.vector) * np.float32(0.25 + place % 7))
            for place, item in enumerate(some(60))
        ]
        store = make_store(records)
        for query in queries(3):
            assert ids(store.search(query, 20)) == nearest(records, query, 20)

    def test_more_than_there_are_gives_what_there_is(self, make_store: MakeStore) -> None:
        """Each record once, in order."""
        records = some(7)
        query = queries(1)[0]
        assert ids(make_store(records).search(query, 50)) == nearest(records, query, 7)

    def test_an_empty_store_is_an_empty_answer(self, make_store: MakeStore) -> None:
        """Nothing is found, sampled or given, and nothing fails."""
        store = make_store([])
        assert (store.search(queries(1)[0], 3), dict(store.get(["a"])), store.sample()) == ([], {}, [])

    def test_equal_vectors_are_all_found(self, make_store: MakeStore) -> None:
        """Records that share a vector stay apart."""
        row = queries(1)[0]
        store = make_store([Candidate("same", id=str(number), vector=row) for number in range(5)])
        assert sorted(ids(store.search(row, 5))) == list("01234")

    def test_records_are_given_by_id(self, make_store: MakeStore) -> None:
        """Whatever the order, twice or not stored: each under its own id; no ids give nothing."""
        records = some(12)
        store = make_store(records)
        asked = ["9", "3", "missing", "11", "3", "0"]
        found = store.get(asked)
        assert set(found) == {"0", "3", "9", "11"}
        assert all(record.id == id_ for id_, record in found.items())
        self.expect_as_stored(list(found.values()), records)
        assert dict(store.get([])) == {}
        assert dict(store.get(["missing"])) == {}

    def test_a_sample_can_be_embedded_again(self, make_store: MakeStore) -> None:
        """Some stored records with text and vector, each once."""
        records = some(12)
        sample = make_store(records).sample()
        assert sample
        assert len(set(ids(sample))) == len(sample)
        self.expect_as_stored(sample, records)

    def test_strange_ids_and_texts_survive(self, make_store: MakeStore) -> None:
        """Scripts, quotes, placeholders and line ends come back as they were."""
        rows = vectors(len(STRANGE))
        records = [
            Candidate(word, id=word, vector=row, metadata={"k": word}) for word, row in zip(STRANGE, rows, strict=True)
        ]
        store = make_store(records)
        self.expect_as_stored(list(store.get(STRANGE).values()), records)
        assert set(store.get(STRANGE)) == set(STRANGE)
        self.expect_as_stored(store.search(rows[0], len(STRANGE)), records)

    def test_metadata_keep_their_types(self, make_store: MakeStore) -> None:
        """Strings, whole numbers, fractions and booleans; none at all is an empty mapping."""
        kinds: dict[str, Any] = {"s": "", "i": 2**53 + 1, "n": -7, "f": 0.1, "t": True, "b": False}
        rows = vectors(2)
        found = make_store(
            [Candidate("a", id="a", vector=rows[0], metadata=kinds), Candidate("b", id="b", vector=rows[1])]
        )
        metadata = found.get(["a"])["a"].metadata
        assert {key: (type(value), value) for key, value in metadata.items()} == {
            key: (type(value), value) for key, value in kinds.items()
        }
        assert dict(found.get(["b"])["b"].metadata) == {}

    def test_a_stale_vector_is_not_given(self, make_store: MakeStore) -> None:
        """Where the text is another than when its hash was stored, the record comes without its vector."""
        fresh, stale = (replace(item, metadata={TEXT_HASH_KEY: text_hash("text 0")}) for item in some(2))
        store = make_store([fresh, stale])
        for found in (store.get(["0", "1"]).values(), store.search(queries(1)[0], 2)):
            assert {item.id: item.vector is None for item in found} == {"0": False, "1": True}

    def test_a_fingerprint_is_kept(self, make_store: MakeStore) -> None:
        """None at first; saved, replaced, and found by who opens the store later; the records stay."""
        records = some(5)
        store = make_store(records)
        assert store.fingerprint is None
        for saved in ('{"first": "1 % \' é"}', '{"second": 2}'):
            store.save_fingerprint(saved)
            assert store.fingerprint == saved
            assert self.reopened(store).fingerprint == saved
        assert len(store.get(ids(records))) == len(records)

    def test_records_are_there_when_opened_again(self, make_store: MakeStore) -> None:
        """Text, vector and metadata."""
        records = some(9)
        again = self.reopened(make_store(records))
        assert set(again.get(ids(records))) == set(ids(records))
        self.expect_as_stored(again.search(queries(1)[0], 9), records)

    def test_an_identity_stays_when_opened_again(self, make_store: MakeStore) -> None:
        """An indexing job knows its collection by it, in a later process also by how it prints."""
        store = make_store(some(3))
        again = self.reopened(store)
        assert again.identity == store.identity
        assert str(again.identity) == str(store.identity)

    def test_stores_are_told_apart(self, make_store: MakeStore) -> None:
        """An identity can be a key, stays the same, and is no other store's."""
        one, other = make_store(some(1)), make_store(some(1))
        assert one.identity == one.identity
        assert len({one.identity, other.identity}) == 2  # noqa: PLR2004

    def test_arguments_that_are_not_known_are_refused(self, make_store: MakeStore) -> None:
        """None is dropped in silence."""
        store = make_store(some(3))
        with pytest.raises(StoreError):
            store.search(queries(1)[0], 1, no_such_argument=1)

    def test_a_query_of_another_width_is_a_typed_error(self, make_store: MakeStore) -> None:
        """Of this package's family, and not the database's own."""
        store = make_store(some(3))
        with pytest.raises(E2RankError):
            store.search(np.ones(WIDTH + 1, dtype=np.float32), 1)

    def test_a_filter_holds_and_loses_nothing(self, make_store: MakeStore) -> None:
        """Only what passes it, all of it where so much is wanted, also where few records pass."""
        if self.even is None:
            pytest.skip("this store has no filter")
        records = [
            replace(item, metadata={"parity": "even" if place % 50 == 0 else "odd"})
            for place, item in enumerate(some(500))
        ]
        few = [record for record in records if record.metadata["parity"] == "even"]
        store = make_store(records)
        for query in queries(3):
            assert ids(store.search(query, 10, **self.even)) == nearest(few, query, 10)
            assert ids(store.search(query, 3, **self.even)) == nearest(few, query, 3)

    def test_a_search_finds_what_is_nearest(self, make_store: MakeStore) -> None:
        """At least 95 of 100, also where more are wanted than an approximate index looks at by default."""
        records = some(1000)
        store = make_store(records)
        for k in (10, 200):
            shares = [len({*ids(store.search(row, k))} & {*nearest(records, row, k)}) / k for row in queries(10)]
            assert np.mean(shares) >= 0.95, f"of the {k} nearest"  # noqa: PLR2004

    def test_threads_do_not_disturb_each_other(self, make_store: MakeStore) -> None:
        """Searches and look-ups at once answer as they do one after the other."""
        records = some(60)
        store = make_store(records)

        def ask(number: int) -> bool:
            query = queries(8)[number % 8]
            asked = [str(number % 60), str((number + 7) % 60)]
            return ids(store.search(query, 5)) == nearest(records, query, 5) and set(store.get(asked)) == set(asked)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(40)))

    def expect_as_stored(self, found: Sequence[Candidate], records: Sequence[Candidate]) -> None:
        """Each record has the text, the metadata and the vector that were stored under its id."""
        stored = {record.id: record for record in records}
        for item in found:
            given = stored[item.id]
            assert (item.text, dict(item.metadata)) == (given.text, dict(given.metadata))
            assert item.vector is not None
            row = np.asarray(item.vector, dtype=np.float32)
            assert row.shape == (WIDTH,)
            assert float(np.abs(row - np.asarray(given.vector)).max()) <= self.precision


class WritableStoreConformance(StoreConformance):
    """The same for a store that is written to by `upsert`; its `make_store` may do so, too."""

    def test_writing_replaces_a_record_as_a_whole(self, make_store: MakeWritable) -> None:
        """Text, vector and metadata, of which no old key stays; the others are untouched."""
        records = some(4)
        store = make_store(records)
        new = Candidate("new", id="1", vector=queries(2)[1], metadata={"other": 1})
        bare = replace(new, id="2", vector=queries(2)[0], metadata={})
        store.upsert([new, bare])
        assert store.count() == 4  # noqa: PLR2004
        expected = [records[0], new, bare, records[3]]
        assert set(store.get(ids(expected))) == set(ids(expected))
        self.expect_as_stored(list(store.get(ids(expected)).values()), expected)
        assert ids(store.search(queries(1)[0], 4)) == nearest(expected, queries(1)[0], 4)

    def test_writing_twice_is_writing_once(self, make_store: MakeWritable) -> None:
        """So that a job which was cut off may start again."""
        records = some(20)
        store = make_store(records[:10])
        for _ in range(2):
            store.upsert(records)
            assert store.count() == len(records)
            assert ids(self.reopened(store).search(queries(1)[0], 20)) == nearest(records, queries(1)[0], 20)

    def test_many_are_written_and_given_in_one_call(self, make_store: MakeWritable) -> None:
        """More than the batches of most databases."""
        records = some(2500)
        store = make_store([])
        store.upsert(records)
        assert store.count() == len(records)
        found = store.get(ids(records))
        assert set(found) == set(ids(records))
        self.expect_as_stored(list(found.values()), records)

    def test_writing_nothing_is_no_error(self, make_store: MakeWritable) -> None:
        """The count stays."""
        store = make_store([])
        store.upsert([])
        assert store.count() == 0

    def test_what_was_written_is_no_longer_the_callers(self, make_store: MakeWritable) -> None:
        """An array that is used again for the next batch changes nothing that is stored."""
        store = make_store([])
        row, metadata = vectors(1)[0].copy(), {"a": 1}
        store.upsert([Candidate("a", id="a", vector=row, metadata=metadata)])
        expected = Candidate("a", id="a", vector=row.copy(), metadata={"a": 1})
        row[:] = 0.5
        metadata["a"] = 2
        self.expect_as_stored([store.get(["a"])["a"]], [expected])

    def test_any_array_is_a_vector(self, make_store: MakeWritable) -> None:
        """Lists, float64 and half precision, as a `Candidate` allows."""
        row = vectors(1)[0].astype(np.float16)
        store = make_store([])
        given = {
            "list": row.tolist(),
            "float64": row.astype(np.float64),
            "float16": row,
            "reversed": row[::-1].copy()[::-1],
        }
        store.upsert([Candidate(name, id=name, vector=vector) for name, vector in given.items()])
        expected = [Candidate(name, id=name, vector=row.astype(np.float32)) for name in given]
        assert store.count() == len(given)
        self.expect_as_stored(list(store.get(list(given)).values()), expected)

    @pytest.mark.parametrize("fault", ["no id", "id twice", "no vector", "another width", "not finite", "no length"])
    def test_what_cannot_be_stored_is_refused(self, make_store: MakeWritable, fault: str) -> None:
        """With an `InputError`, and nothing of that call is written."""
        good, other = some(2)
        zeros = np.zeros(WIDTH, dtype=np.float32)
        bad = {
            "no id": replace(other, id=None),
            "id twice": replace(other, id="0"),
            "no vector": replace(other, vector=None),
            "another width": replace(other, vector=zeros[1:] + 1),
            "not finite": replace(other, vector=zeros + np.nan),
            "no length": replace(other, vector=zeros),
        }[fault]
        store = make_store([])
        with pytest.raises(InputError):
            store.upsert([good, bad])
        assert store.count() == 0

    def test_a_width_that_is_not_the_stores_is_a_typed_error(self, make_store: MakeWritable) -> None:
        """The vectors of another model do not come in beside those that are there."""
        store = make_store(some(3))
        with pytest.raises(E2RankError):
            store.upsert([Candidate("a", id="a", vector=np.ones(WIDTH + 1, dtype=np.float32))])
        assert store.count() == 3  # noqa: PLR2004

    def test_threads_write_at_once(self, make_store: MakeWritable) -> None:
        """Nothing is lost of what several threads write."""
        records = some(80)
        store = make_store([])
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(store.upsert, [records[start::8] for start in range(8)]))
        assert store.count() == len(records)
        self.expect_as_stored(list(store.get(ids(records)).values()), records)


def some(count: int) -> list[Candidate]:
    """Records "0", "1" and so on, with unit vectors."""
    return [
        Candidate(f"text {number}", id=str(number), vector=row, metadata={"number": number})
        for number, row in enumerate(vectors(count))
    ]


def vectors(count: int) -> Matrix:
    """Unit rows around a few centres, as embeddings are; the same every time."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, WIDTH))
    return _unit(centres[rng.integers(0, 20, count)] + rng.normal(size=(count, WIDTH)))


def queries(count: int) -> Matrix:
    """Unit rows of the same kind that are not stored."""
    return vectors(5000)[-count:]


def nearest(records: Sequence[Candidate], query: Vector, k: int) -> list[str]:
    """The ids of the k nearest records, by comparing all."""
    cosines = _unit(np.stack([np.asarray(record.vector) for record in records])) @ query
    return [str(records[place].id) for place in np.argsort(-cosines, kind="stable")[:k]]


def ids(records: Sequence[Candidate]) -> list[str]:
    """Their ids, in order."""
    return [str(record.id) for record in records]


def _unit(rows: Any) -> Matrix:  # noqa: ANN401 - numpy's own
    unit: Matrix = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit
