"""Slates, the rows of listwise training: a query, its documents, and the order that they should have.

As in the reference's training set, a row is JSON on a line of its own, and its positions count from 1:

    {"query": "…", "documents": ["…", "…", "…"], "ranking": [2, 1, 3]}

Two more keys may be given: `positives`, the positions of the documents that count as relevant, and `source`, the name
of the data set. Other keys are not looked at. In memory positions count from 0.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import json_object, numbered_lines
from e2rank_integrations.evaluation.files import written_whole
from e2rank_integrations.text.checks import expect_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

logger = logging.getLogger(__name__)

OnBadRows = Literal["raise", "skip"]

_LEAST_DOCUMENTS = 2
_NAMED_ROWS = 20


@dataclass(frozen=True, slots=True)
class TrainingSlate:
    """A query and its documents, fully ranked.

    Attributes:
        query: Not blank.
        documents: At least two, in the order in which the prompt lists them: a first stage's.
        ranking: Positions in `documents`, from 0, best first; each document once.
        positives: Positions of the documents that count as relevant; by default, and if empty, the best one's.
        source: Name of the data set.

    Raises:
        InputError: something is not as said here. The message counts positions, but names none.
    """

    query: str = field(repr=False)
    documents: tuple[str, ...] = field(repr=False)
    ranking: tuple[int, ...]
    positives: tuple[int, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if not expect_text(self.query, "query").strip():
            raise InputError("query: expected words, found a blank string")
        expect_text(self.source, "source")
        _expect_documents(self.documents)
        _expect_positions("ranking", self.ranking, len(self.documents))
        if len(self.ranking) != len(self.documents):
            raise InputError(f"ranking: expected all {len(self.documents)} documents, found {len(self.ranking)}")
        if self.positives == ():
            object.__setattr__(self, "positives", self.ranking[:1])
        _expect_positions("positives", self.positives, len(self.documents))


def read_slates(path: str | Path, *, on_bad_rows: OnBadRows = "raise") -> tuple[TrainingSlate, ...]:
    """Read all slates of a file. Texts that occur several times are held once.

    Args:
        path: JSONL, UTF-8. Blank lines are no rows.
        on_bad_rows: `raise`: read to the end, then raise one error that names the bad rows; `skip`: leave them out and
            say so in one log record.

    Raises:
        InputError: no such file, no UTF-8, a bad row, or no usable row.
    """
    if on_bad_rows not in get_args(OnBadRows):
        raise InputError(f"on_bad_rows: expected one of {', '.join(get_args(OnBadRows))}, found {on_bad_rows!r}")
    path = Path(path)
    slates: list[TrainingSlate] = []
    faults: list[str] = []
    for where, slate in _rows(path):
        if isinstance(slate, TrainingSlate):
            slates.append(slate)
        else:
            faults.append(f"{where.removeprefix(f'{path}, ')}: {slate}")
    if faults:
        _report(f"{path}: {len(faults)} of {len(slates) + len(faults)} rows cannot be used", faults, on_bad_rows)
    if not slates:
        raise InputError(f"{path}: it holds no usable row")
    return tuple(slates)


def write_slates(path: str | Path, slates: Iterable[TrainingSlate]) -> None:
    """Write slates, one by one, into a file that appears whole or not at all; `read_slates` gives them back."""
    with written_whole(Path(path)) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{json.dumps(_row(slate), ensure_ascii=False)}\n" for slate in slates)


def _rows(path: Path) -> Iterator[tuple[str, TrainingSlate | InputError]]:
    """Each row's place, and its slate or its fault."""
    texts: dict[str, str] = {}
    for where, line in numbered_lines(path):
        try:
            yield where, _slate(json_object(line), texts)
        except InputError as error:
            yield where, error


def _slate(row: dict[str, Any], texts: dict[str, str]) -> TrainingSlate:
    missing = [key for key in ("query", "documents", "ranking") if key not in row]
    if missing:
        raise InputError(f"expected the key {missing[0]!r}, found none")
    return TrainingSlate(
        query=row["query"],
        documents=_held_once(row["documents"], texts),
        ranking=_from_zero("ranking", row["ranking"]),
        positives=_from_zero("positives", row["positives"]) if "positives" in row else (),
        source=row.get("source", ""),
    )


def _row(slate: TrainingSlate) -> dict[str, Any]:
    row = {"query": slate.query, "documents": slate.documents, "ranking": [place + 1 for place in slate.ranking]}
    if slate.positives != slate.ranking[:1]:
        row["positives"] = [place + 1 for place in slate.positives]
    return {**row, "source": slate.source} if slate.source else row


def _held_once(documents: object, texts: dict[str, str]) -> tuple[Any, ...]:
    """The documents, equal ones as the same object: both orders of a query's slate, say, share them all."""
    if not isinstance(documents, list):
        raise InputError(f"documents: expected a list of strings, found {type(documents).__name__}")
    return tuple(texts.setdefault(text, text) if isinstance(text, str) else text for text in documents)


def _from_zero(key: str, positions: object) -> tuple[Any, ...]:
    if not isinstance(positions, list):
        raise InputError(f"{key}: expected a list of positions, found {type(positions).__name__}")
    if not positions:
        raise InputError(f"{key}: expected at least one position, found none")
    return tuple(place - 1 if type(place) is int else place for place in positions)


def _expect_documents(documents: object) -> None:
    if not isinstance(documents, tuple):
        raise InputError(f"documents: expected a tuple of strings, found {type(documents).__name__}")
    if len(documents) < _LEAST_DOCUMENTS:
        raise InputError(f"documents: expected at least {_LEAST_DOCUMENTS}, found {len(documents)}")
    for number, text in enumerate(documents, start=1):
        expect_text(text, f"document {number} of {len(documents)}")
    if len(set(documents)) < _LEAST_DOCUMENTS:
        raise InputError(f"documents: expected at least {_LEAST_DOCUMENTS} different texts, found one")


def _expect_positions(key: str, positions: object, documents: int) -> None:
    """Refuse what is not a tuple of distinct positions; numbers are left out, as files count them from 1."""
    if not isinstance(positions, tuple):
        raise InputError(f"{key}: expected a tuple of positions, found {type(positions).__name__}")
    other = [type(place).__name__ for place in positions if type(place) is not int]
    if other:
        raise InputError(f"{key}: expected whole numbers, found {other[0]}")
    outside = sum(not 0 <= place < documents for place in positions)
    if outside:
        raise InputError(f"{key}: {outside} of {len(positions)} positions are outside the {documents} documents")
    if len(set(positions)) < len(positions):
        raise InputError(f"{key}: {len(positions) - len(set(positions))} positions are there a second time")


def _report(what: str, faults: Sequence[str], on_bad_rows: OnBadRows) -> None:
    named = "; ".join(faults[:_NAMED_ROWS])
    more = f"; and {len(faults) - _NAMED_ROWS} more" if len(faults) > _NAMED_ROWS else ""
    if on_bad_rows == "raise":
        raise InputError(
            f"{what}: {named}{more}; mend them, or leave them out with on_bad_rows='skip' (--skip-bad-rows)"
        )
    logger.warning("%s and were left out: %s%s", what, named, more)
