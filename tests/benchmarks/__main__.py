"""Run the benchmark, or draw its page again: `python -m tests.benchmarks --help`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

# Nothing is asked of the hub; the tokenizers' own threads would compete with torch's.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from transformers.utils import logging

from tests.benchmarks.options import parsed
from tests.benchmarks.outputs import OutputsDifferError
from tests.benchmarks.page import draw
from tests.benchmarks.run import run
from tests.benchmarks.tables import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print the tables and draw the page; with `--draw` only the last."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options, draw_only = parsed(given)
    if not draw_only:
        logging.disable_progress_bar()
        command = " ".join(["python -m tests.benchmarks", *given])
        try:
            print(as_text(run(options, command)))
        except OutputsDifferError as error:
            raise SystemExit(f"FAILED: {error}") from None
    for path in draw(options.out):
        print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
