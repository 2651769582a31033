"""Models of the true architectures with random weights, written once and read by every row."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

from e2rank_integrations import checkpoint
from tests.benchmarks.options import WORK
from tests.support.models import EOS, qwen3_config
from tests.support.qwen import save_qwen_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PretrainedConfig, PreTrainedModel

    from tests.benchmarks.options import Options

SEED, MINILM_LAYERS = 0, 6
_SCALE = 0.02


def config_of(options: Options) -> Qwen3Config:
    """Qwen3-0.6B's, with as many layers as asked for."""
    if options.narrow:
        return qwen3_config(layers=options.layers)
    return Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=options.layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
    )


def qwen3(options: Options, root: Path = WORK) -> Path:
    """Folder of the embedding model: with its tied head, so that the generative row reads the same file."""
    return _kept(root / _name("qwen3", options), Qwen3ForCausalLM, config_of(options), save_qwen_tokenizer)


def qwen3_reranker(options: Options, dtype: str, root: Path = WORK) -> Path:
    """Folder of Qwen3-Reranker's architecture as a cross-encoder: one label."""
    config = config_of(options)
    config.num_labels, config.pad_token_id = 1, EOS
    folder = root / f"{_name('qwen3-reranker', options)}-{dtype}"
    return _kept(folder, Qwen3ForSequenceClassification, config, save_qwen_tokenizer, dtype)


def minilm(options: Options, dtype: str, root: Path = WORK) -> Path:
    """Folder of ms-marco-MiniLM-L6-v2's architecture."""
    width, layers, heads = (32, 1, 2) if options.narrow else (384, MINILM_LAYERS, 12)
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        num_labels=1,
    )
    folder = root / f"minilm-{layers}-layers-seed-{SEED}-{dtype}"
    return _kept(folder, BertForSequenceClassification, config, _save_minilm_tokenizer, dtype)


def _name(kind: str, options: Options) -> str:
    return f"{kind}-{'narrow-' if options.narrow else ''}{options.layers}-layers-seed-{SEED}"


def _kept(
    folder: Path,
    kind: type[PreTrainedModel],
    config: PretrainedConfig,
    save_tokenizer: Callable[[Path], None],
    dtype: str = "float32",
) -> Path:
    """The folder, written first if an earlier run did not."""
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _random(kind, config, getattr(torch, dtype)).save_pretrained(part)
    save_tokenizer(part)
    return part.rename(folder)


def _random(kind: type[PreTrainedModel], config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    with torch.device("meta"):  # the library's own initialisation takes long
        model = kind(config)
    model = model.to_empty(device="cpu")
    model.tie_weights()
    generator = torch.Generator().manual_seed(SEED)
    for name, parameter in sorted(model.named_parameters()):
        with torch.no_grad():
            parameter.normal_(std=_SCALE, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(1)
    # Parameters alone: buffers, the rotation's frequencies above all, are made anew in float32 when it is loaded.
    return model.to(dtype)


def _save_minilm_tokenizer(folder: Path) -> None:
    source = checkpoint.resolve(checkpoint.EMBEDDED, None).folder
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
