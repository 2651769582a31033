"""Which inputs share a forward pass. Arithmetic only."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from e2rank_integrations.values import TokenInput

Batch = list[int]
"""Positions of the inputs that share a forward pass."""


def batches(inputs: Sequence[TokenInput], *, tokens: int, pad: bool) -> Iterator[Batch]:
    """Group inputs of one role and of like length, the longest first, so that memory runs out early or never.

    Args:
        inputs: What is to be embedded.
        tokens: The most a batch may hold, padding included; a longer input is a batch of its own.
        pad: Whether inputs of different lengths may share a batch. Without padding a batch needs no mask,
            and no result depends on its neighbours.
    """

    def kind(position: int) -> tuple[str, int]:
        return inputs[position].role, 0 if pad else len(inputs[position].ids)

    order = sorted(range(len(inputs)), key=lambda i: (inputs[i].role, -len(inputs[i].ids)))
    for _, group in groupby(order, key=kind):
        yield from _filled(list(group), inputs, tokens)


def _filled(group: Sequence[int], inputs: Sequence[TokenInput], tokens: int) -> Iterator[Batch]:
    """Cut a group, longest first, into batches within the token budget."""
    start = 0
    while start < len(group):
        size = max(1, tokens // len(inputs[group[start]].ids))
        yield list(group[start : start + size])
        start += size
