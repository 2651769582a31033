"""Chroma, through its native client: in memory, on disk, or a server."""

from __future__ import annotations

import math
import re
import ssl
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from e2rank_integrations.errors import InputError, MissingExtraError, StoreError
from e2rank_integrations.stores.base import SAMPLE_RECORDS, without_stale_vectors
from e2rank_integrations.stores.trust import FINGERPRINT_KEY
from e2rank_integrations.stores.writing import expect_writable, parts
from e2rank_integrations.values import Candidate

try:
    import chromadb
    from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings
    from chromadb.errors import AuthorizationError, ChromaAuthError, NotFoundError
    from httpx import HTTPStatusError, RequestError
except ModuleNotFoundError as error:
    raise MissingExtraError("chromadb", "chroma") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection
    from chromadb.api.types import Include

    from e2rank_integrations.values import Vector


_INCLUDE: Include = ["documents", "metadatas", "embeddings"]
_COLUMNS = ("ids", *_INCLUDE)
_IDS_AT_ONCE = 10_000  # SQLite takes some 32,000 variables in one statement
_SEARCH_ARGUMENTS = ("where", "where_document", "ids")
_INT64 = 2**63
_REFUSED = (AuthorizationError, ChromaAuthError)


class ChromaStore:
    """A Chroma collection as candidates with their stored vectors.

    Args:
        collection: The native client's; of a LangChain store, see `e2rank_integrations.langchain.E2RankRetriever`.
    """

    _client: ClientAPI | None = None

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
        found: Mapping[str, Any] = _asked(self._collection.query, query_embeddings=vector[None].tolist(), **arguments)
        return found

    def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Stored records by id. Chroma ignores the order asked for and leaves out what it lacks.

        Raises:
            StoreError: Chroma refuses.
        """
        found = [_asked(self._collection.get, ids=part, include=_INCLUDE) for part in _distinct(ids)]
        return {str(record.id): record for rows in found for record in self._candidates(rows)}

    def existing(self, ids: Sequence[str]) -> list[str]:
        """Those ids that are stored, each once.

        Raises:
            StoreError: Chroma refuses.
        """
        return [id_ for part in _distinct(ids) for id_ in _asked(self._collection.get, ids=part, include=[])["ids"]]

    def upsert(self, records: Sequence[Candidate]) -> None:
        """Write records, in batches as large as Chroma takes; what is stored under an id is replaced as a whole.

        Args:
            records: Each with an id of its own and a vector, all of one width. Chroma's metadata are strings, numbers,
                booleans and lists of them; keys whose value is None are not stored.

        Raises:
            InputError: a record without id or vector, an id twice, or a number among the metadata that Chroma would
                change; nothing is written.
            VectorError: a vector of another width than the first, not finite, or of length zero; nothing is written.
            StoreError: Chroma refuses; the batches before are written.
        """
        expect_writable(records)
        _expect_exact_numbers(records)
        client = self._collection._client  # noqa: SLF001 - a collection says its server's limits nowhere else
        for part in parts(records, max(1, _asked(client.get_max_batch_size) if records else 1)):
            self._write(part)

    def _write(self, records: Sequence[Candidate]) -> None:
        ids = [str(record.id) for record in records]
        stored = _asked(self._collection.get, ids=ids, include=["metadatas"])
        rows = zip(stored["ids"], stored["metadatas"], strict=True)
        # Chroma's upsert keeps the keys that the new metadata lack; None takes them away.
        gone = {id_: dict.fromkeys(metadata or {}) for id_, metadata in rows}
        _asked(
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
        return int(_asked(self._collection.count))

    def close(self) -> None:
        """Close the client that `open_collection` made; a collection that was given stays open."""
        if self._client is not None:
            _close(self._client)

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


def open_collection(
    where: str | Path,
    name: str,
    *,
    fingerprint: str | None = None,
    search_ef: int | None = None,
    headers: Mapping[str, str] | None = None,
    verify: bool | str = True,
    tenant: str | None = None,
    database: str | None = None,
    create: bool = True,
) -> ChromaStore:
    """A collection in a folder or on a server; made, with cosine distance, where it does not exist.

    An existing collection is opened as it is: neither its metadata nor its configuration is written to.

    Args:
        where: A folder, or a server's `http(s)://host:port`, with the path of a proxy behind it if there is one.
        name: Of the collection.
        fingerprint: Of a new collection: the embedding's, as JSON.
        search_ef: Of a new collection: how many candidates its HNSW looks at for one search, at least 1; Chroma's
            default is 100. Give it about twice the `fetch_k` of the searches.
        headers: Sent with each request to a server, `Authorization` for instance.
        verify: Whether a server's certificate is checked, or the path of the CA certificates to check it by.
        tenant: Chroma's, if not the default.
        database: Chroma's, if not the default.
        create: Whether to make the collection, and the folder, where they do not exist.

    Returns:
        The store; its `close` closes the client that was opened for it.

    Raises:
        InputError: an address, a header or a number that cannot be used.
        StoreError: the collection does not exist and is not to be made, or nothing can be opened there.
    """
    if search_ef is not None and search_ef < 1:
        raise InputError(f"search_ef: expected a number of candidates, at least 1, found {search_ef}")
    scope = {"tenant": tenant or DEFAULT_TENANT, "database": database or DEFAULT_DATABASE}
    client = _server(str(where), headers, verify, scope) if _is_address(where) else _folder(where, create, scope)
    try:
        store = ChromaStore(_made(client, name, fingerprint, search_ef) if create else _existing(client, name))
    except BaseException:
        _close(client)
        raise
    store._client = client  # noqa: SLF001 - its own
    return store


def _is_address(where: str | Path) -> bool:
    if isinstance(where, Path):
        return False
    if re.match("https?://", where):
        return True
    if "://" in where or (re.fullmatch(r"[\w.-]+:\d+/?", where) and not Path(where).exists()):
        raise InputError("where: expected a folder or a server's address, as in http://localhost:8000")
    return False


def _server(address: str, headers: Mapping[str, str] | None, verify: bool | str, scope: Mapping[str, str]) -> ClientAPI:
    _expect_plain_address(address)
    _expect_headers(headers or {})
    settings = Settings(chroma_server_ssl_verify=verify)
    with warnings.catch_warnings():
        # Chroma hands the path on to httpx, which would rather have a context; Chroma's settings take none.
        warnings.filterwarnings("ignore", "`verify=<str>` is deprecated", DeprecationWarning)
        return _opened(chromadb.HttpClient, host=address, ssl=address.startswith("https"),
                       headers=dict(headers or {}), settings=settings, **scope)  # fmt: skip


def _expect_plain_address(address: str) -> None:
    """Refuse what Chroma would drop, or show in its errors."""
    try:
        parts_ = urlsplit(address)
        usable = bool(parts_.hostname) and (parts_.port is None or parts_.port > 0)
    except ValueError:
        usable = False
    if not usable or parts_.username is not None or parts_.query or parts_.fragment:
        raise InputError(
            "where: expected http(s)://host:port, maybe with a path, and neither a user's name nor a query in it; "
            "credentials belong in headers"
        )


def _expect_headers(headers: Mapping[str, str]) -> None:
    """Refuse what httpx would, since its error holds the value."""
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", str(name)):
            raise InputError("headers: a name is not one that HTTP allows")
        if not isinstance(value, str) or not re.fullmatch(r"[\x20-\x7e\t]*", value):
            raise InputError(f"headers: the value of {name!r} is not a string of printable ASCII characters")


def _folder(where: str | Path, create: bool, scope: Mapping[str, str]) -> ClientAPI:
    if not create and not Path(where).is_dir():
        raise StoreError(f"there is no folder {str(where)!r} with a Chroma database; index something into it first")
    return _opened(chromadb.PersistentClient, path=str(where), **scope)


def _made(client: ClientAPI, name: str, fingerprint: str | None, search_ef: int | None) -> Collection:
    # In one request, so that two processes may start at once; it leaves an existing collection as it is.
    collection: Collection = _asked(
        client.get_or_create_collection,
        name=name,
        metadata=None if fingerprint is None else {FINGERPRINT_KEY: fingerprint},
        configuration={"hnsw": {"space": "cosine"} | ({} if search_ef is None else {"ef_search": search_ef})},
        embedding_function=None,
    )
    return collection


def _existing(client: ClientAPI, name: str) -> Collection:
    try:
        return client.get_collection(name, embedding_function=None)
    except NotFoundError as error:
        count = _asked(client.count_collections)
        raise StoreError(
            f"there is no collection {name!r} here, among {count}; check its name, the tenant and the database, "
            f"or index something into it first"
        ) from error
    except Exception as error:
        raise StoreError(f"Chroma failed to get_collection: {_cause(error)}") from error


def _opened(kind: Callable[..., ClientAPI], **arguments: Any) -> ClientAPI:
    try:
        return kind(**arguments)
    except Exception as error:
        raise StoreError(f"Chroma cannot be opened: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """Why Chroma failed, and the next step; not its own message, which may repeat a filter, an address or an answer."""
    chain = list(_chain(error))
    if any(isinstance(item, ssl.SSLError) for item in chain) or "CERTIFICATE_VERIFY" in str(error):
        return "the server's certificate is not trusted; give the path of its CA certificates as verify"
    statuses = [item.response.status_code for item in chain if isinstance(item, HTTPStatusError)]
    if any(status in (401, 403) for status in statuses) or any(isinstance(item, _REFUSED) for item in chain):
        return "the server refused the credentials; check the headers, the tenant and the database"
    if statuses:
        return f"the server answered with status {statuses[0]}; check the address, the tenant and the database"
    if any(isinstance(item, RequestError) for item in chain):
        return "the server cannot be reached; check that it runs and its address"
    return f"{type(error).__name__}; the error that caused this one says why"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _close(client: ClientAPI) -> None:
    """Close a client and its connections, which Chroma's own `close` leaves open."""
    for owner in (client, getattr(client, "_admin_client", None)):
        session = getattr(getattr(owner, "_server", None), "_session", None)
        if session is not None:
            session.close()
    if hasattr(client, "close"):  # not before Chroma 1.5
        client.close()


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


def _asked(method: Callable[..., Any], **arguments: Any) -> Any:  # noqa: ANN401 - Chroma's own results
    try:
        return method(**arguments)
    except Exception as error:  # Chroma's client raises a bare Exception for an answer that it does not know
        raise StoreError(
            f"Chroma failed to {method.__name__}: {_cause(error)}; if the collection was deleted or its client closed, "
            f"make this component again"
        ) from error
