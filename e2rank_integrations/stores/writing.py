"""What every store checks before it writes, and in which parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from e2rank_integrations.errors import InputError
from e2rank_integrations.slate import unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from e2rank_integrations.values import Candidate

Item = TypeVar("Item")


def expect_records(records: Sequence[Candidate]) -> None:
    """Refuse records that no store could give back as they are.

    Args:
        records: What is to be written in one call.

    Raises:
        InputError: a record without id or vector, or an id twice.
        VectorError: a vector of another width than the first, not finite, or of length zero.
    """
    places: dict[str, int] = {}
    width = None
    for place, record in enumerate(records):
        where = f"record {place} (id {record.id!r})"
        if not isinstance(record.id, str) or not record.id:
            raise InputError(f"record {place}: expected an id, a string that is not empty, found {record.id!r}")
        first = places.setdefault(record.id, place)
        if first != place:
            raise InputError(f"{where}: record {first} of the same call has this id; only one of them can be stored")
        if record.vector is None:
            raise InputError(f"{where}: it has no vector; embed its text first")
        width = _size(record.vector) if width is None else width
        unit(record.vector, width, where)


def parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _size(vector: npt.ArrayLike) -> int:
    try:
        return int(np.size(vector))
    except (TypeError, ValueError, RuntimeError):  # nothing of one width; `unit` says what it is
        return 0
