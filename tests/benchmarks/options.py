"""What a run is asked for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    Weight = Literal["light", "middle", "heavy"]

WORK = Path(".benchmarks")
"""Where weights and interrupted runs are kept; git ignores it."""
DOCS = Path("docs")
QUICK_LAYERS, FULL_LAYERS, CANDIDATES = 4, 28, 100
_ROUNDS = {"light": (2, 3), "middle": (2, 1), "heavy": (1, 1)}


@dataclass(frozen=True, slots=True)
class Options:
    """One run.

    Attributes:
        layers: Of the model, 28 in the true one.
        candidates: Documents to rerank.
        rounds: Rounds of all but the heavy rows; None for those of the run's kind.
        threads: Of torch; None for all cores.
        dtype: Of our engine and of those it is compared with at the same dtype; `auto` as the engine chooses it.
        out: Folder of the results.
        rows: Only rows whose name holds this.
        full: Whether to index 100,000 documents, and to run what takes longest once only.
        narrow: Whether layers are narrow, for tests of the benchmark itself.
    """

    layers: int = QUICK_LAYERS
    candidates: int = CANDIDATES
    rounds: int | None = None
    threads: int | None = None
    dtype: str = "auto"
    out: Path = WORK
    rows: str = ""
    full: bool = False
    narrow: bool = False

    def rounds_of(self, weight: Weight) -> int:
        """How often a row runs."""
        if self.rounds is not None and weight != "heavy":
            return self.rounds
        return _ROUNDS[weight][self.full]

    @property
    def indexed(self) -> tuple[int, ...]:
        """Numbers of documents that are indexed, to see how time and memory grow."""
        if self.narrow:
            return (20,)
        return (1_000, 10_000, 100_000) if self.full else (1_000, 10_000)


def parsed(arguments: Sequence[str] | None = None) -> tuple[Options, bool]:
    """The options, and whether to draw only."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="28 layers and 100,000 documents; an hour or more")
    parser.add_argument("--layers", type=int, help="of the model; 4, with --full 28")
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="documents to rerank; %(default)s")
    parser.add_argument("--rounds", type=int, help="of all rows but the heavy ones, which run once")
    parser.add_argument("--threads", type=int, help="of torch; all cores")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="of our engine")
    parser.add_argument("--out", type=Path, help="folder of the results; docs for a whole run, else .benchmarks")
    parser.add_argument("--rows", default="", help="only rows whose name holds this")
    parser.add_argument("--draw", action="store_true", help="draw the page and the plots again from the JSON files")
    found = parser.parse_args(arguments)
    layers = found.layers or (FULL_LAYERS if found.full else QUICK_LAYERS)
    whole = layers in {QUICK_LAYERS, FULL_LAYERS} and found.candidates == CANDIDATES and not found.rows
    whole = whole and found.dtype == "auto" and found.threads is None
    out = found.out or (DOCS if whole or found.draw else WORK)
    options = Options(
        layers=layers,
        candidates=found.candidates,
        rounds=found.rounds,
        threads=found.threads,
        dtype=found.dtype,
        out=out,
        rows=found.rows,
        full=found.full,
    )
    return options, found.draw
