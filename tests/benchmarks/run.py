"""A whole run: the machine, the rows, the small tables; written down after each step."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from tests.benchmarks import cross_encoders, generative, ours, reference, sentence
from tests.benchmarks.growth import growth
from tests.benchmarks.harness import Harness, tell
from tests.benchmarks.indexing import indexed
from tests.benchmarks.machine import matmul_rates, this_machine
from tests.benchmarks.options import WORK
from tests.benchmarks.overhead import CALLS, overhead
from tests.benchmarks.results import Report, save
from tests.benchmarks.rows import Bench, settled_dtype
from tests.benchmarks.workload import workload

if TYPE_CHECKING:
    from tests.benchmarks.options import Options
    from tests.benchmarks.results import Measured
    from tests.benchmarks.rows import Row
    from tests.benchmarks.workload import Workload

_EXTRA = ("growth", "overhead", "indexing")


def run(options: Options, command: str, root: Path = WORK) -> Report:
    """Run all that is asked for; the result is in `options.out` and, while it grows, under `root`.

    Raises:
        OutputsDifferError: our output is not the reference's.
    """
    started = perf_counter()
    torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))
    bench, work = Bench(options, settled_dtype(options.dtype), root), workload(options.candidates)
    report = _begun(bench, work, command)
    partial = root / f"speed-{options.layers}.part.json"
    report = _rows_run(report, bench, work, partial)
    report = _small_tables(report, bench, work, partial)
    tell("matrix products again …")
    report = replace(report, matmul=(*report.matmul, _rates(options)), minutes=(perf_counter() - started) / 60)
    save(report, options.out / f"speed-{options.layers}.json")
    partial.unlink(missing_ok=True)
    return report


def all_rows(options: Options, dtype: str) -> list[Row]:
    """Every row, in the order in which they run."""
    found = [
        *reference.rows(options),
        *ours.rows(options, dtype),
        *sentence.rows(options, dtype),
        *cross_encoders.rows(options, dtype),
        *generative.rows(options, dtype),
    ]
    return [row for row in found if options.rows in row.name]


def _rates(options: Options) -> dict[str, float]:
    return matmul_rates(seconds=0.01, rows=16) if options.narrow else matmul_rates()


def _begun(bench: Bench, work: Workload, command: str) -> Report:
    tell("matrix products, weights …")
    options = bench.options
    lengths = [len(item.ids) for item in bench.encoder.document_inputs(work.documents)]
    prompt, _ = bench.encoder.listwise_input(work.query, work.documents, work.listed)
    told = (reference.in_one_batch(bench, work), cross_encoders.ONE_ONLY)
    return Report(
        command=command,
        layers=options.layers,
        machine=asdict(this_machine()),
        matmul=(_rates(options),),
        workload={
            "candidates": len(lengths),
            "mean tokens": sum(lengths) / len(lengths),
            "shortest": min(lengths),
            "longest": max(lengths),
            "listed": work.listed,
            "prompt tokens": len(prompt.ids),
        },
        remarks=tuple(text for text in told if text is not None),
    )


def _rows_run(report: Report, bench: Bench, work: Workload, partial: Path) -> Report:
    found = report

    def keep(rows: tuple[Measured, ...]) -> None:
        nonlocal found
        found = replace(report, rows=rows)
        save(found, partial)

    harness = Harness(bench, work, keep)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others' libraries, about settings that are theirs
        return replace(found, rows=harness.run(all_rows(bench.options, bench.dtype)))


def _small_tables(report: Report, bench: Bench, work: Workload, partial: Path) -> Report:
    """Growth, overhead and indexing, those that are asked for."""
    options = bench.options
    if options.rows in "growth":
        tell("growth …")
        report = replace(report, growth=growth(bench, work))
        save(report, partial)
    bench.encoder.close()
    if options.rows in "overhead":
        tell("overhead …")
        report = replace(report, overhead=overhead(bench, work, calls=3 if options.narrow else CALLS))
        save(report, partial)
    if options.rows in "indexing":
        tell("indexing …")
        report = replace(report, indexing=indexed(options.indexed, bench.root, torch.get_num_threads()))
        save(report, partial)
    return report
