"""What goes through a model: forwards, tokens, and padding."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
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
    _started: float = 0.0

    def before(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count one forward's input."""
        ids, mask = kwargs["input_ids"] if "input_ids" in kwargs else args[0], kwargs.get("attention_mask")
        self.forwards += 1
        self.padded_tokens += ids.numel()
        # With keys and values at hand the mask is longer than the ids.
        self.real_tokens += ids.numel() if mask is None else int(mask[:, -ids.shape[1] :].sum())
        self._started = perf_counter()

    def after(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object
    ) -> None:
        """Add the forward's time, if it is no single token's."""
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if ids.shape[1] > 1:
            self.prefill += perf_counter() - self._started


@contextmanager
def counted(model: torch.nn.Module) -> Iterator[Counts]:
    """Count what goes through a model; the hooks cost microseconds a forward."""
    counts = Counts()
    hooks = [
        model.register_forward_pre_hook(counts.before, with_kwargs=True),
        model.register_forward_hook(counts.after, with_kwargs=True),
    ]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()
