"""What an engine is: token ids in, unit float32 rows out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable
from uuid import uuid4
from weakref import WeakKeyDictionary

from e2rank_integrations.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.values import Encoded, TokenInput


@runtime_checkable
class Engine(Protocol):
    """Embeds inputs in this process or elsewhere. Safe to share between threads.

    An engine may say whose vectors it makes, in an attribute `identity`: a string that no engine with other weights
    has, such as a server's address and the model's name; or None, if it runs the very files that its encoder names. Of
    one without the attribute nothing is believed: each index is compared by a few of its vectors, and a document cache
    answers for this engine in this process alone.
    """

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


_unnamed: WeakKeyDictionary[Engine, str] = WeakKeyDictionary()


def engine_identity(engine: Engine) -> str | None:
    """Whose vectors an engine makes; of one that does not say, what no other engine and no other process has.

    Returns:
        None for those of the files that its encoder names.

    Raises:
        InputError: it does not say, and cannot be told from others.
    """
    if hasattr(engine, "identity"):
        return None if engine.identity is None else str(engine.identity)
    try:
        return _unnamed.setdefault(engine, uuid4().hex)
    except TypeError:  # it has no hash, or no room for a weak reference
        raise InputError(
            f"custom_engine: {type(engine).__name__} cannot be told from other engines; give it an attribute "
            f"`identity`, a string that no engine with other weights has"
        ) from None
