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
    """Draw one panel for each curve: points of nDCG@10 above plain cosine over the query weight."""
    figure = figure_of(len(curves), width=3.4)
    for axes, curve in zip(figure.axes, curves, strict=True):
        for listed in curve.listed:
            line = curve.line(listed)
            gains = [100 * (ndcg - curve.plain) for _, ndcg in line]
            axes.plot([weight for weight, _ in line], gains, marker=".", label=f"{listed} listed")
        axes.axhline(0, color="black", linestyle="--", label="plain cosine")
        axes.set(title=curve.name, xlabel="query weight w")
    figure.axes[0].set_ylabel("points of nDCG@10 above plain cosine")
    figure.axes[0].legend(fontsize="small")
    save_svg(figure, path)
