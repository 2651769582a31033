"""Small models of the true architecture with random, seeded weights, and the reference's formula."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from tests.support.qwen import CONTROLS, save_qwen_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Weights = dict[str, torch.Tensor]

EOS = CONTROLS["<|endoftext|>"]
SMALL_VOCABULARY = 512
"""Enough for tests of engines, which see ids alone."""


def qwen3_config(*, layers: int = 2, width: int = 64, vocabulary: int = 151936, head_dim: int = 16) -> Qwen3Config:
    """Qwen3 with few and narrow layers."""
    return Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
    )


def save_qwen3(folder: Path, *, seed: int = 0, layers: int = 2, width: int = 64, head_dim: int = 16) -> Path:
    """Write a Qwen3 checkpoint with the real tokenizer: full vocabulary, few and narrow layers."""
    _save(Qwen3Model, folder, seed, qwen3_config(layers=layers, width=width, head_dim=head_dim))
    save_qwen_tokenizer(folder)
    return folder


def save_bare_qwen3(folder: Path, *, seed: int = 0, layers: int = 2, width: int = 32) -> Path:
    """Write weights and config alone, with a small vocabulary: all that an engine reads, in 200 kB."""
    return _save(Qwen3Model, folder, seed, _bare_config(layers, width))


def save_bare_causal_qwen3(folder: Path, *, seed: int = 0, layers: int = 2, width: int = 32) -> Path:
    """As `save_bare_qwen3`, saved with a language-model head, as training scripts do."""
    return _save(Qwen3ForCausalLM, folder, seed, _bare_config(layers, width))


def with_weights(source: Path, target: Path, change: Callable[[Weights], Weights]) -> Path:
    """Copy a checkpoint and rewrite its tensors."""
    shutil.copytree(source, target)
    file = target / "model.safetensors"
    weights = change(load_file(file))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file, metadata={"format": "pt"})
    return target


def reference_embed(
    model: Qwen3Model, sequences: Sequence[Sequence[int]], padding_side: str, *, pad: int = EOS
) -> torch.Tensor:
    """The reference's formula on ids: pad, run, take the last real token, normalise; shape (sequences, width)."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad)
    mask = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        place = slice(longest - len(sequence), None) if padding_side == "left" else slice(0, len(sequence))
        ids[row, place] = torch.tensor(sequence)
        mask[row, place] = 1
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    last = torch.full((len(sequences),), longest - 1) if padding_side == "left" else mask.sum(dim=1) - 1
    return torch.nn.functional.normalize(hidden[torch.arange(len(sequences)), last], dim=-1)


def _bare_config(layers: int, width: int) -> Qwen3Config:
    return qwen3_config(layers=layers, width=width, vocabulary=SMALL_VOCABULARY)


def _save(kind: type[Qwen3Model | Qwen3ForCausalLM], folder: Path, seed: int, config: Qwen3Config) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):  # the library's own initialisation takes seconds
        model = kind(config)
    model.to_empty(device="cpu")
    model.tie_weights()
    _randomise(model, seed)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def _randomise(model: Qwen3Model | Qwen3ForCausalLM, seed: int) -> None:
    """Seeded weights that do not depend on the versions of torch and transformers, so that figures can be frozen."""
    # The one generator whose stream numpy promises to keep.
    random = np.random.RandomState(seed)
    for name, parameter in sorted(model.named_parameters(), key=lambda pair: pair[0].removeprefix("model.")):
        values = torch.from_numpy(random.standard_normal(tuple(parameter.shape)).astype(np.float32))
        with torch.no_grad():
            parameter.copy_(1 + 0.1 * values if "norm" in name else 0.1 * values)
