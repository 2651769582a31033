"""Opening a Chroma collection, in a folder or on a server."""

from __future__ import annotations

import re
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import chromadb
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings
from chromadb.errors import NotFoundError

from e2rank_integrations.checks import expect_count
from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.stores.chroma.asking import asked, cause
from e2rank_integrations.stores.chroma.store import ChromaStore
from e2rank_integrations.stores.trust import FINGERPRINT_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

Opened = TypeVar("Opened")


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
        name: Of the collection; of a new one 3 to 512 letters, digits, dots, hyphens and underscores.
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
        InputError: an address, a name, a header or a number that cannot be used; or a folder's database is to be opened
            with what only a server takes.
        StoreError: the collection does not exist and is not to be made, or nothing can be opened there.
    """
    expect_count("search_ef", search_ef)
    if create:
        _expect_name(name)
    scope = {"tenant": tenant or DEFAULT_TENANT, "database": database or DEFAULT_DATABASE}
    if _is_address(where):
        client = _server(str(where), headers, verify, scope)
    else:
        _expect_no_server(headers, verify)
        client = _folder(where, create, scope)
    try:
        collection = _made(client, name, fingerprint, search_ef) if create else _existing(client, name)
    except BaseException:
        close_client(client)
        raise
    return ChromaStore(collection, closing=partial(close_client, client))


def _expect_name(name: str) -> None:
    """Refuse what Chroma would, whose error a server may not pass on."""
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]", name):
        raise InputError(
            f"name: expected 3 to 512 ASCII letters, digits, '.', '_' and '-', with a letter or a digit at both ends, "
            f"found {name!r:.100}"
        )


def _is_address(where: str | Path) -> bool:
    if isinstance(where, Path):
        return False
    if re.match("https?://", where):
        return True
    if not where or "://" in where or (re.fullmatch(r"[\w.-]+:\d+/?", where) and not Path(where).exists()):
        raise InputError("where: expected a folder or a server's address, as in http://localhost:8000")
    return False


def _expect_no_server(headers: Mapping[str, str] | None, verify: bool | str) -> None:
    if headers or verify is not True:
        raise InputError("headers, verify: they are for a server, and where is a folder; leave them out")


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
    if Path(where).is_file():
        raise StoreError(f"where: expected a folder, found a file, {str(where)!r}")
    if not create and not Path(where).is_dir():
        raise StoreError(f"there is no folder {str(where)!r} with a Chroma database; index something into it first")
    return _opened(chromadb.PersistentClient, path=str(where), **scope)


def _made(client: ClientAPI, name: str, fingerprint: str | None, search_ef: int | None) -> Collection:
    # In one request, so that two processes may start at once; it leaves an existing collection as it is.
    return _opened(
        client.get_or_create_collection,
        name=name,
        metadata=None if fingerprint is None else {FINGERPRINT_KEY: fingerprint},
        configuration={"hnsw": {"space": "cosine"} | ({} if search_ef is None else {"ef_search": search_ef})},
        embedding_function=None,
    )


def _existing(client: ClientAPI, name: str) -> Collection:
    try:
        return client.get_collection(name, embedding_function=None)
    except NotFoundError as error:
        count = asked(client.count_collections)
        raise StoreError(
            f"there is no collection {name!r} here, among {count}; check its name, the tenant and the database, "
            f"or index something into it first"
        ) from error
    except Exception as error:
        raise StoreError(f"Chroma failed to get_collection: {cause(error)}") from error


def _opened(method: Callable[..., Opened], **arguments: Any) -> Opened:
    try:
        return method(**arguments)
    except Exception as error:
        raise StoreError(f"Chroma cannot be opened: {cause(error)}") from error


def close_client(client: ClientAPI) -> None:
    """Close a client and its connections, which Chroma's own `close` leaves open."""
    for owner in (client, getattr(client, "_admin_client", None)):
        session = getattr(getattr(owner, "_server", None), "_session", None)
        if session is not None:
            session.close()
    if hasattr(client, "close"):  # not before Chroma 1.5
        client.close()
