"""Document vectors by what was embedded and by which model: in memory, or on disk for whoever asks for it."""

from __future__ import annotations

from e2rank_integrations.caches.base import DocumentCache
from e2rank_integrations.caches.disk import DiskCache
from e2rank_integrations.caches.memory import MemoryCache

__all__ = ["DiskCache", "DocumentCache", "MemoryCache"]
