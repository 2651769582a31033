"""The judged passages that come with the package: a subset of SciFact, see `scifact_subset/README.md`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.evaluation.collection import load_collection

if TYPE_CHECKING:
    from e2rank_integrations.evaluation.collection import Collection

DEMO_FOLDER = Path(__file__).parent / "scifact_subset"


def demo_collection() -> Collection:
    """100 claims and 500 abstracts. Figures on them are not SciFact's: with fewer abstracts the task is easier."""
    return replace(load_collection(DEMO_FOLDER), name="SciFact subset")
