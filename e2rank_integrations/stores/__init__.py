"""Vector stores that give stored vectors back."""

from __future__ import annotations

from e2rank_integrations.stores.base import TEXT_HASH_KEY, VectorStore, WritableStore, text_hash
from e2rank_integrations.stores.trust import FINGERPRINT_KEY, expect_same_embedding

__all__ = [
    "FINGERPRINT_KEY",
    "TEXT_HASH_KEY",
    "VectorStore",
    "WritableStore",
    "expect_same_embedding",
    "text_hash",
]
