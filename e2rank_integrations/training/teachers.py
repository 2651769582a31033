"""Teachers: what ranks the documents of a slate that the judgements leave equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from e2rank_integrations.errors import InputError

if TYPE_CHECKING:
    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.values import Vector

Teacher = Callable[[str, Sequence[str]], npt.ArrayLike]
"""A query and documents to a score each, higher is better; only their order counts."""


@dataclass(frozen=True, eq=False)
class CosineTeacher:
    """Another local model's cosine between the plain query and each document.

    A document is embedded once, however many slates it is in; the vectors stay in memory, 4 bytes a dimension.

    Args:
        encoder: A model that ranks better than the one in training.
    """

    encoder: E2RankEncoder
    _vectors: dict[str, Vector] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, query: str, documents: Sequence[str]) -> Vector:
        """Cosines, shape (documents,)."""
        lacking = [text for text in dict.fromkeys(documents) if text not in self._vectors]
        self._vectors.update(zip(lacking, self.encoder.encode_documents(lacking), strict=True))
        rows = np.stack([self._vectors[text] for text in documents])
        cosines: Vector = rows @ self.encoder.encode_queries([query])[0]
        return cosines


def teacher_scores(teacher: Teacher, query: str, documents: Sequence[str], where: str) -> list[float]:
    """Ask a teacher, and check what it says.

    Args:
        teacher: Who is asked.
        query: The query.
        documents: Its documents.
        where: The query's place, for the message.

    Raises:
        InputError: not one finite score per document.
    """
    try:
        scores = np.asarray(teacher(query, documents), dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: expected numbers from the teacher ({type(error).__name__})") from error
    if scores.shape != (len(documents),):
        raise InputError(f"{where}: expected {len(documents)} scores from the teacher, found shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise InputError(f"{where}: expected finite scores from the teacher, found NaN or infinity")
    return [float(score) for score in scores]
