"""Tables of a report, as rows of cells: for the terminal and for the page alike."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from tests.benchmarks import ours, reference
from tests.benchmarks.results import Spread, ratios
from tests.benchmarks.targets import targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.benchmarks.outputs import Difference
    from tests.benchmarks.results import Measured, Report

    Table = list[list[str]]


def as_text(report: Report) -> str:
    """The whole report for a terminal."""
    parts = [machine_lines(report), *map(aligned, tables(report)), notes(report)]
    return "\n\n".join("\n".join(part) for part in parts)


def tables(report: Report) -> Iterator[Table]:
    """All that there are."""
    yield row_table(report)
    yield target_table(report)
    if report.growth:
        yield growth_table(report.growth)
    if report.overhead:
        yield overhead_table(report.overhead)
    if report.indexing:
        yield indexing_table(report.indexing)


def machine_lines(report: Report) -> list[str]:
    """The machine and the workload in sentences."""
    machine, work = report.machine, report.workload
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    flags = ", ".join(machine["flags"]) or "none of the flags that matter"
    read = (
        f"{work['candidates']} candidates of {work['shortest']} to {work['longest']} tokens, {work['mean tokens']:.0f}"
    )
    asked = f"{work['listed']} of them in a prompt of {work['prompt tokens']:,} tokens"
    lines = [
        f"{machine['cpu']}; {flags}; {machine['threads']} threads; {versions}.",
        *(_rate_line(name, report.matmul) for name in report.matmul[0]),
        f"{read} in the mean; {asked}. {report.layers} layers of the true width, random weights.",
    ]
    return lines if report.minutes is None else [*lines, f"The run took {report.minutes:.1f} minutes."]


def _rate_line(dtype: str, matmul: Sequence[dict[str, float]]) -> str:
    rates = [f"{rates[dtype]:.0f}" for rates in matmul]
    when = " at the start and {} at the end".format(*rates[1:]) if len(rates) > 1 else ""
    return f"Matrix products in {dtype}: {rates[0]} GFLOP/s{when}."


def row_table(report: Report) -> Table:
    """One line per row that ran."""
    head = [
        "way to rerank", "seconds", "× stored vectors", "× embedded again", "forwards", "tokens", "padded",
        "pad factor", "dtype", "layers", "share of peak", "difference from the reference",
    ]  # fmt: skip
    return [head, *(_row_cells(report, row) for row in report.rows if row.seconds)]


def _row_cells(report: Report, row: Measured) -> list[str]:
    share = report.share_of_peak(row.name)
    return [
        row.name,
        _seconds(median(row.seconds)),
        spread(report.ratio(row.name, ours.STORED)),
        spread(report.ratio(row.name, ours.AGAIN)),
        str(row.forwards),
        f"{row.real_tokens:,}",
        f"{row.padded_tokens:,}",
        f"{row.pad_factor:.2f}",
        row.dtype,
        str(row.layers),
        "" if share is None else f"{share:.0%}",
        _difference(row.difference),
    ]


def _difference(found: Difference | None) -> str:
    if found is None:
        return ""
    cosine = [] if found.lowest_cosine is None else [f"cosine {found.lowest_cosine:.6f}"]
    order = {True: ["same order"], False: ["another order"], None: []}[found.same_order]
    return ", ".join([f"{found.largest:.0e}", *cosine, *order])


def target_table(report: Report) -> Table:
    """The issue's targets beside what was measured."""
    head = ["target", "wanted", "measured", ""]
    return [head, *([each.name, each.wanted, each.measured, each.verdict] for each in targets(report))]


def growth_table(growth: dict[str, tuple[float, ...]]) -> Table:
    """Stored candidates, seconds, and how much more than the fewest."""
    fewest = next(iter(growth.values()))
    head = ["stored candidates", "seconds", "× the fewest"]
    return [
        head,
        *([size, _seconds(median(found)), spread(ratios(found, fewest), 3)] for size, found in growth.items()),
    ]


def overhead_table(overhead: dict[str, dict[str, float]]) -> Table:
    """Milliseconds per call."""
    head = ["adapter", "adapter, ms", "core, ms", "difference, ms", "of it making candidates, ms"]
    names = ("adapter", "core", "difference", "vectors")
    return [head, *([name, *(f"{found[part]:.2f}" for part in names)] for name, found in overhead.items())]


def indexing_table(indexing: Sequence[dict[str, float]]) -> Table:
    """Documents, time per 1,000 and peak memory."""
    head = ["documents", "seconds", "seconds per 1,000", "peak memory, MB"]
    return [
        head,
        *(
            [
                f"{found['documents']:,}",
                f"{found['seconds']:.1f}",
                f"{1000 * found['seconds'] / found['documents']:.3f}",
                f"{found['peak_bytes'] / 1e6:.0f}",
            ]
            for found in indexing
        ),
    ]


def notes(report: Report) -> list[str]:
    """What a reader must know, row by row."""
    told = [f"{row.name}: {row.note.strip()}" for row in report.rows if row.note and row.seconds]
    skipped = [f"{row.name}: not run, {row.skipped}. {_both_rates(report)}" for row in report.rows if row.skipped]
    prefill = [
        f"{row.name}: {_seconds(row.prefill)} s of the first round went into prefill; without a token written that is "
        f"{row.prefill / report.row(ours.STORED).seconds[0]:.1f} times a rerank with stored vectors."
        for row in report.rows
        if row.prefill is not None and report.row(ours.STORED)
    ]
    checked = [] if report.row(reference.NAME) else ["Outputs were not compared: the reference did not run."]
    return [*report.remarks, *checked, *_in_float32(report), *skipped, *prefill, *told]


def _in_float32(report: Report) -> list[str]:
    """Why the ratios to the reference are smaller where the engine has no bfloat16 to gain from."""
    row = report.row(ours.STORED)
    if row is None or row.dtype != "float32":
        return []
    why = "The targets against the reference, and the shares of the peak, were set for a CPU that computes in bfloat16."
    return [f"E2Rank ran in float32, as the reference did. {why}"]


def _both_rates(report: Report) -> str:
    rates = report.matmul[0]
    return f"Measured: {rates['float32']:.0f} GFLOP/s in float32, {rates['bfloat16']:.0f} in bfloat16."


def spread(found: Spread | None, digits: int = 2) -> str:
    """Median, with low and high where they differ."""
    if found is None:
        return ""
    digits = max(digits, 3) if found.median < 0.1 else digits  # two would round it away
    middle, low, high = (f"{number:.{digits}f}" for number in (found.median, found.low, found.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def aligned(table: Table) -> list[str]:
    """Lines of a table in Markdown, its columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    head, *rows = [_line(row, widths) for row in table]
    rule = ["-" * width if place == 0 else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    return [head, _line(rule, widths), *rows]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        cell.ljust(width) if place == 0 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join([first, *others])} |"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"
