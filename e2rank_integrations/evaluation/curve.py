"""The sweep's points as a Markdown table and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2rank_integrations.evaluation.plots import figure_of, save_svg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from e2rank_integrations.evaluation.tune import Curve


def as_markdown(curve: Curve) -> str:
    """A row for each number of listed documents, a column for each weight, the control in the last one."""
    weights = sorted({point.weight for point in curve.points})
    lines = [
        f"| listed | {' | '.join(f'w = {weight:g}' for weight in weights)} | w = 1 (plain cosine) |",
        "|" + "---|" * (len(weights) + 2),
    ]
    for listed in curve.listed:
        row = dict(curve.line(listed))
        lines.append(f"| {listed} | {' | '.join(f'{row[weight]:.4f}' for weight in weights)} | {curve.plain:.4f} |")
    return "\n".join(lines)


def write_svg(curves: Sequence[Curve], path: Path) -> None:
    """Draw one panel for each first stage."""
    figure = figure_of(len(curves))
    for axes, curve in zip(figure.axes, curves, strict=True):
        for listed in curve.listed:
            axes.plot(*zip(*curve.line(listed), strict=True), marker=".", label=f"{listed} listed")
        axes.axhline(curve.plain, color="black", linestyle="--", label="plain cosine")
        axes.set(title=curve.name, xlabel="query weight w", ylabel="nDCG@10")
        axes.legend(loc="lower right", fontsize="small")
    save_svg(figure, path)
