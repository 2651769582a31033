"""A picture of a training: its losses over its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2rank_integrations.evaluation.plots import figure_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

_NAMES = {"loss": "loss", "infonce": "InfoNCE", "ranknet": "RankNet"}
_STYLES = ("-", "--", ":")


def draw_losses(log: Sequence[Mapping[str, float]]) -> Figure:
    """The loss and its unweighted parts over the optimizer's steps.

    Args:
        log: As in `trainer.Training.log`.
    """
    figure = figure_of(width=7.0)
    (axes,) = figure.axes
    for (key, label), style in zip(_NAMES.items(), _STYLES, strict=True):
        points = [(row["step"], row[key]) for row in log if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), linestyle=style, marker=".", label=label)
    axes.set(xlabel="optimizer steps", ylabel="loss", title="training")
    if log:
        axes.legend(fontsize="small")
    return figure
