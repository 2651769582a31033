"""The figures of the embedded default's listwise adapter, as a page of the documentation.

    python -m e2rank_integrations.evaluation.embedded --data ../shared/data --page docs/embedded-figures.md \
        --adapter e2rank_integrations/embedded [--adapter FOLDER …]

The first adapter is the one that is shipped, further ones are the same recipe with other seeds. On the test sets
nothing is chosen: each adapter is measured with the profile's number of documents and query weight, vector PRF with
what was best on the tuning sets.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.evaluation.at_hand import POOLED, methods_on
from e2rank_integrations.evaluation.compare import compared
from e2rank_integrations.evaluation.controls import cosine_rerank, feedback_vector
from e2rank_integrations.evaluation.curve import as_markdown, write_svg
from e2rank_integrations.evaluation.files import written_whole
from e2rank_integrations.evaluation.first_stage import BM25, DENSE
from e2rank_integrations.evaluation.measures import score
from e2rank_integrations.evaluation.methods import COSINE, LISTWISE, PRF, RRF, SEARCH_AGAIN
from e2rank_integrations.evaluation.runs import Run
from e2rank_integrations.evaluation.tune import TUNING, best, tuning_curves
from e2rank_integrations.profiles import EMBEDDED, TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from e2rank_integrations.evaluation.methods import Methods
    from e2rank_integrations.evaluation.report import Report
    from e2rank_integrations.evaluation.tune import Curve
    from e2rank_integrations.values import Matrix

REPORTED = ("scifact", "nfcorpus", "cranfield")
UNTRAINED = replace(
    EMBEDDED,
    template=TEMPLATES["paper"],
    caps=replace(EMBEDDED.caps, listed=512),
    num_input_docs=1,
    query_weight=0.8,
)
"""What the profile was before there was an adapter; chosen on nfcorpus dev."""

PRF_SETTINGS = tuple(product((1, 3, 5, 10), (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)))
"""Documents and weights from which vector PRF's are chosen."""

Line = tuple[str, list[float | None]]
"""A row of a table: its name, and a figure for each collection or None."""

_HEADINGS = {BM25.name: "BM25's first 100 documents", DENSE: "The model's own first 100 documents"}
FIRST = "the first search"
_NDCG, _RECALL = 0, 2  # places among the report's measures


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One collection with one first stage, and the plain queries' vectors.

    Attributes:
        methods: What is compared, with the base model.
        queries: Unit rows, in the collection's order.
    """

    methods: Methods
    queries: Matrix = field(repr=False)

    @classmethod
    def of(cls, folder: Path, split: str, stage: str, base: E2RankEncoder, cache: Path) -> Task:
        """Read a collection and embed its documents; the stage is BM25's list or the model's own."""
        methods = methods_on(folder, base, cache, split=split, own=stage == DENSE)
        return cls(methods, base.encode_queries(list(methods.collection.queries.values())))

    @property
    def name(self) -> str:
        """How the page calls the collection."""
        return self.methods.collection.name

    def report(self, encoder: E2RankEncoder) -> Report:
        """All methods, with an encoder that makes the same document vectors."""
        return compared(self.methods.with_encoder(encoder))

    def candidates(self) -> Run:
        """What the first stage hands on for each query."""
        pairs = zip(self.methods.collection.queries, self.queries, strict=True)
        return Run({key: self.methods.candidates(key, vector) for key, vector in pairs})

    def feedback(self, candidates: Run, documents: int, weight: float) -> float:
        """nDCG@10 of vector PRF with these settings."""
        index, hits = self.methods.index, {}
        for key, vector in zip(self.methods.collection.queries, self.queries, strict=True):
            moved = feedback_vector(vector, candidates[key], index, documents=documents, weight=weight)
            hits[key] = cosine_rerank(candidates[key], moved, index)
        return score(Run(hits), self.methods.collection.qrels).mean


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One collection's figures: the reports of the untrained profile and of each adapter, and vector PRF's."""

    name: str
    untrained: Report
    adapters: tuple[Report, ...]
    feedback: float

    def figure(self, report: Report, method: str, measure: int = _NDCG) -> float | None:
        """A method's mean, or None where it was not measured."""
        found = [row.measures[measure].mean for row in report.rows if row.name == method]
        return found[0] if found else None


