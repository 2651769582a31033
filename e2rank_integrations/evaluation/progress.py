"""Progress bars on stderr, where that is a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from e2rank_integrations.evaluation.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")


def tracked(items: Sequence[T], label: str, *, show: bool) -> Iterable[T]:
    """The items, behind a bar that counts them if `show` is set and stderr is a terminal."""
    if not show or not sys.stderr.isatty():
        return items
    console = require("rich.console").Console(stderr=True)
    bar: Iterable[T] = require("rich.progress").track(items, description=label, console=console, transient=True)
    return bar
