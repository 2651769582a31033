"""The Python examples of the documents, read from Markdown.

A fence opens with ```` ```python ````. After that word may stand `continue`, which lets a block go on where the one
before it ended, or `skip=reason`, which is reported as a skipped test. Anything else is an error, and so is a fence
for Python under another name, so that no example escapes its test by a slip.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
REAL_MODEL = '"Alibaba-NLP/E2Rank-0.6B"'

_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_OTHER_NAMES = {"py", "python3", "py3", "pycon", "ipython"}


@dataclass(frozen=True)
class Block:
    """One fenced block: its code, the line of the file at which the code begins, and what the fence says."""

    code: str
    line: int
    continues: bool = False
    skip: str | None = None


@dataclass(frozen=True)
class Example:
    """A block, with those that go on from it, as one program."""

    path: Path
    blocks: tuple[Block, ...]

    @property
    def name(self) -> str:
        """Where it stands, as `README.md:12`."""
        return f"{self.path.name}:{self.blocks[0].line}"

    @property
    def skip(self) -> str | None:
        """Why it is not to be run, if its blocks say so."""
        return next((block.skip for block in self.blocks if block.skip), None)

    @property
    def source(self) -> str:
        """The program, each line at its line of the document, so that a traceback points there."""
        lines: list[str] = []
        for block in self.blocks:
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.code.splitlines()
        return "\n".join(lines) + "\n"

    def offline(self, model: str = '"embedded"') -> str:
        """The program with a model that is at hand instead of the real weights, on the CPU."""
        return self.source.replace(REAL_MODEL, model).replace('device="cuda"', 'device="cpu"')


def documents(root: Path = ROOT) -> list[Path]:
    """The files whose examples are run."""
    return [path for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))) if path.is_file()]


def examples(path: Path) -> list[Example]:
    """The programs of one document."""
    grouped: list[list[Block]] = []
    for block in blocks(path.read_text(encoding="utf-8"), path.name):
        if not block.continues:
            grouped.append([block])
        elif grouped:
            grouped[-1].append(block)
        else:
            raise ValueError(f"{path.name}:{block.line}: the first block has nothing to continue")
    return [Example(path, tuple(group)) for group in grouped]


def blocks(markdown: str, name: str = "text") -> list[Block]:
    """The Python blocks of a text.

    Raises:
        ValueError: a fence that says what this module does not know, or that is never closed.
    """
    found: list[Block] = []
    lines = enumerate(markdown.splitlines(), start=1)
    for number, line in lines:
        if opening := _FENCE.match(line):
            code = _until_closed(lines, opening, f"{name}:{number}")
            words = opening["info"].split(maxsplit=1)
            if words and words[0].lower() in _OTHER_NAMES:
                raise ValueError(f"{name}:{number}: write ```python instead of ```{words[0]}, or it is not run")
            if words and words[0].lower() == "python":
                found.append(_block(code, number + 1, " ".join(words[1:]), name))
    return found


def _until_closed(lines: enumerate[str], opening: re.Match[str], where: str) -> str:
    inside: list[str] = []
    for _, line in lines:
        if re.fullmatch(rf" *{re.escape(opening['marks'])}{re.escape(opening['marks'][0])}*\s*", line):
            return textwrap.dedent("\n".join(inside))
        inside.append(line)
    raise ValueError(f"{where}: the fence is never closed")


def _block(code: str, line: int, option: str, name: str) -> Block:
    if not option:
        return Block(code, line)
    if option == "continue":
        return Block(code, line, continues=True)
    if option.startswith("skip=") and option.removeprefix("skip=").strip():
        return Block(code, line, skip=option.removeprefix("skip=").strip())
    raise ValueError(f"{name}:{line - 1}: expected nothing, continue or skip=reason after python, found {option!r}")
