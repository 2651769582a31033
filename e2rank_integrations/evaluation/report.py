"""What a comparison found: rows of figures, as a table for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from e2rank_integrations.evaluation.extras import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from rich.table import Table

    from e2rank_integrations.evaluation.measures import Scores
    from e2rank_integrations.evaluation.runs import Run
    from e2rank_integrations.evaluation.significance import Difference
    from e2rank_integrations.evaluation.sweep import Point
    from e2rank_integrations.values import Usage


@dataclass(frozen=True, slots=True)
class Cost:
    """What answering all queries took, one query after the other.

    Attributes:
        forwards: Sequences that went through the model: plain queries and listwise prompts.
        tokens: Of those sequences, without padding.
        seconds: Wall time.
    """

    forwards: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, usage: Usage, seconds: float) -> Self:
        """Of a call."""
        return cls(usage.forwards, usage.tokens, seconds)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forwards + other.forwards, self.tokens + other.tokens, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One method.

    Attributes:
        name: Of the method, such as `listwise`.
        measures: Its measures, per query; the first is the one that methods are compared by.
        cost: All that it needs when queries come, its first stage included; not the embedding of the documents,
            which an index does once for every method.
        run: What it found.
        difference: From plain cosine on the same candidates, by the first measure; None for plain cosine itself.
    """

    name: str
    measures: tuple[Scores, ...]
    cost: Cost
    run: Run = field(repr=False)
    difference: Difference | None = None

    @property
    def scores(self) -> Scores:
        """The first measure."""
        return self.measures[0]


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Methods side by side on one collection.

    Attributes:
        collection: Its name.
        documents: How many it has.
        queries: How many are judged.
        model: The encoder's name and settings, for people.
        rows: One per method.
        sweep: The first measure over the number of listed documents, where that was asked for.
        settings: All that decides the figures besides the collection, without any text but the task strings.
    """

    collection: str
    documents: int
    queries: int
    model: str
    rows: tuple[Row, ...]
    sweep: tuple[Point, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Row:
        """The row of a method.

        Raises:
            KeyError: no such row.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def table(self) -> Table:
        """The figures; print it with `rich.print` or a console of your own."""
        title = f"{self.collection}: {self.queries} queries, {self.documents} documents"
        measures = [scores.measure for scores in self.rows[0].measures] if self.rows else ["score"]
        table = _table(title, self.model, ["method", *measures, "forwards", "tokens", "seconds"])
        for row in self.rows:
            figures = [f"{scores.mean:.4f}" for scores in row.measures]
            table.add_row(row.name, *figures, str(row.cost.forwards), str(row.cost.tokens), f"{row.cost.seconds:.2f}")
        return table

    def differences_table(self) -> Table:
        """Each method against plain cosine on the same candidates, with what these queries can tell of it."""
        measure = self.rows[0].scores.measure if self.rows else "score"
        title = f"{self.collection}: {measure} minus plain cosine's"
        caption = "95 %: paired bootstrap interval; p: paired sign-flip test, then by Holm for all rows together"
        table = _table(title, caption, ["method", "difference", "95 %", "p", "p (Holm)"])
        for row in self.rows:
            if row.difference is not None:
                table.add_row(row.name, *_difference_cells(row.difference))
        return table

    def sweep_table(self) -> Table:
        """The first measure over the number of listed documents."""
        measure = self.rows[0].scores.measure if self.rows else "score"
        table = _table(f"{self.collection}: documents in the prompt", self.model, ["listed", "fitted, mean", measure])
        for point in self.sweep:
            table.add_row(str(point.num_input_docs), f"{point.documents_used:.1f}", f"{point.score:.4f}")
        return table

    def to_json(self, *, per_query: bool = False) -> str:
        """The figures as JSON, without any text of the collection; `per_query` adds each query's scores by its id."""
        rows = [_as_dict(row, per_query) for row in self.rows]
        facts = {"collection": self.collection, "documents": self.documents, "queries": self.queries}
        about = {"model": self.model, "settings": dict(self.settings)}
        return json.dumps({**facts, **about, "rows": rows, "sweep": [asdict(point) for point in self.sweep]}, indent=2)


def _table(title: str, caption: str, headings: Sequence[str]) -> Table:
    box = require("rich.box").SIMPLE_HEAD
    table: Table = require("rich.table").Table(title=title, caption=caption, box=box, pad_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=bool(place))
    return table


def _difference_cells(found: Difference) -> tuple[str, str, str, str]:
    interval = f"{found.low:+.4f} to {found.high:+.4f}"
    return f"{found.mean:+.4f}", interval, _p_text(found.p), _p_text(found.p_holm)


def _p_text(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004 - three digits are shown


def _as_dict(row: Row, per_query: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": row.name,
        **{scores.measure: scores.mean for scores in row.measures},
        **asdict(row.cost),
        "difference": None if row.difference is None else asdict(row.difference),
    }
    found = {scores.measure: dict(scores.per_query) for scores in row.measures}
    return {**facts, "per_query": found} if per_query else facts