def chosen_feedback(tasks: Sequence[Task]) -> tuple[int, float]:
    """Vector PRF's documents and weight with the best mean nDCG@10 over the tuning tasks."""
    first = [task.candidates() for task in tasks]

    def mean(setting: tuple[int, float]) -> float:
        return sum(task.feedback(run, *setting) for task, run in zip(tasks, first, strict=True)) / len(tasks)

    return max(PRF_SETTINGS, key=mean)


def column(task: Task, base: E2RankEncoder, adapters: Sequence[E2RankEncoder], setting: tuple[int, float]) -> Column:
    """Measure everything on one task."""
    untrained = task.report(replace(base, profile=UNTRAINED))
    feedback = task.feedback(untrained.rows[0].run, *setting)
    return Column(task.name, untrained, tuple(task.report(encoder) for encoder in adapters), feedback)


def section(stage: str, columns: Sequence[Column], setting: tuple[int, float]) -> str:
    """The tables of one first stage."""
    lines = [f"## {_HEADINGS[stage]}", ""]
    lines += _table("nDCG@10", columns, _ndcg_rows(stage, columns, setting))
    if any(entry.figure(entry.untrained, SEARCH_AGAIN) is not None for entry in columns):
        lines += ["", *_table("recall@100", columns, _recall_rows(stage, columns))]
    return "\n".join(lines)


def _ndcg_rows(stage: str, columns: Sequence[Column], setting: tuple[int, float]) -> Iterator[Line]:
    first = columns[0].untrained.rows[0].name
    if stage != DENSE:
        yield first, [entry.figure(entry.untrained, entry.untrained.rows[0].name) for entry in columns]
    yield COSINE, [entry.figure(entry.untrained, COSINE) for entry in columns]
    yield "listwise, untrained (1 document, w = .8)", [entry.figure(entry.untrained, LISTWISE) for entry in columns]
    for place in range(len(columns[0].adapters)):
        yield _name(place), [entry.figure(entry.adapters[place], LISTWISE) for entry in columns]
    yield f"{PRF} (3 documents, 0.6)", [entry.figure(entry.untrained, PRF) for entry in columns]
    documents, weight = setting
    yield f"control: vector PRF, tuned ({documents} documents, {weight:g})", [entry.feedback for entry in columns]
    yield "control: fusion with BM25 (RRF)", [entry.figure(entry.untrained, RRF) for entry in columns]


def _recall_rows(stage: str, columns: Sequence[Column]) -> Iterator[Line]:
    known = [entry for entry in columns if entry.figure(entry.untrained, SEARCH_AGAIN) is not None]
    blank = [None] * (len(columns) - len(known))
    first = [entry.untrained.rows[0].measures[_RECALL].mean for entry in known]
    yield FIRST, [*first, *blank]
    if stage != DENSE:
        yield DENSE, [*(entry.figure(entry.untrained, DENSE, _RECALL) for entry in known), *blank]
    yield "search again, untrained", [*(_again(entry, entry.untrained) for entry in known), *blank]
    for place in range(len(columns[0].adapters)):
        yield f"{_name(place)}, search again", [*(_again(entry, entry.adapters[place]) for entry in known), *blank]


def _again(entry: Column, report: Report) -> float | None:
    return entry.figure(report, SEARCH_AGAIN, _RECALL)


def _name(place: int) -> str:
    return "**listwise, the shipped adapter**" if place == 0 else f"listwise, the same recipe again ({place})"


