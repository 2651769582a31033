"""The sweep's points as a Markdown table and as a picture."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

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
    """Draw one panel for each first stage. Needs matplotlib, which only developers of this package have."""
    figure = import_module("matplotlib.figure").Figure(figsize=(10, 4), layout="constrained")
    for axes, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        for listed in curve.listed:
            axes.plot(*zip(*curve.line(listed), strict=True), marker=".", label=f"{listed} listed")
        axes.axhline(curve.plain, color="black", linestyle="--", label="plain cosine")
        axes.set(title=f"first stage: {curve.first_stage}", xlabel="query weight w", ylabel="nDCG@10")
        axes.legend(fontsize="small")
    # Without the salt and the date, every drawing of the same points would be another file.
    with import_module("matplotlib").rc_context({"svg.hashsalt": "e2rank", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
