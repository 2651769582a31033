"""Measures by trec_eval's definition, through ir-measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.extras import require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2rank_integrations.evaluation.runs import Run

NDCG = "nDCG@10"


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
    """Measure a run against judgements.

    Judged is the order of the hits: their scores are not shown to trec_eval, which would reorder equal ones.
    A document without a grade counts as grade 0, a query without a relevant document as 0.

    Raises:
        InputError: no such measure, or no judged query.
        MissingExtraError: ir-measures is not installed.
    """
    if not qrels:
        raise InputError("qrels: expected at least one judged query, found none")
    ranks = {query: {hit.id: float(-rank) for rank, hit in enumerate(run[query])} for query in qrels if run[query]}
    grades = {query: dict(judged) for query, judged in qrels.items()}
    found = _measured(measure, grades, ranks)
    return Scores(measure, {query: found.get(query, 0.0) for query in qrels})


def _measured(measure: str, grades: dict[str, dict[str, int]], ranks: dict[str, dict[str, float]]) -> dict[str, float]:
    ir_measures = require("ir_measures")
    try:
        values = ir_measures.iter_calc([ir_measures.parse_measure(measure)], grades, ranks)
        return {value.query_id: float(value.value) for value in values}
    except (KeyError, NameError, SyntaxError, ValueError) as error:
        raise InputError(f"measure: expected a name of ir-measures such as {NDCG!r}, found {measure!r}") from error