def _table(title: str, columns: Sequence[Column], rows: Iterator[Line]) -> list[str]:
    """Figures, and in brackets their difference from plain cosine or the first search."""
    found = list(rows)
    base = next(values for name, values in found if name in {COSINE, FIRST})
    lines = [f"| {title} | {' | '.join(entry.name for entry in columns)} | mean difference |"]
    lines.append("|" + "---|" * (len(columns) + 2))
    for name, values in found:
        mean = "" if values is base else f"{100 * _mean_difference(values, base):+.2f}"
        cells = [_cell(value, other, plain=values is base) for value, other in zip(values, base, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} | {mean} |")
    return lines


def _mean_difference(values: Sequence[float | None], base: Sequence[float | None]) -> float:
    pairs = zip(values, base, strict=True)
    differences = [value - other for value, other in pairs if value is not None and other is not None]
    return sum(differences) / len(differences)


def _cell(value: float | None, base: float | None, *, plain: bool) -> str:
    if value is None or base is None:
        return "–"
    return f"{value:.4f}" if plain else f"{value:.4f} ({100 * (value - base):+.2f})"


def page(data: Path, adapters: Sequence[E2RankEncoder], base: E2RankEncoder, cache: Path) -> str:
    """Measure all and write the page."""
    parts = [_HEAD]
    for stage in (BM25.name, DENSE):
        tuning = [Task.of(data / name, split, stage, base, cache) for name, split in TUNING]
        setting = chosen_feedback(tuning)
        names = REPORTED if stage == DENSE else (*REPORTED, POOLED)
        tasks = [Task.of(data / name, "test", stage, base, cache) for name in names]
        parts.append(section(stage, [column(task, base, adapters, setting) for task in tasks], setting))
    return "\n\n".join(parts)


def tuning(curves: Sequence[Curve]) -> str:
    """What the profile's two numbers were chosen by."""
    listed, weight = best(curves)
    lines = [
        _TUNING.format(listed=listed, weight=weight, given=EMBEDDED.num_input_docs, given_weight=EMBEDDED.query_weight)
    ]
    for curve in curves:
        lines += ["", f"{curve.name}:", "", as_markdown(curve)]
    return "\n".join(lines)


_TUNING = """## The tuning sets

nDCG@10 of the shipped adapter over the documents listed in the prompt and the query's weight w. The best mean gain over
plain cosine, each table counted once, is that of {listed} listed and w = {weight:g}. The profile has {given} and
{given_weight:g}, which were best for the recipe's first training; no test set had been measured then.

![Points of nDCG@10 above plain cosine over the query weight](embedded-profile.svg)"""

_HEAD = """# The embedded default's figures

Written by `python -m e2rank_integrations.evaluation.embedded`, which `make figures` runs; float32 on a CPU.
In brackets: points of the measure above plain cosine, or above the first search. The last column is their mean over the
collections. What the rows are and how the adapter was made is on [the embedded default's page](embedded-profile.md)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the embedded default's adapters on the test sets and write the page."""
    name = "python -m e2rank_integrations.evaluation.embedded"
    parser = argparse.ArgumentParser(prog=name, description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help=f"folder that holds {', '.join(REPORTED)}, …")
    parser.add_argument("--adapter", action="append", required=True, help="folder; the shipped one first")
    parser.add_argument("--page", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--cache", type=Path, default=Path(".figures"), help="where document vectors are kept")
    options = parser.parse_args(arguments)
    base = E2RankEncoder("embedded", listwise_adapter=None, device="cpu", dtype="float32")
    adapters = [replace(base, listwise_adapter=folder) for folder in options.adapter]
    curves = tuning_curves(options.data, adapters[0], options.cache)
    text = "\n\n".join([page(options.data, adapters, base, options.cache), tuning(curves)])
    with written_whole(options.page) as part:
        part.write_text(f"{text}\n", encoding="utf-8")
    write_svg(curves, options.page.with_name("embedded-profile.svg"))


if __name__ == "__main__":
    main()
