"""Sharing the room of a prompt among the documents it lists. Arithmetic only."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def share_room(lengths: Sequence[int], *, room: int, cap: int, floor: int) -> tuple[int, int]:
    """How many documents to list, and how many tokens each may have.

    Short documents give what they do not use to the long ones. Rather than cut a document below the floor,
    the last ones are left out.

    Args:
        lengths: Tokens of each document's line, in the order of the candidates.
        room: Tokens that all lines together may have.
        cap: Tokens that a line may have at most.
        floor: Tokens that a longer line keeps at least; not above `cap`.

    Returns:
        The number of leading documents that are listed, and the cap that lets them fit, in [floor, cap].
    """
    least = accumulate(min(length, floor) for length in lengths)
    used = sum(total <= room for total in least)
    return used, _fair_cap([min(length, cap) for length in lengths[:used]], room, cap)


def round_up(tokens: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-tokens // step) * step


def _fair_cap(lengths: Sequence[int], room: int, cap: int) -> int:
    """The largest cap whose cut lengths sum to at most `room`."""
    for place, length in enumerate(sorted(lengths)):
        share = room // (len(lengths) - place)
        if length > share:
            return share
        room -= length
    return cap
