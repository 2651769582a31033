"""Chroma, through its native client: in memory, on disk, or a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2rank_integrations.errors import MissingExtraError, StoreError
from e2rank_integrations.stores.base import SAMPLE_RECORDS, without_stale_vectors
from e2rank_integrations.stores.trust import FINGERPRINT_KEY
from e2rank_integrations.values import Candidate

try:
    from chromadb.errors import ChromaError
    from httpx import HTTPError
except ModuleNotFoundError as error:
    raise MissingExtraError("chromadb", "chroma") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from chromadb.api.models.Collection import Collection
    from chromadb.api.types import Include

    from e2rank_integrations.values import Vector


_INCLUDE: Include = ["documents", "metadatas", "embeddings"]
_COLUMNS = ("ids", *_INCLUDE)
_IDS_AT_ONCE = 10_000  # SQLite takes some 32,000 variables in one statement
_SEARCH_ARGUMENTS = ("where", "where_document", "ids")


class ChromaStore:
    """A Chroma collection as candidates with their stored vectors.

    Args:
        collection: The native client's; of a LangChain store, see `e2rank_integrations.langchain.E2RankRetriever`.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

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
        _asked(self._collection.modify, metadata={**kept, FINGERPRINT_KEY: fingerprint})

    def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
        """The k nearest records with their vectors, in one request.

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
        found = _asked(
            self._collection.query,
            query_embeddings=vector[None].tolist(),
            n_results=k,
            include=_INCLUDE,
            **options,
        )
        return self._candidates({name: found[name][0] for name in _COLUMNS})

    def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Stored records by id. Chroma ignores the order asked for and leaves out what it lacks.

        Raises:
            StoreError: Chroma refuses.
        """
        found = [_asked(self._collection.get, ids=part, include=_INCLUDE) for part in _parts(ids)]
        return {str(record.id): record for rows in found for record in self._candidates(rows)}

    def existing(self, ids: Sequence[str]) -> list[str]:
        """Those ids that are stored, each once.

        Raises:
            StoreError: Chroma refuses.
        """
        return [id_ for part in _parts(ids) for id_ in _asked(self._collection.get, ids=part, include=[])["ids"]]

    def sample(self) -> list[Candidate]:
        """The first records.

        Raises:
            StoreError: Chroma refuses.
        """
        return self._candidates(_asked(self._collection.get, limit=SAMPLE_RECORDS, include=_INCLUDE))

    def record(self, id_: str, text: str | None, metadata: Mapping[str, Any] | None, vector: Vector) -> Candidate:
        """A stored row as a candidate; a row may lack its text and its metadata, but not its vector."""
        return Candidate(text or "", id=id_, vector=vector, vector_source="store", metadata=metadata or {})

    def _candidates(self, found: Mapping[str, Any]) -> list[Candidate]:
        rows = zip(*(found[name] for name in _COLUMNS), strict=True)
        return without_stale_vectors([self.record(*row) for row in rows])


def _parts(ids: Sequence[str]) -> list[list[str]]:
    wanted = list(dict.fromkeys(ids))
    return [wanted[start : start + _IDS_AT_ONCE] for start in range(0, len(wanted), _IDS_AT_ONCE)]


def _asked(method: Callable[..., Any], **arguments: Any) -> Any:  # noqa: ANN401 - Chroma's own results
    try:
        return method(**arguments)
    except (ChromaError, HTTPError, AttributeError, OSError, TypeError, ValueError) as error:
        # Not Chroma's own message, which may repeat a filter or an address.
        raise StoreError(
            f"Chroma failed to {method.__name__} ({type(error).__name__}); the error that caused this one says why; "
            f"if the collection was deleted or its client closed, make this component again"
        ) from error
