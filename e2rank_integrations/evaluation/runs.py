"""Runs: for each query, documents in the order in which a method ranks them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import numbered_lines
from e2rank_integrations.evaluation.files import written_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

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

    @property
    def documents(self) -> frozenset[str]:
        """Ids of all documents that it names."""
        return frozenset(hit.id for hits in self.hits.values() for hit in hits)

    def __getitem__(self, query_id: str) -> Hits:
        return self.hits.get(query_id, ())


def without(hits: Hits, excluded: AbstractSet[str], depth: int) -> Hits:
    """The first `depth` hits that are not excluded."""
    kept = hits if not excluded else tuple(hit for hit in hits if hit.id not in excluded)
    return kept[:depth]


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


def write_trec_run(run: Run, path: str | Path) -> None:
    """Write a run in TREC's format, whole or not at all; `read_trec_run` and trec_eval read the same order from it.

    Both order hits by score, trec_eval in single precision. So a score that is not below the one before it is
    written as the next lower number of single precision.

    Raises:
        InputError: an id with white space, which the format cannot hold, or a file that cannot be written.
    """
    tag = run_tag(run.name)
    with written_whole(Path(path)) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        for query, hits in run.hits.items():
            for rank, (hit, score) in enumerate(zip(hits, _falling_scores(hits), strict=True), start=1):
                file.write(f"{_word(query)} Q0 {_word(hit.id)} {rank} {score} {tag}\n")


def run_tag(name: str) -> str:
    """A method's name as one word of plain letters, for the last column of a run and for names of files."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "run"


def _falling_scores(hits: Hits) -> Iterator[str]:
    last = np.float32(np.inf)
    for hit in hits:
        last = min(np.float32(hit.score), np.nextafter(last, np.float32(-np.inf)))
        yield str(last)


def _word(text: str) -> str:
    if len(text.split()) != 1:
        raise InputError(f"id {text!r}: a TREC run holds no id with white space")
    return text


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
