"""Small models of the true architecture with random, seeded weights, and the reference's formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import Qwen3Config, Qwen3Model

from tests.support.qwen import save_qwen_tokenizer

if TYPE_CHECKING:
    from pathlib import Path


def save_qwen3(folder: Path, *, seed: int = 0, layers: int = 2, width: int = 64) -> Path:
    """Write a Qwen3 checkpoint with the real tokenizer: full vocabulary, few and narrow layers."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
    )
    Qwen3Model(config).save_pretrained(folder, safe_serialization=True)
    save_qwen_tokenizer(folder)
    return folder


def reference_embed(model: Qwen3Model, sequences: list[list[int]], padding_side: str) -> torch.Tensor:
    """The reference's formula on ids: pad, run, take the last real token, normalise."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), 151643)
    mask = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        place = slice(longest - len(sequence), None) if padding_side == "left" else slice(0, len(sequence))
        ids[row, place] = torch.tensor(sequence)
        mask[row, place] = 1
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    last = torch.full((len(sequences),), longest - 1) if padding_side == "left" else mask.sum(dim=1) - 1
    return torch.nn.functional.normalize(hidden[torch.arange(len(sequences)), last], dim=-1)
