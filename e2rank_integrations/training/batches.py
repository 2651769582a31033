"""From draws to what a model's `forward` takes: token ids and the rows that go with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from e2rank_integrations.engines.pooling import padded
from e2rank_integrations.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.training.models import Tokens
    from e2rank_integrations.training.schedule import Draw
    from e2rank_integrations.training.slates import TrainingSlate
    from e2rank_integrations.values import Matrix, TokenInput

Batch = dict[str, Any]
"""Keyword arguments of a model's `forward`."""


@dataclass(frozen=True, slots=True, eq=False)
class JointBatches:
    """Makes the batches of `models.JointModel`.

    Attributes:
        slates: All of them.
        encoder: Writes the inputs.
        prompts: Whether a batch has listwise prompts (stage II).
    """

    slates: Sequence[TrainingSlate]
    encoder: E2RankEncoder
    prompts: bool

    def __call__(self, draws: Sequence[Draw]) -> Batch:
        """The batch of some draws. A text that several slates hold is one document."""
        slates = [self.slates[draw.slate] for draw in draws]
        texts = list(dict.fromkeys(text for slate in slates for text in slate.documents))
        rows = {text: row for row, text in enumerate(texts)}
        batch: Batch = {
            "documents": _tokens(self.encoder.writer.cut_document(line) for line in self.encoder.document_lines(texts)),
            "queries": _tokens(self.encoder.query_inputs([slate.query for slate in slates])),
            "members": _rows([_each_once(rows, slate, slate.ranking) for slate in slates]),
        }
        return {**batch, "prompts": prompt_tokens(self.encoder, slates, draws)} if self.prompts else batch


@dataclass(frozen=True, slots=True, eq=False)
class FrozenDocuments:
    """The base model's vectors of all documents, source by source.

    Attributes:
        vectors: Unit rows, shape (documents, width), float32.
        rows: By source, by text, the row; a source's rows follow each other.
        ranges: By source, the first row and the row after the last.
    """

    vectors: Matrix = field(repr=False)
    rows: Mapping[str, Mapping[str, int]] = field(repr=False)
    ranges: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, sources: Mapping[str, tuple[Sequence[str], Matrix]]) -> FrozenDocuments:
        """Put the texts and vectors of each source one after the other."""
        rows, ranges, start = {}, {}, 0
        for source, (texts, _) in sources.items():
            rows[source] = {text: start + place for place, text in enumerate(texts)}
            ranges[source] = (start, start + len(texts))
            start += len(texts)
        return cls(np.concatenate([vectors for _, vectors in sources.values()]), rows, ranges)


@dataclass(frozen=True, slots=True, eq=False)
class ListwiseBatches:
    """Makes the batches of `models.ListwiseModel`.

    Attributes:
        slates: All of them.
        encoder: Writes the prompts.
        documents: Where each document's vector is.
    """

    slates: Sequence[TrainingSlate]
    encoder: E2RankEncoder
    documents: FrozenDocuments

    def __call__(self, draws: Sequence[Draw]) -> Batch:
        """The batch of some draws."""
        slates = [self.slates[draw.slate] for draw in draws]
        return {
            "prompts": prompt_tokens(self.encoder, slates, draws),
            "slates": torch.tensor([draw.slate for draw in draws]),
            "members": _rows([_each_once(self._of(slate), slate, slate.ranking) for slate in slates]),
            "positives": _rows([_each_once(self._of(slate), slate, slate.positives) for slate in slates]),
            "source": torch.tensor([self.documents.ranges[slate.source] for slate in slates]),
        }

    def _of(self, slate: TrainingSlate) -> Mapping[str, int]:
        return self.documents.rows[slate.source]


def expect_fitting(encoder: E2RankEncoder, slates: Sequence[TrainingSlate], *, prompts: bool) -> None:
    """Refuse what would stop a training at some later step, before the first one.

    Raises:
        InputError: a query is longer than its cap, leaves no room in its prompt (`PromptBudgetError`), or the template
            shows scores, which slates do not hold. The message counts slates from 1.
    """
    seen: set[str] = set()
    for number, slate in enumerate(slates, start=1):
        if slate.query in seen:
            continue
        seen.add(slate.query)
        try:
            encoder.query_inputs([slate.query])
            if prompts:
                encoder.listwise_input(slate.query, [max(slate.documents, key=len)], 1)
        except InputError as error:
            raise type(error)(f"slate {number} of {len(slates)}: {error}") from None


def prompt_tokens(encoder: E2RankEncoder, slates: Sequence[TrainingSlate], draws: Sequence[Draw]) -> Tokens:
    """The listwise prompts over the documents drawn, as at inference; one that no document fits is an error."""
    prompts = []
    for slate, draw in zip(slates, draws, strict=True):
        texts = [slate.documents[place] for place in draw.listed]
        prompts.append(encoder.listwise_input(slate.query, texts, len(texts))[0])
    return _tokens(prompts)


def _each_once(rows: Mapping[str, int], slate: TrainingSlate, places: Iterable[int]) -> list[int]:
    """Rows of a slate's documents; a text that it holds twice counts once, at its better place."""
    return list(dict.fromkeys(rows[slate.documents[place]] for place in places))


def _tokens(inputs: Iterable[TokenInput]) -> Tokens:
    ids, mask = padded([item.ids for item in inputs])
    return {"ids": ids, "mask": mask}


def _rows(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Rows of different lengths, filled up with -1."""
    most = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (most - len(row))] for row in rows])
