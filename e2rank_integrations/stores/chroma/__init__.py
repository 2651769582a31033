"""Chroma, through its native client: in memory, on disk, or a server."""

from __future__ import annotations

from e2rank_integrations.errors import MissingExtraError

try:
    import chromadb  # noqa: F401 - to say which extra is missing before anything else fails
except ModuleNotFoundError as error:
    raise MissingExtraError("chromadb", "chroma") from error

from e2rank_integrations.stores.chroma.opening import open_collection
from e2rank_integrations.stores.chroma.store import ChromaStore

__all__ = ["ChromaStore", "open_collection"]
