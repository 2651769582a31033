"""What the package set out to reach, beside what a run measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks import generative, ours, reference, sentence
from tests.benchmarks.results import Spread, ratios

if TYPE_CHECKING:
    from tests.benchmarks.results import Report


@dataclass(frozen=True, slots=True)
class Target:
    """One line.

    Attributes:
        name: Of what.
        wanted: With its unit.
        measured: With its unit; empty where it was not.
        verdict: `reached`, `not reached` or `not measured`.
    """

    name: str
    wanted: str
    measured: str
    verdict: str


def targets(report: Report) -> list[Target]:
    """All of them."""
    growth, overhead = report.growth or {}, report.overhead or {}
    grown = list(growth.values())
    return [
        _times("reference float32 against stored vectors", report.ratio(reference.NAME, ours.STORED), 21),
        _times("reference float32 against documents embedded again", report.ratio(reference.NAME, ours.AGAIN), 6),
        _share("documents, of the measured matmul peak", report.share_of_peak(ours.DOCUMENTS), 0.70),
        _share("prompt, of the measured matmul peak", report.share_of_peak(ours.STORED), 0.60),
        _times(
            "sentence-transformers against us, documents of mixed length, same dtype",
            report.ratio(sentence.DOCUMENTS, ours.DOCUMENTS), 1.5,
        ),
        _times("generative listwise against stored vectors", report.ratio(generative.NAME, ours.STORED), 15),
        _below("a follow-up query, of a prompt's forward", report.ratio(ours.FOLLOW_UP, ours.STORED), 0.08, 3),
        *(_milliseconds(name, found["difference"]) for name, found in overhead.items()),
        _below("1,000 stored candidates, of the time of 10", ratios(grown[-1], grown[0]) if grown else None, 1.10, 3),
        _unmeasured("on an H100: rerank of 100 stored candidates of 350 tokens (`tests.benchmarks.gpu`)", "≤ 40 ms"),
        _unmeasured("on an H100: documents, of the measured matmul rate (`tests.benchmarks.gpu`)", "≥ 50%"),
    ]  # fmt: skip


def _times(name: str, found: Spread | None, least: float) -> Target:
    if found is None:
        return _unmeasured(name, f"≥ {least:g} ×")
    return _target(
        name, f"≥ {least:g} ×", f"{found.median:.2f} × ({found.low:.2f} to {found.high:.2f})", found.median >= least
    )


def _share(name: str, found: float | None, least: float) -> Target:
    if found is None:
        return _unmeasured(name, f"≥ {least:.0%}")
    return _target(name, f"≥ {least:.0%}", f"{found:.0%}", found >= least)


def _below(name: str, found: Spread | None, most: float, digits: int) -> Target:
    if found is None:
        return _unmeasured(name, f"< {most:.2f}")
    return _target(name, f"< {most:.2f}", f"{found.median:.{digits}f}", found.median < most)


def _milliseconds(name: str, found: float) -> Target:
    return _target(f"{name}: above the core per 100 candidates", "< 1 ms", f"{found:.2f} ms", found < 1)


def _target(name: str, wanted: str, measured: str, reached: bool) -> Target:
    return Target(name, wanted, measured, "reached" if reached else "not reached")


def _unmeasured(name: str, wanted: str) -> Target:
    return Target(name, wanted, "", "not measured")
