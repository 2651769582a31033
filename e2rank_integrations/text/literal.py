"""A literal's ids, whichever library made them, and where they may be cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenizers import Encoding


@dataclass(frozen=True, slots=True)
class Literal:
    """A text as ids.

    Attributes:
        ids: Its ids, none of them a control token's.
        character_end: The last position up to a given one (0 to the number of ids) at which a cut does not split a
            character over two sides. A function, since few lines are cut.
    """

    ids: list[int]
    character_end: Callable[[int], int]


def from_offsets(encoding: Encoding) -> Literal:
    """What Hugging Face's library made; its offsets are slow to fetch, so only a cut asks for them."""
    return Literal(encoding.ids, partial(_end_by_offsets, encoding))


def from_bytes(ids: list[int], inner: frozenset[int]) -> Literal:
    """Ids of byte-level tokens, of which `inner` are those that begin inside a character's UTF-8 sequence."""
    return Literal(ids, partial(_end_by_bytes, ids, inner))


def _end_by_offsets(encoding: Encoding, kept: int) -> int:
    offsets = encoding.offsets
    while 0 < kept < len(offsets) and offsets[kept][0] < offsets[kept - 1][1]:
        kept -= 1
    return kept


def _end_by_bytes(ids: list[int], inner: frozenset[int], kept: int) -> int:
    while 0 < kept < len(ids) and ids[kept] in inner:
        kept -= 1
    return kept
