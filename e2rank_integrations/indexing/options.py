"""The options of `e2rank index`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.evaluation.options import add_encoder_arguments, count
from e2rank_integrations.indexing.job import ROWS_PER_PART
from e2rank_integrations.indexing.rows import Fields

if TYPE_CHECKING:
    from argparse import ArgumentParser

LOCAL, RAY = "local", "ray"
_FIELDS = Fields()


def add_arguments(parser: ArgumentParser) -> None:
    """Add every option to a parser."""
    _add_corpus(parser)
    _add_store(parser)
    _add_model(parser)
    _add_run(parser)


def _add_corpus(parser: ArgumentParser) -> None:
    parser.add_argument("corpus", type=Path, help="JSONL file, .parquet file, or folder of .txt and .md files")
    group = parser.add_argument_group("corpus; other fields become metadata")
    for name, what in (("id", "id"), ("text", "text"), ("title", "title, if it has one")):
        default = getattr(_FIELDS, name)
        group.add_argument(
            f"--{name}-field", default=default, metavar="NAME", help=f"of a row's {what} (default: {default})"
        )


def _add_store(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("store")
    group.add_argument("--chroma", required=True, metavar="FOLDER|URL", help="folder, or http(s)://host:port")
    group.add_argument("--collection", required=True, metavar="NAME", help="made if it does not exist")
    group.add_argument("--fetch-k", type=count, metavar="N", help="candidates of later searches: a new index fits them")
    group.add_argument(
        "--chroma-header",
        action="append",
        default=[],
        metavar="NAME=VARIABLE",
        help="header of each request, whose value is in an environment variable",
    )
    group.add_argument("--chroma-ca", type=Path, metavar="FILE", help="certificates that the server's is checked by")


def _add_model(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    add_encoder_arguments(group)
    group.add_argument("--base-url", metavar="URL", help="server that embeds instead (its key: E2RANK_API_KEY)")
    group.add_argument("--served-model", metavar="NAME", help="the model's name there (default: the only one)")
    group.add_argument("--ca", type=Path, metavar="FILE", help="certificates that the embedding server's is checked by")
    group.add_argument(
        "--no-probe", action="store_true", help="do not check the server before the first row of a new collection"
    )


def _add_run(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("run; the same command again goes on where it stopped")
    group.add_argument("--engine", choices=(LOCAL, RAY), default=LOCAL, help=f"who embeds (default: {LOCAL})")
    group.add_argument("--workers", type=count, metavar="N", help="processes of Ray (default: 1)")
    group.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of a cluster (default: RAY_ADDRESS, or this machine); give --manifest beside it",
    )
    group.add_argument(
        "--rows-per-part", type=count, default=ROWS_PER_PART, metavar="N", help=f"default: {ROWS_PER_PART}"
    )
    group.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="what is done; on a local disk (default: beside the corpus)",
    )
    group.add_argument("--errors", type=Path, metavar="FILE", help="unused rows, JSONL (default: beside the manifest)")
    group.add_argument("--restart", action="store_true", help="forget what is done, and index every row again")
