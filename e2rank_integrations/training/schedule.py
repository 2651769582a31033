"""The order in which slates are seen, and what is drawn for each: all of it decided before the first step.

So a training that was killed goes on with the very batches it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.training.settings import TrainSettings
    from e2rank_integrations.training.slates import TrainingSlate


@dataclass(frozen=True, slots=True)
class Draw:
    """One appearance of a slate.

    Attributes:
        slate: Its position among the slates.
        listed: Positions of the documents that its prompt lists, in their order.
    """

    slate: int
    listed: tuple[int, ...]


def schedule(slates: Sequence[TrainingSlate], settings: TrainSettings) -> list[Draw]:
    """Every slate once an epoch, in batches of one source each, the batches of all sources mixed.

    A source whose slates do not fill its last batch fills it with slates of the same epoch again, so that no batch
    mixes sources, whose documents would be easy negatives, and no slate is left out.
    """
    random = Random(settings.seed)  # noqa: S311
    by_source: dict[str, list[int]] = {}
    for position, slate in enumerate(slates):
        by_source.setdefault(slate.source, []).append(position)
    order: list[int] = []
    for _ in range(settings.epochs):
        batches = [batch for group in by_source.values() for batch in _filled(group, settings.batch_size, random)]
        random.shuffle(batches)
        order += [position for batch in batches for position in batch]
    return [Draw(position, _listed(len(slates[position].documents), settings, random)) for position in order]


def _filled(group: Sequence[int], size: int, random: Random) -> list[list[int]]:
    """The slates of one source in random order, in full batches."""
    mixed = random.sample(group, len(group))
    mixed += random.choices(mixed, k=-len(mixed) % size)
    return [mixed[start : start + size] for start in range(0, len(mixed), size)]


def _listed(documents: int, settings: TrainSettings, random: Random) -> tuple[int, ...]:
    """The slate's first documents, or some drawn from all of it."""
    asked = documents if settings.num_input_docs is None else min(documents, random.randint(*settings.num_input_docs))
    mixed = random.random() < settings.shuffle
    return tuple(random.sample(range(documents), asked)) if mixed else tuple(range(asked))
