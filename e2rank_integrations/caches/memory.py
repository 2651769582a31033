"""Document vectors in this process's memory, up to a bound."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from cachetools import LRUCache

from e2rank_integrations.caches.base import KEY_BYTES, packed, unpacked
from e2rank_integrations.checks import expect_positive

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from e2rank_integrations.values import Vector

ENTRY_BYTES = KEY_BYTES + 480
"""What an entry takes beside its vector: the key, and the objects and tables around it (up to 462 measured)."""

# One lock for every cache: it is held for a look into a table, and a fork can wait for it.
_lock = threading.Lock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class MemoryCache:
    """Keeps the document vectors that were used last, in this process, and never more bytes than its bound.

    A vector of width 1,024 counts 4,608 bytes, so the default keeps about 58,000 of them. A copy within the process
    is the same cache; a pickled one is empty, with the same bound.

    Args:
        max_bytes: The most that it may hold, keys and bookkeeping included. A vector that is larger is not kept.

    Raises:
        InputError: `max_bytes` is no integer of at least 1.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        expect_positive("max_bytes", max_bytes)
        self.max_bytes = max_bytes
        self._rows: LRUCache[bytes, bytes] = LRUCache(max_bytes, getsizeof=_counted)

    @property
    def nbytes(self) -> int:
        """What it holds now, counted as the bound is."""
        return int(self._rows.currsize)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_bytes={self.max_bytes})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (self.max_bytes,)

    def get(self, keys: Sequence[bytes]) -> list[Vector | None]:
        """The vector of each key, or None; those found count as used."""
        with _lock:
            found = [self._rows.get(key) for key in keys]
        return [unpacked(row) for row in found]

    def put(self, items: Mapping[bytes, Vector]) -> None:
        """Keep vectors; those that were not used for longest make room."""
        rows = {key: packed(vector) for key, vector in items.items()}
        with _lock:
            for key, row in rows.items():
                self._rows.pop(key, None)
                if _counted(row) <= self.max_bytes:
                    self._rows[key] = row

    def clear(self) -> None:
        """Forget all vectors."""
        with _lock:
            self._rows.clear()

    def close(self) -> None:
        """Nothing: it holds no connection."""


def _counted(row: bytes) -> int:
    return len(row) + ENTRY_BYTES
