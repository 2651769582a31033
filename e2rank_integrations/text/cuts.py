"""Documents that are longer than their cap."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.text.tokenizer import Line

logger = logging.getLogger(__name__)


@dataclass
class Cuts:
    """Counts the documents of a call that are longer than the cap."""

    cap: int
    documents: int = 0
    cut: int = 0
    longest: int = 0

    def count(self, lines: Sequence[Line]) -> None:
        """Take more documents into account."""
        cut = [len(line) for line in lines if line.lower_bound or len(line) > self.cap]
        self.documents += len(lines)
        self.cut += len(cut)
        self.longest = max(self.longest, *cut, 0)

    def report(self) -> None:
        """Say in one log record how many were cut, if any."""
        if self.cut:
            logger.warning(
                "%d of %d documents were cut to %d tokens for their embedding; the longest has %d",
                self.cut, self.documents, self.cap, self.longest,
            )  # fmt: skip
