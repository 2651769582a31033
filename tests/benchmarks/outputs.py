"""Whether two ways give the same output: a ratio without that is worth nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2rank_integrations.values import Matrix

LARGEST_FLOAT32 = 1e-5
LOWEST_COSINE_BFLOAT16 = 0.9998


class OutputsDifferError(Exception):
    """Our output is not the reference's, so no time of ours means anything."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a row gives; None for what it has not.

    Attributes:
        scores: In the order of the candidates, shape (candidates,).
        prompt: The prompt's unit vector, shape (1, width).
        documents: Unit vectors, shape (candidates, width).
    """

    scores: np.ndarray | None = None
    prompt: Matrix | None = None
    documents: Matrix | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Of an output from the reference's.

    Attributes:
        largest: Between two numbers of vectors or scores.
        lowest_cosine: Between two vectors; None where there are no vectors.
        same_order: Of the candidates; None where there are no scores.
    """

    largest: float
    lowest_cosine: float | None
    same_order: bool | None


def difference(reference: Outcome, found: Outcome) -> Difference | None:
    """Compare what both have; None if that is nothing."""
    pairs, scores = list(_vectors(reference, found)), _scores(reference, found)
    if not pairs and scores is None:
        return None
    gaps = [float(np.abs(one - other).max()) for one, other in (*pairs, *([scores] if scores else []))]
    cosines = [float((one * other).sum(axis=1).min()) for one, other in pairs]
    same = None if scores is None else bool((_order(scores[0]) == _order(scores[1])).all())
    return Difference(max(gaps), min(cosines, default=None), same)


def expect_same(name: str, dtype: str, found: Difference) -> None:
    """Refuse an output that is off by more than its dtype's rounding.

    Raises:
        OutputsDifferError: it is.
    """
    if dtype == "float32" and not found.largest <= LARGEST_FLOAT32:
        raise OutputsDifferError(
            f"{name}: its output differs from the reference's by {found.largest:.1e} in float32, above "
            f"{LARGEST_FLOAT32:.0e}; the engine is wrong, and its times mean nothing"
        )
    cosine = found.lowest_cosine
    if dtype != "float32" and cosine is not None and not cosine >= LOWEST_COSINE_BFLOAT16:
        raise OutputsDifferError(
            f"{name}: its output has cosine {cosine:.6f} to the reference's in {dtype}, below "
            f"{LOWEST_COSINE_BFLOAT16}; the engine is wrong, and its times mean nothing"
        )


def _vectors(reference: Outcome, found: Outcome) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for one, other in ((reference.prompt, found.prompt), (reference.documents, found.documents)):
        if one is not None and other is not None:
            yield one.astype(np.float64), other.astype(np.float64)


def _scores(reference: Outcome, found: Outcome) -> tuple[np.ndarray, np.ndarray] | None:
    return None if reference.scores is None or found.scores is None else (reference.scores, found.scores)


def _order(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, kind="stable")
