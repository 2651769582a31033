"""Checks this package's measures, first stages and embedded model against known figures, and prints what stands beside.

    python -m e2rank_integrations.evaluation.figures --data ../shared/data

Exits with status 1 if one of the known figures is not met within the tolerance.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.evaluation.collection import load_collection
from e2rank_integrations.evaluation.compare import compare
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.extras import require
from e2rank_integrations.evaluation.first_stage import BM25
from e2rank_integrations.evaluation.methods import COSINE, DENSE
from e2rank_integrations.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2rank_integrations.evaluation.report import Report

TOLERANCE = 0.005
"""The known figures were computed in bfloat16, ours in float32."""

KNOWN: Mapping[str, Mapping[str, float]] = {
    "nfcorpus": {BM25.name: 0.3187, DENSE: 0.3158, COSINE: 0.3243},
    "scifact": {BM25.name: 0.6791, DENSE: 0.6455, COSINE: 0.6644},
    "cranfield": {BM25.name: 0.3597, DENSE: 0.3736, COSINE: 0.3878},
}
"""nDCG@10 on the test split of each collection."""


@dataclass(frozen=True, slots=True)
class Check:
    """A known figure and what was found."""

    collection: str
    method: str
    expected: float
    found: float

    @property
    def passed(self) -> bool:
        """Whether the two are within the tolerance."""
        return abs(self.found - self.expected) <= TOLERANCE


def measure(folder: Path, encoder: E2RankEncoder, cache: Path) -> Report:
    """Compare all methods on a collection's test split, with lists of 100 candidates for every query.

    The known figures were made so: where fewer documents share a word with the query, others fill the list.
    """
    collection = load_collection(folder)
    index = embed_documents(collection, encoder, cache=cache, progress=True)
    first_stage = BM25(collection.documents, fill=True)
    return compare(collection, Reranker(encoder), index=index, first_stage=first_stage)


def checks(name: str, report: Report) -> list[Check]:
    """The known figures of a collection beside those of a report."""
    return [Check(name, method, known, report[method].scores.mean) for method, known in KNOWN[name].items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Reproduce the known figures of BM25 and all-MiniLM-L6-v2."""
    parser = argparse.ArgumentParser(prog="python -m e2rank_integrations.evaluation.figures", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help=f"folder that holds {', '.join(KNOWN)}")
    parser.add_argument("--cache", type=Path, default=Path(".figures"), help="where document vectors are kept")
    options = parser.parse_args(arguments)
    encoder = E2RankEncoder.embedded(device="cpu", dtype="float32")
    console = require("rich.console").Console()
    found: list[Check] = []
    for name in KNOWN:
        report = measure(options.data / name, encoder, options.cache)
        console.print(report.table())
        found += checks(name, report)
    for check in found:
        console.print(_line(check), highlight=False)
    return 0 if all(check.passed for check in found) else 1


def _line(check: Check) -> str:
    verdict = "ok" if check.passed else f"NOT within {TOLERANCE}"
    what = f"{check.collection:<10} {check.method:<16}"
    difference = check.found - check.expected
    return f"{what} expected {check.expected:.4f}, found {check.found:.4f} ({difference:+.4f}): {verdict}"


if __name__ == "__main__":
    sys.exit(main())
