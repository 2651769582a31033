"""A Chroma collection, read and written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.stores.base import SAMPLE_RECORDS, without_stale_vectors
from e2rank_integrations.stores.chroma.asking import asked, is_too_large
from e2rank_integrations.stores.trust import FINGERPRINT_KEY
from e2rank_integrations.stores.writing import expect_records, parts
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
    from typing import Self

    from chromadb.api.models.Collection import Collection
    from chromadb.api.types import Include

    from e2rank_integrations.values import Vector

_INCLUDE: Include = ["documents", "metadatas", "embeddings"]
_COLUMNS = ("ids", *_INCLUDE)
_IDS_AT_ONCE = 10_000  # SQLite takes some 32,000 variables in one statement
_SEARCH_ARGUMENTS = ("where", "where_document", "ids")
_INT64 = 2**63


class ChromaStore:
    """A Chroma collection as candidates with their stored vectors.

    Args:
        collection: The native client's; of a LangChain store, see `e2rank_integrations.langchain.E2RankRetriever`.
        closing: What `close` calls, for a client that was opened for this store alone.
    """

    def __init__(self, collection: Collection, *, closing: Callable[[], None] = lambda: None) -> None:
        self._collection = collection
        self._closing = closing

    @property
    def identity(self) -> Hashable:
        """The collection's own id, new for every collection ever made."""
        return self._collection.id

    @property
    def fingerprint(self) -> str | None:
        """What was saved in the collection's metadata."""
        saved = (self._collection.metadata or {}).get(FINGERPRINT_KEY)
        return None if saved is None else str(saved)

    def save_fingerprint(self, fingerprint: str) -> None:
        """Keep a fingerprint in the collection's metadata, beside what is there.

        Chroma replaces the metadata as a whole and refuses index settings (`hnsw:…`) among it, even unchanged; those
        stay in force in the collection's configuration, where Chroma keeps them, but leave the metadata.
        """
        kept = {key: value for key, value in (self._collection.metadata or {}).items() if not key.startswith("hnsw:")}
        asked(self._collection.modify, metadata={**kept, FINGERPRINT_KEY: fingerprint})

    def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
        """The k nearest records with their vectors: one request, or two where the collection's own search is narrow.

        Args:
            vector: Unit vector, shape (width,).
            k: Records wanted.
            options: Of `Collection.query`: `where`, `where_document`, `ids`.

        Raises:
            StoreError: Chroma refuses the search.
        """
        unknown = sorted(set(options) - set(_SEARCH_ARGUMENTS))
        if unknown:
            raise StoreError(f"Chroma's search takes {', '.join(_SEARCH_ARGUMENTS)}, and not {unknown[0]!r}")
        if self._is_wide(k):
            found = self._query(vector, n_results=k, include=_INCLUDE, **options)
            return self._candidates({name: found[name][0] for name in _COLUMNS})
        # HNSW looks at max(ef_search, records asked for) candidates, and the nearest k are safely among them only
        # where there are twice as many. Their ids cost little; their vectors would double what a search costs.
        wanted = max(k, min(2 * k, _IDS_AT_ONCE))
        ids = self._query(vector, n_results=wanted, include=[], **options)["ids"][0][:k]
        records = self.get(ids)
        return [records[id_] for id_ in ids if id_ in records]

    def _is_wide(self, k: int) -> bool:
        hnsw = self._collection.configuration_json.get("hnsw") or {}
        return int(hnsw.get("ef_search", 2 * k)) >= 2 * k

    def _query(self, vector: Vector, **arguments: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = asked(self._collection.query, query_embeddings=vector[None].tolist(), **arguments)
        return found

    def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Stored records by id. Chroma ignores the order asked for and leaves out what it lacks.

        Raises:
            StoreError: Chroma refuses.
        """
        found = [asked(self._collection.get, ids=part, include=_INCLUDE) for part in _distinct(ids)]
        return {str(record.id): record for rows in found for record in self._candidates(rows)}

    def existing(self, ids: Sequence[str]) -> list[str]:
        """Those ids that are stored, each once.

        Raises:
            StoreError: Chroma refuses.
        """
        return [id_ for part in _distinct(ids) for id_ in asked(self._collection.get, ids=part, include=[])["ids"]]

    def upsert(self, records: Sequence[Candidate]) -> None:
        """Write records, in batches as large as Chroma takes; what is stored under an id is replaced as a whole.

        Args:
            records: Each with an id of its own and a vector, all of one width. Chroma's metadata are strings, numbers,
                booleans and lists of them; keys whose value is None are not stored.

        Raises:
            InputError: a record without id or vector, an id twice, or a number among the metadata that Chroma would
                change; nothing is written.
            VectorError: a vector of another width than the first, not finite, or of length zero; nothing is written.
            StoreError: Chroma refuses, or a record alone is too large for it; the batches before are written.
        """
        expect_records(records)
        _expect_exact_numbers(records)
        client = self._collection._client  # noqa: SLF001 - a collection says its server's limits nowhere else
        for part in parts(records, max(1, asked(client.get_max_batch_size) if records else 1)):
            self._write_in_halves(part)

    def _write_in_halves(self, records: Sequence[Candidate]) -> None:
        """Write a batch; one that is too large for the server in bytes, which it does not say before, half by half."""
        try:
            self._write(records)
        except StoreError as error:
            if not is_too_large(error):
                raise
            if len(records) == 1:
                raise StoreError(
                    f"record {records[0].id!r}: the server takes no request as large as this record alone; split its "
                    f"text, or raise the limit of the server and of the proxy before it"
                ) from error
            for half in parts(records, math.ceil(len(records) / 2)):
                self._write_in_halves(half)

    def _write(self, records: Sequence[Candidate]) -> None:
        ids = [str(record.id) for record in records]
        stored = asked(self._collection.get, ids=ids, include=["metadatas"])
        rows = zip(stored["ids"], stored["metadatas"], strict=True)
        # Chroma's upsert keeps the keys that the new metadata lack; None takes them away.
        gone = {id_: dict.fromkeys(metadata or {}) for id_, metadata in rows}
        asked(
            self._collection.upsert,
            ids=ids,
            documents=[record.text for record in records],
            embeddings=[np.asarray(record.vector, dtype=np.float32) for record in records],
            metadatas=[{**gone.get(str(record.id), {}), **record.metadata} or None for record in records],
        )

    def count(self) -> int:
        """How many records are stored.

        Raises:
            StoreError: Chroma refuses.
        """
        return int(asked(self._collection.count))

    def close(self) -> None:
        """Close the client that `open_collection` made; a collection that was given stays open."""
        self._closing()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def sample(self) -> list[Candidate]:
        """The first records.

        Raises:
            StoreError: Chroma refuses.
        """
        return self._candidates(asked(self._collection.get, limit=SAMPLE_RECORDS, include=_INCLUDE))

    def record(self, id_: str, text: str | None, metadata: Mapping[str, Any] | None, vector: Vector) -> Candidate:
        """A stored row as a candidate; a row may lack its text and its metadata, but not its vector."""
        return Candidate(text or "", id=id_, vector=vector, vector_source="store", metadata=metadata or {})

    def _candidates(self, found: Mapping[str, Any]) -> list[Candidate]:
        rows = zip(*(found[name] for name in _COLUMNS), strict=True)
        return without_stale_vectors([self.record(*row) for row in rows])


def _expect_exact_numbers(records: Sequence[Candidate]) -> None:
    """Refuse numbers that Chroma drops or rounds without a word."""
    for place, record in enumerate(records):
        for key, value in record.metadata.items():
            for item in value if isinstance(value, list) else [value]:
                if (isinstance(item, float) and not math.isfinite(item)) or (
                    isinstance(item, int) and not -_INT64 <= item < _INT64
                ):
                    raise InputError(
                        f"record {place} (id {record.id!r}): its metadata {key!r} is a number that Chroma cannot keep; "
                        f"store it as a string"
                    )


def _distinct(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return parts(list(dict.fromkeys(ids)), _IDS_AT_ONCE)
