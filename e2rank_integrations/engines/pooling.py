"""Between token ids and vectors: padding a batch, and pooling hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.profiles import Pooling


def padded(sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and their boolean mask, both of shape (sequences, longest), padded on the right.

    The mask comes from the lengths and never from a pad id, which in Qwen3 is also the pooled token.
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences], device="cpu")  # a user's default may be another
    longest = int(lengths.max())
    ids = torch.zeros(len(sequences), longest, dtype=torch.long, device="cpu")
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence, device="cpu")
    return ids, torch.arange(longest, device="cpu") < lengths[:, None]


def pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector per sequence, from shape (batch, tokens, width) to (batch, width), float32."""
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last":
        last = mask.sum(dim=1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last].float()
    weights = mask[:, :, None].float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)


def pooled_packed(hidden: torch.Tensor, lengths: Sequence[int], pooling: Pooling) -> torch.Tensor:
    """One vector per sequence laid end to end on a CPU, from shape (tokens, width) to (sequences, width), float32."""
    if pooling == "mean":
        return torch.stack([part.float().mean(dim=0) for part in torch.split(hidden, list(lengths))])
    sizes = torch.tensor(lengths, device="cpu")
    ends = sizes.cumsum(0)
    return hidden[ends - 1 if pooling == "last" else ends - sizes].float()
