"""Seconds per rerank as bars, ours in another colour."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from e2rank_integrations.evaluation.plots import figure_of, save_svg
from tests.benchmarks import ours, sentence

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from tests.benchmarks.results import Measured, Report

_OURS, _OTHERS = "#3f51b5", "#8a8f98"
_NOT_RERANKS = {ours.DOCUMENTS, sentence.DOCUMENTS}


def draw_bars(report: Report) -> Figure:
    """One bar per row that reranks, the slowest on top."""
    rows = sorted((row for row in report.rows if row.seconds and row.name not in _NOT_RERANKS), key=_time)
    figure = figure_of(width=9.0)
    figure.set_size_inches(9.0, 1.4 + 0.36 * len(rows))
    (axes,) = figure.axes
    colours = [_OURS if row.ours else _OTHERS for row in rows]
    bars = axes.barh([row.name for row in rows], [_time(row) for row in rows], color=colours)
    axes.bar_label(bars, labels=[f"{_time(row):.3g} s" for row in rows], padding=4)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    candidates, layers = report.workload["candidates"], report.layers
    axes.set(xlabel=f"seconds per rerank of {candidates} candidates, log scale\nQwen3 with {layers} layers")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_plot(report: Report, path: Path) -> None:
    """Write the bars as SVG."""
    save_svg(draw_bars(report), path)


def _time(row: Measured) -> float:
    return median(row.seconds)
