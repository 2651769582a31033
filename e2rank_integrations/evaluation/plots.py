"""Pictures of a report: the measure over the number of listed documents, and where the scores lie.

Legends have fixed places: matplotlib's search for the best one warns by the clock on a busy machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.evaluation.extras import require
from e2rank_integrations.evaluation.files import written_whole
from e2rank_integrations.evaluation.methods import COSINE, LISTWISE, SEARCH_AGAIN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from e2rank_integrations.evaluation.report import Report
    from e2rank_integrations.evaluation.runs import Run

_BINS = 40
_STYLES = ("--", "-.", ":", (0, (5, 1)), (0, (1, 3)))


def figure_of(columns: int = 1, *, width: float = 5.0) -> Figure:
    """An empty figure of some panels beside each other."""
    figure: Figure = require("matplotlib.figure").Figure(figsize=(columns * width, 4), layout="constrained")
    figure.subplots(1, columns, squeeze=False, sharex=columns > 1, sharey=columns > 1)
    return figure


def save_svg(figure: Figure, path: Path) -> None:
    """Write a picture; the same figure gives the same bytes.

    Raises:
        InputError: the file cannot be written.
    """
    # Without the salt and the date, every drawing of the same points would be another file.
    settings = {"svg.hashsalt": "e2rank", "svg.fonttype": "none"}
    with require("matplotlib").rc_context(settings), written_whole(path) as part:
        figure.savefig(part, format="svg", metadata={"Date": None})


def draw_sweep(report: Report) -> Figure:
    """The listwise measure over k (the paper's figure 2), with a level line for every other method."""
    figure = figure_of(width=7.0)
    (axes,) = figure.axes
    points = [(point.num_input_docs, point.score) for point in report.sweep]
    axes.plot(*zip(*points, strict=True), marker="o", color="black", label=LISTWISE)
    others = [row for row in report.rows if row.name not in {LISTWISE, SEARCH_AGAIN}]
    for place, row in enumerate(others):
        axes.axhline(row.scores.mean, color=f"C{place}", linestyle=_STYLES[place % len(_STYLES)], label=row.name)
    axes.set(title=report.collection, xlabel="documents listed in the prompt", ylabel=report.rows[0].scores.measure)
    axes.set_xscale("log")
    axes.set_xticks([number for number, _ in points], [str(number) for number, _ in points], minor=False)
    axes.xaxis.set_minor_locator(require("matplotlib.ticker").NullLocator())
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def draw_scores(report: Report, qrels: Mapping[str, Mapping[str, int]]) -> Figure:
    """Cosines of relevant (grade above 0) and other candidates: plain query beside listwise (the paper's figure 3)."""
    figure = figure_of(2)
    parts = [split_scores(report[name].run, qrels) for name in (COSINE, LISTWISE)]
    values = np.concatenate([part for pair in parts for part in pair])
    edges = np.histogram_bin_edges(values, bins=_BINS)
    for axes, name, (relevant, others) in zip(figure.axes, (COSINE, LISTWISE), parts, strict=True):
        _draw_histograms(axes, relevant, others, edges)
        axes.set(title=f"{report.collection}, {name}", xlabel="cosine to the query vector")
    figure.axes[0].set_ylabel("density")
    return figure


def split_scores(run: Run, qrels: Mapping[str, Mapping[str, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a run's relevant documents, and of its others, over all judged queries."""
    relevant: list[float] = []
    others: list[float] = []
    for query, grades in qrels.items():
        for hit in run[query]:
            (relevant if grades.get(hit.id, 0) > 0 else others).append(hit.score)
    return np.array(relevant), np.array(others)


def _draw_histograms(axes: Axes, relevant: np.ndarray, others: np.ndarray, edges: np.ndarray) -> None:
    for values, name, colour in ((others, "not relevant", "C7"), (relevant, "relevant", "C0")):
        if len(values):
            label = f"{name}: mean {values.mean():.3f}"
            axes.hist(values, bins=list(edges), density=True, color=colour, alpha=0.6, label=label)
    axes.legend(loc="upper right", fontsize="small")
