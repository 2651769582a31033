"""What the documents say that their examples print.

Below a Python block, a fence with `title="prints"` holds the output of the block above it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.packaging.examples import Example, blocks

if TYPE_CHECKING:
    from pathlib import Path

FENCES = re.compile(
    r'^ *```(?:(?P<python>python)[^\n]*\n.*?|[^\n]*title="prints"[^\n]*\n(?P<output>.*?))^ *```$',
    re.MULTILINE | re.DOTALL,
)


def outputs(path: Path) -> dict[str, str]:
    """By the name of each example whose output the document shows: that output."""
    text = path.read_text(encoding="utf-8")
    code = iter(blocks(text, path.name))
    programs: list[tuple[Example, str | None]] = []  # None where nothing is shown
    for fence in FENCES.finditer(text):
        block = next(code) if fence["python"] else None
        if block is None or block.continues:
            before, printed = programs.pop()
            more = () if block is None else (block,)
            shown = printed if block else (printed or "") + fence["output"]
            programs.append((Example(path, (*before.blocks, *more)), shown))
        else:
            programs.append((Example(path, (block,)), None))
    return {program.name: printed for program, printed in programs if printed is not None}
