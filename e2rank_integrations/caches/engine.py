"""An engine that asks a cache first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.checks import expect_rows
from e2rank_integrations.threads import in_thread
from e2rank_integrations.values import Encoded, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2rank_integrations.caches.keyed import KeyedCache
    from e2rank_integrations.engines.base import Engine
    from e2rank_integrations.values import TokenInput, Vector


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """What of a call is known, and what must be computed.

    Attributes:
        keys: Of each input: a document's key in the cache; another's position, which is equal to no such key.
        found: The vectors that were kept, by key.
        missing: The inputs that must be computed, by key; equal documents once.
        known: The inputs whose vectors were kept.
    """

    keys: tuple[bytes, ...]
    found: Mapping[bytes, Vector]
    missing: Mapping[bytes, TokenInput]
    known: frozenset[TokenInput]

    @property
    def inputs(self) -> list[TokenInput]:
        """What the engine is asked."""
        return list(self.missing.values())


@dataclass(frozen=True)
class CachedEngine:
    """Embeds with another engine what a cache does not know; only documents are looked up and kept.

    What a call spent is what the other engine computed. Documents that are equal, id by id, are computed once.

    Args:
        engine: Computes.
        vectors: The model's part of the cache.
    """

    engine: Engine
    vectors: KeyedCache

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """Embed the inputs; see `Engine.encode`.

        Raises:
            StoreError: the cache cannot be used as it is set up.
        """
        if not any(map(_is_document, inputs)):
            return self.engine.encode(inputs)
        lookup = self._look_up(inputs)
        return self._completed(lookup, self.engine.encode(lookup.inputs) if lookup.missing else None)

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """As `encode`, without blocking the event loop."""
        if not any(map(_is_document, inputs)):
            return await self.engine.aencode(inputs)
        lookup = await in_thread(self._look_up, inputs)
        computed = await self.engine.aencode(lookup.inputs) if lookup.missing else None
        return await in_thread(self._completed, lookup, computed)

    def warmup(self) -> None:
        """Make the engine ready."""
        self.engine.warmup()

    def close(self) -> None:
        """Give back the engine's memory and the cache's connections; what is kept stays."""
        self.engine.close()
        self.vectors.cache.close()

    def _look_up(self, inputs: Sequence[TokenInput]) -> Lookup:
        keys = tuple(self.vectors.key(item) if _is_document(item) else b"%d" % i for i, item in enumerate(inputs))
        documents = dict.fromkeys(key for key, item in zip(keys, inputs, strict=True) if _is_document(item))
        found = self.vectors.find(list(documents))
        missing = {key: item for key, item in zip(keys, inputs, strict=True) if key not in found}
        known = frozenset(item for key, item in zip(keys, inputs, strict=True) if key in found)
        return Lookup(keys, found, missing, known)

    def _completed(self, lookup: Lookup, computed: Encoded | None) -> Encoded:
        """Keep what was computed, and put all rows into the order of the inputs."""
        new = {} if computed is None else self._new(lookup, computed)
        self.vectors.keep({key: row for key, row in new.items() if _is_document(lookup.missing[key])})
        rows = {**lookup.found, **new}
        usage = Usage() if computed is None else computed.usage
        return Encoded(np.stack([rows[key] for key in lookup.keys]), usage, lookup.known)

    def _new(self, lookup: Lookup, computed: Encoded) -> dict[bytes, Vector]:
        expect_rows(computed.vectors, len(lookup.missing), self.vectors.width)
        return dict(zip(lookup.missing, computed.vectors, strict=True))


def _is_document(item: TokenInput) -> bool:
    return item.role == "document"
