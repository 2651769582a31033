"""Measures by trec_eval's definition, through ir-measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.extras import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2rank_integrations.evaluation.runs import Run

NDCG = "nDCG@10"
MEASURES = (NDCG, "RR@10", "R@100")
"""nDCG@10, reciprocal rank of the first relevant document within 10 (its mean is MRR@10), and recall@100.

For the last two a document is relevant from grade 1; for another least grade write, say, `RR(rel=2)@10`.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """A measure of a run.

    Attributes:
        measure: Its name in ir-measures, such as `nDCG@10`, `AP@100`, `RR@10`, `R@100`.
        per_query: By query id, for every judged query; 0 where the run has no hits for it.
    """

    measure: str
    per_query: Mapping[str, float] = field(repr=False)

    @property
    def mean(self) -> float:
        """Mean over all judged queries."""
        return sum(self.per_query.values()) / len(self.per_query)


def score(run: Run, qrels: Mapping[str, Mapping[str, int]], measure: str = NDCG) -> Scores:
    """Measure a run against judgements, see `score_all`."""
    return score_all(run, qrels, [measure])[0]


def score_all(
    run: Run, qrels: Mapping[str, Mapping[str, int]], measures: Sequence[str] = MEASURES
) -> tuple[Scores, ...]:
    """Take several measures of a run.

    Judged is the order of the hits: their scores are not shown to trec_eval, which would reorder equal ones.
    A document without a grade counts as grade 0, a query without a relevant document as 0.

    Raises:
        InputError: no such measure, or no judged query.
        MissingExtraError: ir-measures is not installed.
    """
    if not qrels:
        raise InputError("qrels: expected at least one judged query, found none")
    parsed = parsed_measures(measures)
    ranks = {query: {hit.id: float(-rank) for rank, hit in enumerate(run[query])} for query in qrels if run[query]}
    grades = {query: dict(judged) for query, judged in qrels.items()}
    values = require("ir_measures").iter_calc(parsed, grades, ranks)
    found = {(str(value.measure), value.query_id): float(value.value) for value in values}
    return tuple(
        Scores(measure, {query: found.get((str(known), query), 0.0) for query in qrels})
        for measure, known in zip(measures, parsed, strict=True)
    )


def parsed_measures(measures: Sequence[str]) -> list[Any]:
    """What ir-measures calls by those names.

    Raises:
        InputError: no such measure.
        MissingExtraError: ir-measures is not installed.
    """
    return [_parsed(measure) for measure in measures]


def _parsed(measure: str) -> Any:  # noqa: ANN401 - the library has no types
    try:
        known = require("ir_measures").parse_measure(measure)
        str(known)  # only now are its parameters looked at
    except (KeyError, NameError, SyntaxError, ValueError) as error:
        raise InputError(f"measure: expected a name of ir-measures such as {NDCG!r}, found {measure!r}") from error
    return known
