"""Runs: for each query, documents in the order in which a method ranks them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import numbered_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

_TREC_COLUMNS = 6


class Hit(NamedTuple):
    """A document and the score that put it where it stands."""

    id: str
    score: float


Hits = tuple[Hit, ...]
"""The documents of one query, best first, each once."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a method found for each query.

    Attributes:
        hits: By query id. A query may be absent or have no hits.
        name: How tables call the method.
    """

    hits: Mapping[str, Hits] = field(repr=False)
    name: str = "first stage"

    def __getitem__(self, query_id: str) -> Hits:
        return self.hits.get(query_id, ())


def read_trec_run(path: str | Path) -> Run:
    """Read a run in TREC's format: `query Q0 document rank score tag`, separated by white space.

    As trec_eval does it, hits are ordered by score, and equal scores by document id from last to first; the
    rank in the file is not looked at. The run is called by the file's name.

    Raises:
        InputError: a line is not of that form, with the file and the line's number.
    """
    path = Path(path)
    found: dict[str, dict[str, float]] = {}
    for where, line in numbered_lines(path):
        columns = line.split()
        if len(columns) != _TREC_COLUMNS:
            raise InputError(f"{where}: expected {_TREC_COLUMNS} columns of a TREC run, found {len(columns)}")
        query, _, document, _, score, _ = columns
        if document in found.setdefault(query, {}):
            raise InputError(f"{where}: query {query!r} lists document {document!r} a second time")
        found[query][document] = _number(score, where)
    return Run({query: _in_trec_order(scores) for query, scores in found.items()}, path.stem)


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: expected a finite number as the score")
    return number


def _in_trec_order(scores: Mapping[str, float]) -> Hits:
    ordered = sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return tuple(Hit(document, score) for document, score in ordered)
