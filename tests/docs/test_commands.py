"""The `e2rank` commands that the documents show are ones that there are."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from e2rank_integrations import cli
from tests.packaging.examples import documents

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = re.compile(rf"(?:^ *|`)e2rank (?P<rest>(?:{'|'.join(cli.COMMANDS)})\b[^`\n]*)", re.MULTILINE)


def shown(path: Path) -> list[str]:
    """What follows `e2rank`, at the start of a line or in backticks; a backslash at its end joins the next line."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return [match["rest"] for match in SHOWN.finditer(text)]


COMMANDS = [(path.name, rest) for path in documents() for rest in shown(path)]


def test_every_command_is_shown_somewhere() -> None:
    """A pattern that finds nothing would pass everything below."""
    assert {rest.split()[0] for _, rest in COMMANDS} == set(cli.COMMANDS)


@pytest.mark.parametrize(("page", "rest"), COMMANDS)
def test_options_are_those_that_there_are(page: str, rest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a command is shown in part."""
    name, *words = shlex.split(rest, comments=True)
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    known = set(re.findall(r"(?<!\w)--[a-z-]+", capsys.readouterr().out))
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, page
