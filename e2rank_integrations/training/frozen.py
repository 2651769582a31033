"""The vectors that do not learn: computed once, by the base model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.embedding import embed_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.training.slates import TrainingSlate
    from e2rank_integrations.values import Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Documents of one source and their vectors by the base model.

    Attributes:
        texts: The documents; all those of its slates among them.
        vectors: Unit rows, shape (documents, width), float32, in the order of `texts`.
    """

    texts: Sequence[str] = field(repr=False)
    vectors: Matrix = field(repr=False)


def frozen_documents(
    slates: Sequence[TrainingSlate], encoder: E2RankEncoder, corpora: Mapping[str, Corpus], *, progress: bool
) -> dict[str, tuple[Sequence[str], Matrix]]:
    """Texts and vectors of each source that the slates name: the corpus given, or the slates' own documents.

    Raises:
        InputError: a corpus lacks a document of its slates.
    """
    by_source: dict[str, dict[str, None]] = {}
    for slate in slates:
        by_source.setdefault(slate.source, {}).update(dict.fromkeys(slate.documents))
    found: dict[str, tuple[Sequence[str], Matrix]] = {}
    for source, texts in by_source.items():
        if source in corpora:
            found[source] = _distinct(corpora[source], list(texts), source)
        else:
            inputs = encoder.document_inputs(list(texts))
            found[source] = (tuple(texts), embed_inputs(inputs, encoder, f"embedding {source}", progress=progress))
    return found


def query_vectors(slates: Sequence[TrainingSlate], encoder: E2RankEncoder, *, progress: bool) -> Matrix:
    """A unit row of each slate's plain query, shape (slates, width)."""
    texts = list(dict.fromkeys(slate.query for slate in slates))
    vectors = embed_inputs(encoder.query_inputs(texts), encoder, "embedding queries", progress=progress)
    rows = {text: row for row, text in enumerate(texts)}
    return vectors[[rows[slate.query] for slate in slates]]


def _distinct(corpus: Corpus, needed: Sequence[str], source: str) -> tuple[Sequence[str], Matrix]:
    """A corpus with each text once; of equal texts the vectors are equal, too."""
    rows = {text: row for row, text in reversed(list(enumerate(corpus.texts)))}
    lacking = sum(text not in rows for text in needed)
    if lacking:
        raise InputError(f"corpora: source {source!r} lacks {lacking} documents of its slates; give all of them")
    return tuple(rows), np.ascontiguousarray(corpus.vectors[list(rows.values())])
