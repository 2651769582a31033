"""Asking Chroma, and what its failures become."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from chromadb.errors import AuthorizationError, ChromaAuthError, InternalError
from httpx import HTTPStatusError, RequestError

from e2rank_integrations.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REFUSED = (AuthorizationError, ChromaAuthError)
_TOO_LARGE = 413


def asked(method: Callable[..., Any], **arguments: Any) -> Any:  # noqa: ANN401 - Chroma's own results
    """What a method of Chroma's client gives.

    Raises:
        StoreError: it fails, for whatever reason.
    """
    try:
        return method(**arguments)
    except Exception as error:  # Chroma's client raises a bare Exception for an answer that it does not know
        raise StoreError(
            f"Chroma failed to {method.__name__}: {cause(error)}; if the collection was deleted or its client closed, "
            f"make this component again"
        ) from error


def cause(error: BaseException) -> str:
    """Why Chroma failed, and the next step; not its own message, which may repeat a filter, an address or an answer."""
    chain = list(_chain(error))
    if any(isinstance(item, ssl.SSLError) for item in chain) or "CERTIFICATE_VERIFY" in str(error):
        return "the server's certificate is not trusted; give the path of its CA certificates as verify"
    statuses = _statuses(error)
    if any(status in (401, 403) for status in statuses) or any(isinstance(item, _REFUSED) for item in chain):
        return "the server refused the credentials; check the headers, the tenant and the database"
    if statuses:
        return f"the server answered with status {statuses[0]}; check the address, the tenant and the database"
    if any(isinstance(item, RequestError) for item in chain):
        return "the server cannot be reached; check that it runs and its address"
    if isinstance(error, (InternalError, OSError)):
        return f"{type(error).__name__}; check the paths, their permissions and the disk's room, or the server's log"
    return f"{type(error).__name__}; a traceback shows its own words"


def is_too_large(error: StoreError) -> bool:
    """Whether a server, or a proxy before it, takes no request of that size."""
    return _TOO_LARGE in _statuses(error)


def _statuses(error: BaseException) -> list[int]:
    return [item.response.status_code for item in _chain(error) if isinstance(item, HTTPStatusError)]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
