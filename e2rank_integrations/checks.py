"""Numbers that callers give, and rows that engines bring, checked with one wording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.errors import InputError, NonFiniteError, ServerMismatchError

if TYPE_CHECKING:
    from e2rank_integrations.values import Matrix

NORM_TOLERANCE = 0.02
"""How far from 1 the length of a vector of another's engine may be: half precision has rounded it."""


def expect_count(name: str, value: object) -> None:
    """Refuse what is neither None nor a positive integer.

    Raises:
        InputError: it is something else.
    """
    if value is not None and not _is_count(value):
        raise InputError(f"{name}: expected an integer of at least 1, or None, found {value!r}")


def expect_positive(name: str, value: object) -> None:
    """Refuse what is no positive integer.

    Raises:
        InputError: it is something else.
    """
    if not _is_count(value):
        raise InputError(f"{name}: expected an integer of at least 1, found {value!r}")


def expect_rows(vectors: Matrix, inputs: int, width: int) -> None:
    """Refuse what an engine brought, unless it is a finite row for each input, as wide as the model.

    Raises:
        ServerMismatchError: another shape than (inputs, width).
        NonFiniteError: NaN or infinity.
    """
    if vectors.ndim != 2:  # noqa: PLR2004
        raise ServerMismatchError(f"expected an array of rows, found one of {vectors.ndim} dimensions; mend the engine")
    rows, found = vectors.shape
    if found != width:
        raise ServerMismatchError(
            f"expected vectors of width {width}, found {found}: the engine runs another model than its encoder, or "
            f"cuts its vectors; have it run the same"
        )
    if rows != inputs:
        raise ServerMismatchError(f"expected a vector for each of {inputs} inputs, found {rows}; mend the engine")
    if not np.isfinite(vectors).all():
        raise NonFiniteError("the engine returned NaN or infinity; have it compute in float32 or bfloat16")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
