"""What learns: the base model's weights or factors beside them, and the objective around it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from torch import nn

from e2rank_integrations.engines.loading import load_model
from e2rank_integrations.training.batches import FrozenDocuments, JointBatches, ListwiseBatches, expect_fitting
from e2rank_integrations.training.frozen import frozen_documents, query_vectors
from e2rank_integrations.training.lora import with_lora
from e2rank_integrations.training.models import JointModel, ListwiseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from transformers import PreTrainedModel

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.training.batches import Batch
    from e2rank_integrations.training.frozen import Corpus
    from e2rank_integrations.training.schedule import Draw
    from e2rank_integrations.training.settings import TrainSettings
    from e2rank_integrations.training.slates import TrainingSlate

    Collate = Callable[[Sequence[Draw]], Batch]

# Older versions of transformers keep BERT's as a number beside its modules.
_DROPOUTS = ("dropout_prob", "attention_dropout")


def prepared(
    slates: Sequence[TrainingSlate],
    encoder: E2RankEncoder,
    settings: TrainSettings,
    corpora: Mapping[str, Corpus],
    *,
    progress: bool,
) -> tuple[JointModel | ListwiseModel, Collate]:
    """The objective around the model that learns, on the CPU, and what makes its batches.

    Raises:
        InputError: a corpus lacks a document of its slates, or a query leaves no room in its prompt.
        MissingExtraError: peft is needed and not installed.
    """
    expect_fitting(encoder, slates, prompts=settings.objective != "retrieval")
    pooling = encoder.profile.pooling
    if settings.objective != "listwise":
        batches = JointBatches(slates, encoder, prompts=settings.objective == "joint")
        return JointModel(_trainable(encoder, settings), pooling, settings), batches
    documents = FrozenDocuments.of(frozen_documents(slates, encoder, corpora, progress=progress))
    queries = query_vectors(slates, encoder, progress=progress)
    encoder.close()
    learner = _trainable(encoder, settings)
    model = ListwiseModel(learner, pooling, settings, documents=documents.vectors, queries=queries)
    return model, ListwiseBatches(slates, encoder, documents)


def _trainable(encoder: E2RankEncoder, settings: TrainSettings) -> PreTrainedModel:
    """The base model's weights in float32, those that learn marked, without dropout."""
    key = replace(encoder.engine_key, dtype="float32", device="cpu", listwise_adapter=None)
    model = cast("PreTrainedModel", load_model(key))
    _drop_nothing(model)
    learner = model.requires_grad_(True)
    if settings.lora_rank is not None:
        lora = with_lora(model, settings.lora_rank, settings.lora_layers, seed=settings.seed)
        learner = cast("PreTrainedModel", lora)
    if settings.gradient_checkpointing:
        _recompute(model)
    return learner


def _drop_nothing(model: nn.Module) -> None:
    """Take dropout out: the targets are the model's own vectors without it."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in _DROPOUTS:
            if hasattr(module, name):
                setattr(module, name, 0.0)


def _recompute(model: PreTrainedModel) -> None:
    """Compute activations a second time in the backward pass; transformers 5 has a new word for it."""
    new, old = "activation_checkpointing_enable", "gradient_checkpointing_enable"
    getattr(model, new if hasattr(model, new) else old)({"use_reentrant": False})
