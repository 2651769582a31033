from __future__ import annotations

import subprocess
import sys

import pytest

from e2rank_integrations import __version__, cli


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    """And each command has a help of its own."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for name, (_, about) in cli.COMMANDS.items():
        assert name in printed
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        assert about[1:] in " ".join(capsys.readouterr().out.split())


def test_without_a_command_nothing_is_run(capsys: pytest.CaptureFixture[str]):
    """argparse's own status and message."""
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]):
    """For bug reports."""
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip().endswith(__version__)


def test_asking_for_help_loads_no_torch():
    """The parser is made before anything heavy is needed."""
    code = (
        "import sys; from e2rank_integrations import cli; cli._parser();"
        "print([name for name in ('torch', 'transformers', 'matplotlib', 'bm25s', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_option_is_said_with_the_commands_own_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """The outer usage would name none of the options that the user was looking for."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["evaluate", "folder", "--modle", "embedded"])
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert said.startswith("usage: e2rank evaluate")
    assert "unrecognized arguments: --modle embedded" in said
