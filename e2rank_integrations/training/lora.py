"""LoRA factors on an encoder's layers, and their file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import torch
from torch import nn

from e2rank_integrations.engines.loading import without_peft_warning
from e2rank_integrations.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftModel
    from transformers import PreTrainedModel

_NEEDED = (
    "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "lora_alpha", "lora_dropout", "peft_type",
    "r", "target_modules", "task_type",
)  # fmt: skip
_LAYER = re.compile(r"\blayers?\.(\d+)\.")


def with_lora(encoder: PreTrainedModel, rank: int, layers: int | None = None, *, seed: int = 0) -> PeftModel:
    """Freeze an encoder and put LoRA factors on every linear map of its last layers, scaled by alpha = 2 · rank.

    Args:
        encoder: The model.
        rank: Of the factors.
        layers: How many of the last layers; None for all.
        seed: Of the factors' first values.

    Raises:
        InputError: the model has fewer layers.
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets(encoder, layers))
    with without_peft_warning(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(encoder, config)


def targets(encoder: nn.Module, layers: int | None = None) -> list[str]:
    """Names of the linear maps in the last layers of an encoder."""
    depth = 1 + max((_layer(name) for name, _ in encoder.named_modules()), default=-1)
    first = 0 if layers is None else depth - layers
    if first < 0 or not depth:
        raise InputError(f"lora_layers: expected at most the model's {depth}, found {layers}")
    linear = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in linear if _layer(name) >= first]


def save_lora(model: PeftModel, folder: Path, base_model: str) -> None:
    """Write the factors in float16, half the size.

    Args:
        model: The encoder with its factors; they are in float16 afterwards.
        folder: Where to.
        base_model: What the adapter's config calls the base model: no path of this machine.
    """
    for config in model.peft_config.values():
        config.base_model_name_or_path = base_model
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.half()
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's form of a card, nothing filled in
    _keep_what_is_needed(folder / "adapter_config.json")


def _keep_what_is_needed(file: Path) -> None:
    """An older peft warns of every key that it does not know; what is left out has its default."""
    config = json.loads(file.read_text(encoding="utf-8"))
    kept = {key: config[key] for key in _NEEDED if key in config}
    kept["target_modules"] = sorted(kept["target_modules"])
    file.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _layer(name: str) -> int:
    """The number of the layer in which a module stands, or -1."""
    found = _LAYER.search(f"{name}.")
    return int(found.group(1)) if found else -1
