"""What a page shows below a block of code is what that block prints.

Below a Python block, a fence with `title="prints"` holds the output of the block above it.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.packaging.examples import ROOT, Example, blocks
from tests.test_readme import run

if TYPE_CHECKING:
    from pathlib import Path

DOCS = ROOT / "docs"
FENCES = re.compile(
    r'^ *```(?:(?P<python>python)[^\n]*\n.*?|[^\n]*title="prints"[^\n]*\n(?P<output>.*?))^ *```$', re.MULTILINE | re.DOTALL
)


def shown(path: Path) -> list[tuple[Example, str]]:
    """Each program whose output the page shows, with that output."""
    text = path.read_text(encoding="utf-8")
    code = iter(blocks(text, path.name))
    programs: list[tuple[Example, str]] = []
    for fence in FENCES.finditer(text):
        block = next(code) if fence["python"] else None
        if block is None or block.continues:
            before, printed = programs.pop()
            more = () if block is None else (block,)
            programs.append((Example(path, (*before.blocks, *more)), printed + (fence["output"] or "")))
        else:
            programs.append((Example(path, (block,)), ""))
    return [(program, printed) for program, printed in programs if printed]


SHOWN = [pair for path in sorted(DOCS.glob("*.md")) for pair in shown(path)]


@pytest.fixture
def _fresh_chroma() -> None:
    """Collections in memory are the process's own: without this, one example would find another's."""
    if "chromadb" in sys.modules:
        from chromadb.api.client import SharedSystemClient

        SharedSystemClient.clear_system_cache()


@pytest.mark.usefixtures("_fresh_chroma")
@pytest.mark.parametrize(("program", "printed"), SHOWN, ids=[program.name for program, _ in SHOWN])
def test_a_block_prints_what_the_page_shows(
    program: Example, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages and values on a page are real ones, and stay so when the code changes."""
    monkeypatch.chdir(tmp_path)
    run(program)
    assert capsys.readouterr().out == printed


def test_pages_that_show_outputs_are_found() -> None:
    """A slip in a fence would leave its page untested."""
    assert {"architecture.md", "errors.md", "hardware.md"} <= {program.path.name for program, _ in SHOWN}
