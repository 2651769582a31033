"""The characters that every table of Unicode in this process knows."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import groupby

_END = 0x20000
"""Above it stand rare ideographs, tags and private use: not worth the time to look them up."""


@lru_cache(maxsize=1)
def runs() -> tuple[tuple[int, int], ...]:
    """First and last code points of each run of one general category; unassigned ones and surrogates are left out."""
    found = []
    for category, points in groupby(range(_END), key=lambda point: unicodedata.category(chr(point))):
        first, *rest = points
        if category not in {"Cn", "Cs"}:
            found.append((first, rest[-1] if rest else first))
    return tuple(found)


@lru_cache(maxsize=1)
def unknown() -> re.Pattern[str]:
    """Finds a character that Python's tables do not have, or that `runs` leaves out.

    Python, Rust's normaliser and the two regex engines have tables of several Unicode versions. What an assigned
    character does under NFC never changes again; of an unassigned one nothing is known.
    """
    return re.compile("[^" + "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in runs()) + "]")
