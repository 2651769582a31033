"""One model's part of a cache that others may share: its keys, and what may be believed of what comes back."""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2rank_integrations.caches.base import DocumentCache
    from e2rank_integrations.values import TokenInput, Vector

logger = logging.getLogger(__name__)

_FAR_FROM_UNIT = 1e-2  # a vector is of length one, to its dtype's rounding


class KeyedCache:
    """The vectors of one model, adapter, pooling, format and cap.

    A key is the SHA-256 of the model's digest and the ids that the engine would get. So two texts that are cut to
    the same ids share a vector. Device and dtype are no part of it, as they are none of an index's fingerprint.

    Args:
        cache: Where the vectors are.
        digest: What tells this model's from others', `Fingerprint.digest()`.
        width: Length of a vector.
    """

    def __init__(self, cache: DocumentCache, digest: bytes, width: int) -> None:
        self.cache = cache
        self.digest = digest
        self.width = width
        self._reported: set[str] = set()

    def key(self, document: TokenInput) -> bytes:
        """What a document's vector is kept under."""
        return sha256(self.digest + np.array(document.ids, dtype="<i8").tobytes()).digest()

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """The vectors that are kept and sound; none, with one warning, where the cache fails.

        Raises:
            StoreError: the cache cannot be used as it is set up.
        """
        try:
            rows = dict(zip(keys, self.cache.get(keys), strict=True))
            found = {key: np.asarray(row, dtype=np.float32) for key, row in rows.items() if row is not None}
            return {key: row for key, row in found.items() if self._is_sound(row)}
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - a cache of the user's own may fail in any way
            self._report("read", error)
            return {}

    def keep(self, vectors: Mapping[bytes, Vector]) -> None:
        """Keep vectors; where the cache fails, they are not lost to the caller: one warning says so."""
        # Copies: a row of the call's matrix would keep the whole of it alive.
        sound = {key: row.copy() for key, row in vectors.items() if self._is_sound(row)}
        if not sound:
            return
        try:
            self.cache.put(sound)
        except Exception as error:  # noqa: BLE001 - as above; these vectors are computed already
            self._report("written", error)

    def _is_sound(self, row: Vector) -> bool:
        """Whether it can be a unit vector of this model; NaN is none."""
        return row.shape == (self.width,) and abs(float(row @ row) - 1) < _FAR_FROM_UNIT

    def _report(self, what: str, error: Exception) -> None:
        if what not in self._reported:
            self._reported.add(what)
            logger.warning(
                "the document cache cannot be %s (%s: %s); vectors are computed, and this is not said again",
                what, type(error).__name__, error,
            )  # fmt: skip
