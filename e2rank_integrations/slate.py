"""The candidates of one rerank, checked, with the vectors they bring and the inputs of those they lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.errors import InputError, VectorError
from e2rank_integrations.text.checks import expect_text
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.text.tokenizer import Line
    from e2rank_integrations.values import Matrix, TokenInput, Vector, VectorSource

_NOT_REAL = "bcmMOSU"
"""Kinds of dtypes that numpy would turn into floats, or try to: booleans, complex numbers, dates, strings, objects."""


@dataclass(frozen=True, slots=True, eq=False)
class Slate:
    """Candidates with a unit vector or an input each.

    Attributes:
        candidates: In the caller's order.
        stored: Unit vectors by position, of the candidates that brought one.
        missing: Inputs by position, of the candidates whose vector must be computed.
        lines: The same inputs before they were cut.
    """

    candidates: tuple[Candidate, ...]
    stored: Mapping[int, Vector]
    missing: Mapping[int, TokenInput]
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, encoder: E2RankEncoder, candidates: Iterable[str | Candidate]) -> Slate:
        """Check candidates and find out what must be computed.

        Raises:
            InputError: not an iterable of strings or candidates, or a text that is not text.
            VectorError: a vector of another width, not finite, or of length zero.
        """
        checked = _checked(candidates)
        stored = {
            position: unit(candidate.vector, encoder.width, label(position, candidate))
            for position, candidate in enumerate(checked)
            if candidate.vector is not None
        }
        lacking = [position for position in range(len(checked)) if position not in stored]
        lines = encoder.document_lines([checked[position].text for position in lacking])
        inputs = [encoder.writer.cut_document(line) for line in lines]
        return cls(checked, stored, dict(zip(lacking, inputs, strict=True)), tuple(lines))

    def vectors(self, computed: Mapping[TokenInput, Vector]) -> Matrix:
        """Every candidate's unit vector, shape (candidates, width), float32."""
        rows = {**self.stored, **{position: computed[item] for position, item in self.missing.items()}}
        return np.stack([rows[position] for position in range(len(self.candidates))])

    def source(self, position: int) -> VectorSource:
        """Where a candidate's vector comes from."""
        return self.candidates[position].vector_source if position in self.stored else "computed"


def unit(vector: npt.ArrayLike, width: int, where: str) -> Vector:
    """A vector scaled to length one, float32.

    Raises:
        VectorError: not a vector of this width, not finite, or of length zero.
    """
    try:
        given = np.asarray(vector)
        row = given.astype(np.float64) if given.dtype.kind not in _NOT_REAL else None
    except (TypeError, ValueError, RuntimeError):  # torch raises the last for a tensor with a gradient
        row = None
    if row is None:
        raise VectorError(f"{where}: its vector is not an array of real numbers")
    if row.shape != (width,):
        raise VectorError(
            f"{where}: expected a vector of shape ({width},), found {row.shape}; it was made by another model"
        )
    length = float(np.sqrt(row @ row))
    if not 0 < length < np.inf:
        raise VectorError(f"{where}: its vector has length {length}, so it points nowhere; embed the text again")
    return (row / length).astype(np.float32)


def label(position: int, candidate: Candidate) -> str:
    """How messages call a candidate."""
    return f"candidate {position}" if candidate.id is None else f"candidate {position} (id {candidate.id!r})"


def _checked(candidates: Iterable[str | Candidate]) -> tuple[Candidate, ...]:
    if isinstance(candidates, str | bytes) or not hasattr(candidates, "__iter__"):
        raise InputError(f"candidates: expected a list of strings or Candidates, found {type(candidates).__name__}")
    return tuple(_candidate(position, item) for position, item in enumerate(candidates))


def _candidate(position: int, item: object) -> Candidate:
    candidate = item if isinstance(item, Candidate) else Candidate(expect_text(item, f"candidate {position}"))
    where = label(position, candidate)
    expect_text(candidate.text, where)
    if candidate.prompt_text is not None:
        expect_text(candidate.prompt_text, f"{where}, prompt_text")
    return candidate
