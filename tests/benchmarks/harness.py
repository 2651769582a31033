"""Runs the rows: after a warm-up A B C, A B C, so that a slow minute of the machine slows them all."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING

from tests.benchmarks import reference
from tests.benchmarks.counting import counted
from tests.benchmarks.flops import forward_flops
from tests.benchmarks.models import config_of
from tests.benchmarks.outputs import difference, expect_same
from tests.benchmarks.results import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.benchmarks.counting import Counts
    from tests.benchmarks.outputs import Difference, Outcome
    from tests.benchmarks.rows import Bench, Row
    from tests.benchmarks.workload import Workload


@dataclass
class Harness:
    """Runs rows and keeps what they gave.

    Attributes:
        bench: What the rows share.
        work: The rerank.
        after_row: Called with all rows so far after each call of a row.
    """

    bench: Bench
    work: Workload
    after_row: Callable[[tuple[Measured, ...]], None]
    measured: dict[str, Measured] = field(default_factory=dict)
    _reference: Outcome | None = None

    def run(self, rows: Sequence[Row]) -> tuple[Measured, ...]:
        """All rounds of all rows.

        Raises:
            OutputsDifferError: our output is not the reference's.
        """
        schedule = rounds_of([(row, 0 if row.skipped else self._rounds(row)) for row in rows])
        for row in rows:
            self.measured[row.name] = _blank(row)
        for place, (row, round_) in enumerate(schedule):
            self._once(row, round_)
            self.bench.keep({name for later, _ in schedule[place + 1 :] for name in later.needs})
            self.after_row(tuple(self.measured.values()))
        return tuple(self.measured.values())

    def _rounds(self, row: Row) -> int:
        return self.bench.options.rounds_of(row.weight)

    def _once(self, row: Row, round_: int) -> None:
        """One timed call, counted and compared."""
        tell(f"{row.name}, round {round_ + 1} of {self._rounds(row)} …")
        if round_ == 0:
            self._warm(row)
        model = row.model(self.bench)
        gc.collect()
        with counted(model) as counts:
            started = perf_counter()
            outcome = row.call(self.bench, self.work, round_)
            seconds = perf_counter() - started
        before = self.measured[row.name]
        found = replace(before, seconds=(*before.seconds, seconds))
        if round_ == 0:
            found = self._described(found, row, counts)
        found = replace(found, difference=worse(found.difference, self._difference(row, outcome, round_)))
        self.measured[row.name] = found
        tell(f"{row.name}: {seconds:.3f} s")
        if row.exact and found.difference is not None:
            expect_same(row.name, row.dtype, found.difference)

    def _warm(self, row: Row) -> None:
        """Load what the row needs, and run it on a few documents."""
        if row.prepare is not None:
            row.prepare(self.bench, self.work.small)
        row.call(self.bench, self.work.small, 0)
        if row.prepare is not None:
            row.prepare(self.bench, self.work)

    def _described(self, found: Measured, row: Row, counts: Counts) -> Measured:
        lengths = None if row.lengths is None else row.lengths(self.bench, self.work)
        return replace(
            found,
            dtype=str(next(row.model(self.bench).parameters()).dtype).removeprefix("torch."),
            forwards=counts.forwards,
            real_tokens=counts.real_tokens,
            padded_tokens=counts.padded_tokens,
            prefill=counts.prefill if row.name.startswith("generative") else None,
            flops=None if lengths is None else forward_flops(config_of(self.bench.options), lengths),
        )

    def _difference(self, row: Row, outcome: Outcome, round_: int) -> Difference | None:
        if row.name == reference.NAME:
            self._reference = outcome
            return None
        expected = self._reference if row.expected is None else row.expected(self.bench, self.work, round_)
        if expected is None or (row.ours and not row.exact):
            return None
        return difference(expected, outcome)


def rounds_of(rows: Sequence[tuple[Row, int]]) -> list[tuple[Row, int]]:
    """Rows with their rounds in turn: every row once, then those that run again."""
    most = max((rounds for _, rounds in rows), default=0)
    return [(row, round_) for round_ in range(most) for row, rounds in rows if round_ < rounds]


def worse(one: Difference | None, other: Difference | None) -> Difference | None:
    """The worse of each part over two rounds."""
    if one is None or other is None:
        return one or other
    cosines = [gap.lowest_cosine for gap in (one, other) if gap.lowest_cosine is not None]
    same = None if one.same_order is None else bool(one.same_order and other.same_order)
    return replace(
        one, largest=max(one.largest, other.largest), lowest_cosine=min(cosines, default=None), same_order=same
    )


def tell(text: str) -> None:
    """A line on stderr, so that nobody waits in the dark."""
    print(text, file=sys.stderr, flush=True)


def _blank(row: Row) -> Measured:
    return Measured(row.name, row.ours, row.dtype, row.layers, note=row.note.strip(), skipped=row.skipped)
