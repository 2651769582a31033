"""Training on transformers' Trainer: one optimizer, its schedule, its saved states, its ways onto several devices.

```
slates ─► schedule ─► batches ─► model ─► Trainer ─► folder that E2RankEncoder loads by path
```
"""

from __future__ import annotations

import math
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainingArguments

from e2rank_integrations.engines.local import settled
from e2rank_integrations.errors import InputError, MissingExtraError, NonFiniteError
from e2rank_integrations.training.result import save, save_log
from e2rank_integrations.training.schedule import schedule
from e2rank_integrations.training.states import STATES, expect_free, expect_same, identity, last_state, remember
from e2rank_integrations.training.trainable import prepared

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.training.batches import Batch
    from e2rank_integrations.training.frozen import Corpus
    from e2rank_integrations.training.schedule import Draw
    from e2rank_integrations.training.settings import TrainSettings
    from e2rank_integrations.training.slates import TrainingSlate

_PRECISION = "ACCELERATE_MIXED_PRECISION"
_LOGGED = ("step", "loss", "infonce", "ranknet", "learning_rate")


@dataclass(frozen=True, slots=True)
class Training:
    """What a training did.

    Attributes:
        folder: The result, which `E2RankEncoder` loads by path.
        steps: Optimizer steps.
        slates: Appearances of slates.
        log: For each logged step `step`, `loss`, `infonce`, `ranknet`, `learning_rate`.
        main: Whether this process wrote the folder; of several that train together, one does.
    """

    folder: Path
    steps: int
    slates: int
    log: tuple[Mapping[str, float], ...] = field(repr=False)
    main: bool = True


def train(
    slates: Sequence[TrainingSlate],
    encoder: E2RankEncoder,
    out: str | Path,
    settings: TrainSettings,
    *,
    corpora: Mapping[str, Corpus] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Training:
    """Train a model on slates and write a folder that `E2RankEncoder` loads by path.

    Args:
        slates: What to learn from.
        encoder: The base model and its profile; a listwise adapter of its own is left aside. One process trains on
            one device; for several GPUs start it with `torchrun` or `accelerate launch`, as any training by
            transformers.
        out: Folder of the result.
        settings: How to train.
        corpora: For `listwise`: documents and vectors by source, all of which are negatives; for a source that is not
            there, the documents of its slates.
        resume: Whether to go on from the last saved state in `out`, with the same slates and settings.
        progress: Whether to show a bar.

    Raises:
        InputError: no slates, a query that leaves no room in its prompt, settings that contradict each other, a folder
            that is not empty, or nothing to resume.
        MissingExtraError: the `train` extra is not installed.
    """
    out = Path(out)
    _expect_usable(slates, encoder)
    state = last_state(out) if resume else None
    training = identity(slates, encoder, settings)
    if state is None:
        expect_free(out)
    else:
        expect_same(out, training)
    draws = schedule(slates, settings)
    with _precision_kept():
        arguments = _arguments(out, encoder, settings, len(draws), progress)
        model, collate = prepared(slates, encoder, settings, corpora or {}, progress=progress)
        trainer = _Trainer(model=model, args=arguments, train_dataset=draws, data_collator=collate)
    trainer.remove_callback(PrinterCallback)  # it takes the bar's place, and prints
    main = trainer.is_world_process_zero()
    if main and state is None:
        remember(out, training)
    done = trainer.train(resume_from_checkpoint=None if state is None else str(state))
    log = tuple({name: row[name] for name in _LOGGED if name in row} for row in _steps(trainer))
    if main:
        save(model, encoder, out, settings)
        save_log(out, log)
        shutil.rmtree(out / STATES)
    trainer.accelerator.wait_for_everyone()
    return Training(out, done.global_step, len(draws), log, main)


class _Trainer(Trainer):
    """Keeps the schedule's order, and logs the loss's parts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._parts: dict[str, list[Tensor]] = {}

    def _get_train_sampler(self, train_dataset: object = None) -> SequentialSampler:  # noqa: ARG002 - transformers passes it
        return SequentialSampler(cast("list[Draw]", self.train_dataset))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: object = None,  # noqa: ARG002 - each batch's loss is a mean
    ) -> Any:  # noqa: ANN401
        outputs = model(**inputs)
        if not torch.isfinite(outputs["loss"]):
            raise NonFiniteError(
                f"the loss is not finite at step {self.state.global_step + 1}; lower the learning rate, or train "
                f"without bf16"
            )
        for name in outputs.keys() - {"loss"}:
            self._parts.setdefault(name, []).append(outputs[name])
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        if "loss" in logs:
            logs.update({name: float(torch.stack(values).mean()) for name, values in self._parts.items()})
            self._parts.clear()
        super().log(logs, *rest)


def _expect_usable(slates: Sequence[TrainingSlate], encoder: E2RankEncoder) -> None:
    if not slates:
        raise InputError("slates: expected at least one, found none")
    if encoder.custom_engine is not None or encoder.adapter is not None:
        raise InputError("encoder: training starts from a model's own weights; leave custom_engine and adapter out")


def _arguments(
    out: Path, encoder: E2RankEncoder, settings: TrainSettings, draws: int, progress: bool
) -> TrainingArguments:
    device = settled(encoder.engine_key).device
    if device.startswith("cuda:") and device != "cuda:0" and _processes() == 1:
        raise InputError(
            f"device: training takes the first GPU that it sees, and {device!r} was asked for; start it with "
            f"CUDA_VISIBLE_DEVICES={device.removeprefix('cuda:')} and device='cuda'"
        )
    batch = settings.batch_size * settings.gradient_accumulation * _processes()
    steps = math.ceil(draws / batch)
    try:
        arguments = TrainingArguments(
            output_dir=str(out / STATES),
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.gradient_accumulation,
            num_train_epochs=1,  # the schedule holds all epochs
            learning_rate=settings.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=min(math.ceil(settings.warmup * steps), steps - 1),
            bf16=settings.bf16,
            save_steps=settings.save_steps,
            save_total_limit=1,
            logging_steps=max(1, min(10, draws // batch // 20)),
            logging_nan_inf_filter=False,  # it would log a loss that is no number as 0
            remove_unused_columns=False,
            dataloader_pin_memory=device != "cpu",
            ddp_broadcast_buffers=False,  # vectors that do not learn are the same everywhere
            use_cpu=device == "cpu",
            seed=settings.seed,
            disable_tqdm=not progress,
            report_to=[],
        )
        one_device = min(arguments.n_gpu, 1)
    except ImportError as error:
        raise MissingExtraError("accelerate", "train") from error
    arguments._n_gpu = one_device  # noqa: SLF001 - transformers would cut a batch's rows apart
    return arguments


@contextmanager
def _precision_kept() -> Iterator[None]:
    """Older versions of transformers leave bf16 in the environment, and so to every later training of the process."""
    before = os.environ.get(_PRECISION)
    try:
        yield
    finally:
        os.environ.pop(_PRECISION, None)
        if before is not None:
            os.environ[_PRECISION] = before


def _processes() -> int:
    """How many processes train together; torchrun and accelerate say it so."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _steps(trainer: Trainer) -> list[Mapping[str, float]]:
    return [row for row in trainer.state.log_history if "loss" in row]
