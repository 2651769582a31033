"""Which inputs share a forward pass. Arithmetic only."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from e2rank_integrations.values import TokenInput

Batch = list[int]
"""Positions of the inputs that share a forward pass."""

LEAST_FILLED = 0.9
"""Of a padded row, at least this share is tokens, unless its batch would be too small to be worth a forward."""


def batches(inputs: Sequence[TokenInput], *, tokens: int, pad: bool, busy: int = 0) -> Iterator[Batch]:
    """Group inputs of one role and of like length, the longest first, so that memory runs out early or never.

    Args:
        inputs: What is to be embedded.
        tokens: The most a batch may hold, padding included; a longer input is a batch of its own.
        pad: Whether rows are padded to the batch's longest, or laid end to end.
        busy: Tokens, padding included, from which a batch keeps the device busy; a smaller one takes in shorter rows.
    """
    order = sorted(range(len(inputs)), key=lambda i: (inputs[i].role, -len(inputs[i].ids)))
    for _, group in groupby(order, key=lambda i: inputs[i].role):
        yield from _filled([(i, len(inputs[i].ids)) for i in group], tokens, pad=pad, busy=busy)


def _filled(group: Sequence[tuple[int, int]], tokens: int, *, pad: bool, busy: int) -> Iterator[Batch]:
    """Cut positions with their lengths, longest first, into batches within the token budget."""
    batch: Batch = []
    longest = held = 0
    for position, length in group:
        wasteful = pad and longest * len(batch) >= busy and length < LEAST_FILLED * longest
        held = longest * (len(batch) + 1) if pad else held + length
        if batch and (wasteful or held > tokens):
            yield batch
            batch = []
        if not batch:
            longest = held = length
        batch.append(position)
    if batch:
        yield batch
