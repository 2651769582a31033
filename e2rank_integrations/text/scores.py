"""First-stage scores as a listwise template shows them (InsertRank, arXiv 2506.14086)."""

from __future__ import annotations

import math
from numbers import Real

from e2rank_integrations.errors import InputError

SOME_SCORE = "0.00"
"""Stands for a score where only the frame of a line is looked at."""


def as_shown(position: int, score: object, template: str) -> str:
    """A candidate's score with two decimals; minus zero is zero.

    Args:
        position: The candidate's, for messages.
        score: What the caller gave.
        template: The template's name, for messages.

    Raises:
        InputError: there is none, or it is no finite number.
    """
    if score is None:
        raise InputError(
            f"candidate {position}: template {template!r} shows its retrieval score, but it has none; set "
            f"Candidate(retrieval_score=…) or choose another template"
        )
    if isinstance(score, bool) or not isinstance(score, Real):
        found = type(score).__name__
        raise InputError(f"candidate {position}, retrieval_score: expected a finite number, found {found}")
    return f"{_finite(position, score):z.2f}"


def _finite(position: int, score: Real) -> float:
    try:
        number = float(score)
    except OverflowError:  # an integer beyond every float
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"candidate {position}, retrieval_score: expected a finite number, found {number}")
    return number
