"""What a comparison found: rows of figures, as a table for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from e2rank_integrations.evaluation.extras import require

if TYPE_CHECKING:
    from rich.table import Table

    from e2rank_integrations.evaluation.measures import Scores
    from e2rank_integrations.evaluation.runs import Run


@dataclass(frozen=True, slots=True)
class Cost:
    """What answering all queries took, one query after the other.

    Attributes:
        forwards: Sequences that went through the model: plain queries and listwise prompts.
        seconds: Wall time.
    """

    forwards: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forwards + other.forwards, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One method.

    Attributes:
        name: Of the method, such as `listwise`.
        scores: Its measure, per query.
        cost: All that it needs when queries come, its first stage included; not the embedding of the documents,
            which an index does once for every method.
        run: What it found.
    """

    name: str
    scores: Scores
    cost: Cost
    run: Run = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Methods side by side on one collection.

    Attributes:
        collection: Its name.
        documents: How many it has.
        queries: How many are judged.
        model: The encoder's name and settings.
        rows: One per method.
    """

    collection: str
    documents: int
    queries: int
    model: str
    rows: tuple[Row, ...]

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
        table: Table = require("rich.table").Table(title=title, caption=self.model)
        table.add_column("method")
        for heading in (self.rows[0].scores.measure if self.rows else "score", "forwards", "seconds"):
            table.add_column(heading, justify="right")
        for row in self.rows:
            table.add_row(row.name, f"{row.scores.mean:.4f}", str(row.cost.forwards), f"{row.cost.seconds:.2f}")
        return table

    def to_json(self, *, per_query: bool = False) -> str:
        """The figures as JSON, without any text; `per_query` adds each query's score by its id."""
        rows = [self._as_dict(row, per_query) for row in self.rows]
        facts = {"collection": self.collection, "documents": self.documents, "queries": self.queries}
        return json.dumps({**facts, "model": self.model, "rows": rows}, indent=2)

    def _as_dict(self, row: Row, per_query: bool) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "name": row.name,
            row.scores.measure: row.scores.mean,
            "forwards": row.cost.forwards,
            "seconds": row.cost.seconds,
        }
        return {**facts, "per_query": dict(row.scores.per_query)} if per_query else facts
