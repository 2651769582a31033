"""What a run found, as values and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from e2rank_integrations.evaluation.files import written_whole
from tests.benchmarks.outputs import Difference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of some numbers, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread | None:
        """None without numbers."""
        return cls(median(numbers), min(numbers), max(numbers)) if numbers else None


def ratios(seconds: Sequence[float], base: Sequence[float]) -> Spread | None:
    """Seconds over a base's, round by round, over the rounds that both have."""
    return Spread.of([one / other for one, other in zip(seconds, base, strict=False)])


@dataclass(frozen=True, slots=True)
class Measured:
    """One row.

    Attributes:
        name: As tables show it.
        ours: Whether it is this package's.
        dtype: Of the weights.
        layers: Of the model.
        seconds: Wall time by round, from the first.
        forwards: Of the model, in the first round.
        real_tokens: In them.
        padded_tokens: Real ones and padding.
        flops: That the output needs, of rows whose share of the matmul peak is asked for.
        prefill: Seconds of the first round that went into prefill, of a generative row.
        difference: From the reference; None where the row has another output.
        note: What a reader must know.
        skipped: Why it did not run.
    """

    name: str
    ours: bool
    dtype: str
    layers: int
    seconds: tuple[float, ...] = ()
    forwards: int = 0
    real_tokens: int = 0
    padded_tokens: int = 0
    flops: int | None = None
    prefill: float | None = None
    difference: Difference | None = None
    note: str = ""
    skipped: str | None = None

    @property
    def pad_factor(self) -> float:
        """Tokens that were computed, over those that were there."""
        return self.padded_tokens / self.real_tokens if self.real_tokens else 1.0


@dataclass(frozen=True, slots=True)
class Report:
    """A run.

    Attributes:
        command: That made it.
        layers: Of the Qwen3 models.
        machine: See `machine.Machine`.
        matmul: 1e9 operations per second by dtype, at the start and at the end; one entry while the run goes on.
        workload: Numbers of the workload, by name.
        rows: In the order in which they ran.
        growth: Seconds by round, by number of candidates.
        overhead: Milliseconds per 100 candidates, by adapter and part.
        indexing: Documents, seconds and peak bytes.
        remarks: Sentences that stand under the table.
        minutes: Of the whole run; None while it goes on.
    """

    command: str
    layers: int
    machine: dict[str, Any]
    matmul: tuple[dict[str, float], ...]
    workload: dict[str, float]
    rows: tuple[Measured, ...] = ()
    growth: dict[str, tuple[float, ...]] | None = None
    overhead: dict[str, dict[str, float]] | None = None
    indexing: tuple[dict[str, float], ...] = ()
    remarks: tuple[str, ...] = ()
    minutes: float | None = None

    def row(self, name: str) -> Measured | None:
        """A row that ran, by name."""
        return next((row for row in self.rows if row.name == name and row.seconds), None)

    def ratio(self, name: str, base: str) -> Spread | None:
        """Seconds of a row over those of another; None if one of them did not run."""
        one, other = self.row(name), self.row(base)
        return None if one is None or other is None else ratios(one.seconds, other.seconds)

    def share_of_peak(self, name: str) -> float | None:
        """Share of the measured matmul rate of the row's dtype (mean of start and end) that the row reaches."""
        row = self.row(name)
        if row is None or row.flops is None:
            return None
        peak = sum(rates[row.dtype] for rates in self.matmul) / len(self.matmul)
        return row.flops / median(row.seconds) / (peak * 1e9)


def save(report: Report, path: Path) -> None:
    """Write a run whole, or not at all."""
    with written_whole(path) as part:
        part.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Report:
    """Read what `save` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    found["rows"] = tuple(_measured(row) for row in found["rows"])
    return Report(**found)


def _measured(row: dict[str, Any]) -> Measured:
    gap = row.pop("difference")
    return Measured(**row, difference=None if gap is None else Difference(**gap))
