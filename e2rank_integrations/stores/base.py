"""What a vector store must do to be reranked without embedding its documents again."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    import numpy.typing as npt

    from e2rank_integrations.values import Candidate, Vector

AnyCandidate = TypeVar("AnyCandidate", bound="Candidate")

logger = logging.getLogger(__name__)

TEXT_HASH_KEY = "e2rank_text_sha256"
"""Metadata key under which `text_hash` of the embedded text may be stored beside a record."""

SAMPLE_RECORDS = 64
"""How many records a store is asked for where a few are to be checked."""


class VectorStore(Protocol):
    """A collection of texts with their stored vectors."""

    @property
    def identity(self) -> Hashable:
        """Tells this collection from every other of the process.

        Of a store on a disk or a server it is the same, and prints the same, however and in whichever process the
        collection is opened, also after a restart.
        """
        ...

    @property
    def fingerprint(self) -> str | None:
        """The saved fingerprint of the embedding, as JSON; None where there is none."""
        ...

    def save_fingerprint(self, fingerprint: str) -> None:
        """Keep a fingerprint with the collection.

        Raises:
            StoreError: the store has no place for it.
        """
        ...

    def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
        """The k nearest records, best first, with their stored vectors.

        Args:
            vector: Unit vector, shape (width,).
            k: Records wanted, at least 1; fewer come back where there are fewer.
            options: The store's own search arguments, metadata filters among them.

        Raises:
            StoreError: the store refuses the search.
        """
        ...

    def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Stored records by id; ids that are not stored are absent."""
        ...

    def sample(self) -> list[Candidate]:
        """Some `SAMPLE_RECORDS` stored records with text and vector, for a spot check; none if it cannot say."""
        ...


class WritableStore(VectorStore, Protocol):
    """A store that records can be written to.

    An indexing job keeps its `identity` to go on, in another process, with the collection that it began.
    """

    def upsert(self, records: Sequence[Candidate]) -> None:
        """Write records; one whose id is stored already replaces the whole of it: text, vector and metadata.

        Split into the store's own batches: if one of them fails, those before it are written. To write the same
        records again does no harm.

        Args:
            records: Each with an id of its own and a vector, all of one width.

        Raises:
            InputError: a record without id or vector, an id twice; nothing is written.
            VectorError: a vector of another width than the first, not finite, or of length zero; nothing is written.
            StoreError: the store refuses them.
        """
        ...

    def count(self) -> int:
        """How many records are stored.

        Raises:
            StoreError: the store cannot say.
        """
        ...


def text_hash(text: str) -> str:
    """SHA-256 of a text, to be stored under `TEXT_HASH_KEY` in the metadata of its record."""
    return hashlib.sha256(text.encode()).hexdigest()


def without_stale_vectors(records: Sequence[Candidate]) -> list[Candidate]:
    """Take the vector from records whose stored text hash is no longer that of their text."""
    return [replace(record, vector=None) if is_stale(record) else record for record in records]


def report_stale_vectors(records: Sequence[Candidate]) -> None:
    """Say in one log record how many vectors are not used because they are older than their texts."""
    stale = sum(map(is_stale, records))
    if stale:
        logger.warning(
            "%d of %d stored vectors are older than their texts and are computed again; index those anew",
            stale, len(records),
        )  # fmt: skip


def stored_vector(text: str, record: Candidate | None) -> npt.ArrayLike | None:
    """The vector of a text's record, unless the text was changed since it was stored."""
    return record.vector if record is not None and record.text == text else None


def with_stored_vector(candidate: AnyCandidate, record: Candidate | None) -> AnyCandidate:
    """The candidate with its record's vector, unless its text was changed since it was stored."""
    vector = stored_vector(candidate.text, record)
    return candidate if vector is None else replace(candidate, vector=vector, vector_source="store")


def is_stale(record: Candidate) -> bool:
    """Whether the text is another than when its hash was stored."""
    saved = record.metadata.get(TEXT_HASH_KEY)
    return saved is not None and saved != text_hash(record.text)
