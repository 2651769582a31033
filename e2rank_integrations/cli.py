"""The command `e2rank`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from e2rank_integrations import __version__
from e2rank_integrations.errors import E2RankError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMANDS: Mapping[str, tuple[str, str]] = {
    "evaluate": ("e2rank_integrations.evaluation.command", "measure reranking on judged data, with controls beside it"),
    "index": ("e2rank_integrations.indexing.command", "embed a corpus into a vector store, resumable after a kill"),
    "probe": ("e2rank_integrations.probe", "check that an embedding server embeds as the model must"),
    "train": ("e2rank_integrations.training.command", "train the listwise ability into an embedding model"),
}
"""By the command's name, its module (`add_arguments`, `run`) and what it does."""

FAILED = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: the command's own, 2 after an error of this package, or 130 after Ctrl-C; of these two stderr
        says how to go on.
    """
    options, unknown = _parser().parse_known_args(arguments)
    if unknown:  # said by the command that was asked, beside its own usage
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status: int = options.run(options)
    except E2RankError as error:
        _say(f"error: {error}", error)
        return FAILED
    except KeyboardInterrupt as error:
        _say("interrupted", error)
        return INTERRUPTED
    return status


def _say(what: str, error: BaseException) -> None:
    """Print what ended a command, and how to go on, on stderr."""
    sys.stderr.write("\n".join([what, *getattr(error, "__notes__", ())]) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="e2rank", description="Measure, train and serve listwise embedding rerankers."
    )
    parser.add_argument("--version", action="version", version=f"e2rank-integrations {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, about) in COMMANDS.items():
        room = import_module(module)
        command = commands.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False
        )
        room.add_arguments(command)
        command.set_defaults(run=room.run, parser=command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
