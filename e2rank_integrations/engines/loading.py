"""Reading weights: safetensors only, no remote code, and never a layer that the file did not hold."""

from __future__ import annotations

import json
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError, safe_open

from e2rank_integrations.errors import CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from peft import PeftModel
    from transformers import PreTrainedModel

    from e2rank_integrations.engines.registry import EngineKey

# Loading sets the process's default dtype for a moment; two loads at once would leave it changed.
_load_lock = threading.Lock()
# Parts of a checkpoint that no embedding uses, and buffers that older versions saved.
_UNUSED = ("lm_head.", "position_ids", "rotary_emb.inv_freq")
# The pooler head of BERT is behind the hidden states that are pooled here.
_UNREAD = ("pooler.",)
# An adapter trained on the model with its language-model head names the encoder within it.
_ENCODER_WITHIN = {r"^model\.": ""}


def load_model(key: EngineKey) -> PreTrainedModel | PeftModel:
    """Load a checkpoint's encoder in evaluation mode onto its device.

    Returns:
        The encoder; with a listwise adapter it is wrapped, and `disable_adapter` switches the adapter off.

    Raises:
        CheckpointError: of another architecture, weights missing or left over, or no transformers model.
    """
    _expect_architecture(key)
    with _load_lock, _without_progress_bar():
        default = torch.get_default_dtype()
        model = _from_pretrained(key)
        if torch.get_default_dtype() != default:
            torch.set_default_dtype(default)
        whole = _with_adapters(model, key)
    whole.config.use_cache = False  # keys and values that no one reads would take gigabytes for a long batch
    # transformers wraps these two in decorators that lose their types.
    torch.nn.Module.to(whole, key.device)
    torch.nn.Module.eval(whole)
    return whole


def _with_adapters(model: PreTrainedModel, key: EngineKey) -> PreTrainedModel | PeftModel:
    """The model with one adapter merged into its weights, and one beside them for listwise prompts."""
    if key.adapter is not None:
        # peft forwards this to the model within, untyped.
        model = cast("PreTrainedModel", _wrapped(model, key.adapter).merge_and_unload())
    return model if key.listwise_adapter is None else _wrapped(model, key.listwise_adapter)


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """A library prints nothing; transformers would draw a bar into the user's terminal or log."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if shown:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def without_peft_warning() -> Iterator[None]:
    """Peft asks transformers for an attribute under its old name; that is no business of this package's users."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def _expect_architecture(key: EngineKey) -> None:
    found = json.loads((key.folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if key.architecture is not None and found != key.architecture:
        raise CheckpointError(
            f"{key.folder} holds a model of type {found!r}, and its profile expects {key.architecture!r}; "
            f"pass the profile that was written for it"
        )


def _from_pretrained(key: EngineKey) -> PreTrainedModel:
    from transformers import AutoModel

    try:
        model, report = AutoModel.from_pretrained(
            key.folder,
            dtype=getattr(torch, key.dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{key.folder} cannot be loaded: {type(error).__name__}: {error}") from error
    _expect_complete(key.folder, report)
    return cast("PreTrainedModel", model)


def _expect_complete(folder: Path, report: dict[str, Any]) -> None:
    missing = _besides(report["missing_keys"], _UNREAD)
    unexpected = _besides(report["unexpected_keys"], (*_UNUSED, *_UNREAD))
    mismatched = [str(entry) for entry in report.get("mismatched_keys", ())]
    if missing or unexpected or mismatched:
        raise CheckpointError(
            f"{folder} does not hold exactly the model's weights: {_listed('missing', missing)}, "
            f"{_listed('unexpected', unexpected)}, {_listed('of another shape', mismatched)}; "
            f"nothing was loaded, since missing layers would be random"
        )


def _besides(names: Iterable[str], ignored: tuple[str, ...]) -> list[str]:
    return sorted(name for name in names if not any(part in name for part in ignored))


def _listed(what: str, names: list[str]) -> str:
    return f"{len(names)} {what}" + (f" ({names[0]}, …)" if names else "")


def _wrapped(model: PreTrainedModel, adapter: str) -> PeftModel:
    """The model with a LoRA adapter's weights beside its own."""
    file = Path(adapter) / "adapter_model.safetensors"
    if not file.is_file():
        raise CheckpointError(f"{adapter!r} holds no adapter_model.safetensors; give the folder of a LoRA adapter")
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "adapter") from error
    try:
        with without_peft_warning():
            wrapped = PeftModel.from_pretrained(model, adapter, torch_device="cpu", key_mapping=_ENCODER_WITHIN)
        _expect_whole_adapter(wrapped, file)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"adapter {adapter!r} cannot be loaded: {type(error).__name__}: {error}") from error
    return wrapped


def _expect_whole_adapter(wrapped: PeftModel, file: Path) -> None:
    """Factors that the file lacks would stay as peft made them, and those it has no place for would be dropped."""
    from peft import get_peft_model_state_dict

    with safe_open(file, framework="pt") as opened:
        stored = {name.replace("base_model.model.model.", "base_model.model.", 1) for name in opened.keys()}  # noqa: SIM118 - not a dict
    # Left to itself, peft asks the hub whether the base model's vocabulary has grown since.
    wanted = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if stored != wanted:
        raise CheckpointError(
            f"{file} does not fit the model: {_listed('missing', sorted(wanted - stored))}, "
            f"{_listed('left over', sorted(stored - wanted))}; it was trained on another model"
        )
