"""What an engine is: token ids in, unit float32 rows out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.values import Encoded, TokenInput


class Engine(Protocol):
    """Embeds inputs in this process or elsewhere. Safe to share between threads."""

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """Embed the inputs.

        Returns:
            Unit rows, shape (inputs, width), float32, in the order of the inputs.

        Raises:
            TransientError: this call failed; another one may not.
        """
        ...

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """As `encode`, without blocking the event loop."""
        ...

    def warmup(self) -> None:
        """Make ready for the first call: load weights or open connections."""
        ...

    def close(self) -> None:
        """Give back memory and connections; the next call takes them again."""
        ...
