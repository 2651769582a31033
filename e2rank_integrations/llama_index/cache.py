"""LlamaIndex's embeddings cache, which would know an embedding by its text alone."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.storage.kvstore.types import DEFAULT_COLLECTION, BaseKVStore

from e2rank_integrations.threads import in_thread

if TYPE_CHECKING:
    from e2rank_integrations.encoder import E2RankEncoder


class EmbeddingCache(BaseKVStore):
    """The entries of one model and one role in a key-value store that others may share.

    Args:
        store: Where the entries are.
        encoder: The model.
        role: A query and a document of the same text have different embeddings.
    """

    def __init__(self, store: BaseKVStore, encoder: E2RankEncoder, role: Literal["document", "query"]) -> None:
        self.store = store
        self.encoder = encoder
        self.role = role

    @cached_property
    def prefix(self) -> str:
        """What tells these entries from others: role, weights, format, dtype, and for queries their instruction."""
        profile, facts = self.encoder.profile, [self.encoder.fingerprint.to_json(), self.encoder.dtype]
        if self.role == "query":
            facts += [profile.query_format, profile.tasks.query]
        return f"e2rank:{self.role}:{sha256(repr(facts).encode()).hexdigest()[:16]}:"

    async def _aprefix(self) -> str:
        # The fingerprint may read, or even fetch, the model's files.
        return await in_thread(lambda: self.prefix)

    def put(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """Keep a value."""
        self.store.put(self.prefix + key, val, collection)

    async def aput(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """Keep a value."""
        await self.store.aput(await self._aprefix() + key, val, collection)

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """A kept value, or None."""
        return self.store.get(self.prefix + key, collection)

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """A kept value, or None."""
        return await self.store.aget(await self._aprefix() + key, collection)

    def get_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """The kept values of this model and role."""
        return self._own(self.store.get_all(collection))

    async def aget_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """The kept values of this model and role."""
        await self._aprefix()
        return self._own(await self.store.aget_all(collection))

    def delete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Forget a value."""
        return self.store.delete(self.prefix + key, collection)

    async def adelete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Forget a value."""
        return await self.store.adelete(await self._aprefix() + key, collection)

    def _own(self, entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        prefix = self.prefix
        return {key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)}
