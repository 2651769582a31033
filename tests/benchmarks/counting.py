"""What goes through a model: forwards, tokens, and padding."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


@dataclass(slots=True)
class Counts:
    """Of one call.

    Attributes:
        forwards: Of the model.
        real_tokens: That the mask lets through; without a mask, all.
        padded_tokens: Real ones and padding.
        prefill: Seconds within forwards of more than one token a row.
    """

    forwards: int = 0
    real_tokens: int = 0
    padded_tokens: int = 0
    prefill: float = 0.0

    def add(self, ids: torch.Tensor, mask: torch.Tensor | None, seconds: float) -> None:
        """Count one forward, of ids of shape (rows, tokens)."""
        self.forwards += 1
        self.padded_tokens += ids.numel()
        # With keys and values at hand the mask is longer than the ids.
        self.real_tokens += ids.numel() if mask is None else int(mask[:, -ids.shape[1] :].sum())
        if ids.shape[1] > 1:
            self.prefill += seconds


@contextmanager
def counted(model: torch.nn.Module) -> Iterator[Counts]:
    """Count what goes through a model, at some microseconds a forward.

    Its `forward` is wrapped, since sentence-transformers calls that rather than the module, and hooks would not see it.
    """
    counts, forward = Counts(), model.forward

    @wraps(forward)
    def counting(*args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        output = forward(*args, **kwargs)
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        counts.add(ids, kwargs.get("attention_mask"), perf_counter() - started)
        return output

    model.forward = counting
    try:
        yield counts
    finally:
        del model.forward  # the class has its own
