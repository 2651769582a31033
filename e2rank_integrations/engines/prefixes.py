"""Keys and values of document blocks, kept for the next query on the same candidates.

In the listwise prompt the query comes after the documents. So in a causal model the documents' keys and values do not
depend on it, and another query on the same candidates costs only its own tokens.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from cachetools import LRUCache

from e2rank_integrations.checks import expect_positive
from e2rank_integrations.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import Self

    import numpy.typing as npt

    from e2rank_integrations.engines.local import LocalEngine
    from e2rank_integrations.values import Encoded, TokenInput

logger = logging.getLogger(__name__)

_LEAST_TOKENS = 128
"""A shorter common beginning, the instruction's for instance, is not worth fetching."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """What an entry is found by.

    Attributes:
        owner: Who made it.
        ids: The document block's tokens, shape (tokens,).
    """

    owner: Hashable
    ids: npt.NDArray[np.int64]

    def shared_with(self, ids: npt.NDArray[np.int64]) -> int:
        """How many leading ids the two share."""
        length = min(len(self.ids), len(ids))
        different = np.flatnonzero(self.ids[:length] != ids[:length])
        return int(different[0]) if len(different) else length


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """What is kept of one document block.

    Attributes:
        state: Keys and values, as the engine that made them understands them.
        nbytes: Memory that they hold.
    """

    state: Any
    nbytes: int


class PrefixCache:
    """A bounded store of document blocks' keys and values, least recently used out first.

    It may serve several encoders and threads. Entries are found by the longest common beginning of token ids, among
    those that the same loaded model made; they go when it is closed. A copy within the process is the same
    cache; a pickled one is empty, with the same bound.

    Args:
        max_bytes: Most bytes to hold. E2Rank-0.6B needs 115 kB a token in bfloat16 and 229 kB in float32, so a block
            of 3,000 tokens takes 0.34 or 0.69 GB.

    Attributes:
        hits: Prompts that found a beginning.
        misses: Prompts that found none.
    """

    def __init__(self, max_bytes: int) -> None:
        expect_positive("max_bytes", max_bytes)
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._reported = False
        self._lock = threading.Lock()
        self._entries: LRUCache[Block, Prefix] = LRUCache(max_bytes, getsizeof=lambda prefix: prefix.nbytes)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (self.max_bytes,)

    def __repr__(self) -> str:
        return f"PrefixCache(max_bytes={self.max_bytes})"

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes held now, at most `max_bytes`."""
        return int(self._entries.currsize)

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._entries.clear()

    def longest(self, owner: Hashable, ids: Sequence[int]) -> tuple[int, Any]:
        """The entry with the longest common beginning.

        Args:
            owner: Who asks; entries of others are not seen.
            ids: A prompt.

        Returns:
            How many leading ids of the prompt the entry holds, fewer than there are, and its state; (0, None) if none.
        """
        wanted = np.asarray(ids[:-1], dtype=np.int64)  # the last token is the one that is pooled
        with self._lock:
            lengths = {block: block.shared_with(wanted) for block in self._of(owner)}
            best = max(lengths, key=lambda block: lengths[block], default=None)
            if best is None or lengths[best] < _LEAST_TOKENS:
                self.misses += 1
                return 0, None
            self.hits += 1
            return lengths[best], self._entries[best].state

    def has_room(self, tokens: int, nbytes: int) -> bool:
        """Whether a block may be kept at all; the first that may not is said in a log record."""
        if nbytes <= self.max_bytes:
            return True
        if not self._reported:
            self._reported = True
            logger.warning(
                "a document block of %d tokens takes %d bytes, beyond the prefix cache's bound of %d; it is not kept",
                tokens, nbytes, self.max_bytes,
            )  # fmt: skip
        return False

    def keep(self, owner: Hashable, ids: Sequence[int], state: Any, nbytes: int) -> None:  # noqa: ANN401 - the engine's own
        """Keep a block's state, instead of blocks that it begins with; what was used longest ago makes room."""
        new = Block(owner, np.asarray(ids, dtype=np.int64))
        with self._lock:
            for block in self._of(owner):
                if block.shared_with(new.ids) == len(block.ids):
                    del self._entries[block]
            if nbytes <= self.max_bytes:
                self._entries[new] = Prefix(state, nbytes)

    def drop(self, owner: Hashable) -> None:
        """Let go of what one owner has made."""
        with self._lock:
            for block in self._of(owner):
                del self._entries[block]

    def _of(self, owner: Hashable) -> list[Block]:
        return [block for block in self._entries if block.owner == owner]


@dataclass(frozen=True, slots=True)
class PrefixedEngine:
    """The engine of this process with a prefix cache for its listwise prompts."""

    engine: LocalEngine
    prefixes: PrefixCache

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """As `LocalEngine.encode`.

        Raises:
            InputError: the model is no causal one, so that a document's keys depend on what follows it.
        """
        return self.engine.encode(inputs, self.prefixes)

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """As `encode`, in one of the package's threads."""
        return await in_thread(self.encode, inputs)

    def warmup(self) -> None:
        """Load the weights, unless they are."""
        self.engine.warmup()

    def close(self) -> None:
        """Free the weights, and the keys and values that they made."""
        self.engine.close()
