"""The folder that a training leaves: weights or an adapter, what loads them, and the log."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

from e2rank_integrations.bundle import write_bundle
from e2rank_integrations.errors import MissingExtraError
from e2rank_integrations.evaluation.plots import save_svg
from e2rank_integrations.training.lora import save_lora
from e2rank_integrations.training.loss_plot import draw_losses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from peft import PeftModel
    from transformers import PreTrainedModel

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.training.models import JointModel, ListwiseModel
    from e2rank_integrations.training.settings import TrainSettings

LOG = "training_log.json"
PLOT = "loss.svg"


def save(model: JointModel | ListwiseModel, encoder: E2RankEncoder, out: Path, settings: TrainSettings) -> None:
    """Write what `E2RankEncoder` loads by path."""
    if settings.objective == "listwise":
        base = encoder.checkpoint.name
        folder = Path(base).expanduser()
        save_lora(cast("PeftModel", model.encoder), out, folder.name if folder.is_dir() else base)
        base = str(folder.resolve()) if folder.is_dir() else base
        write_bundle(
            out,
            encoder.profile,
            base_model=base,
            base_revision=encoder.revision,
            base_weights=encoder.checkpoint.digest,
        )
        return
    _merged(model, settings).save_pretrained(out, safe_serialization=True)
    shutil.copy(encoder.checkpoint.folder / "tokenizer.json", out)
    write_bundle(out, encoder.profile)


def save_log(out: Path, log: Sequence[Mapping[str, float]]) -> None:
    """Write the log and, where matplotlib is installed, its picture."""
    (out / LOG).write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    try:
        save_svg(draw_losses(log), out / PLOT)
    except MissingExtraError:
        return


def _merged(model: JointModel | ListwiseModel, settings: TrainSettings) -> PreTrainedModel:
    if settings.lora_rank is None:
        return model.encoder
    return cast("PreTrainedModel", cast("PeftModel", model.encoder).merge_and_unload())
