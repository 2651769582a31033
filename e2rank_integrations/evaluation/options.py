"""The options of `e2rank evaluate`."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.encoder import DEFAULT_MODEL
from e2rank_integrations.evaluation import settings
from e2rank_integrations.evaluation.first_stage import DEPTH
from e2rank_integrations.evaluation.measures import MEASURES
from e2rank_integrations.profiles import PROFILES, TEMPLATES

if TYPE_CHECKING:
    from argparse import ArgumentParser, _ArgumentGroup

WORDS, OWN = "bm25", "dense"
"""First stages by name; any other name is a TREC run file."""

NONE = "none"


def add_arguments(parser: ArgumentParser) -> None:
    """Add every option to a parser."""
    _add_data(parser)
    _add_model(parser)
    _add_prompt(parser)
    settings.add_arguments(parser)
    _add_outputs(parser)


def _add_data(parser: ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="folder in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/")
    group = parser.add_argument_group("data and first stage")
    group.add_argument("--split", default="test", help="which judgements: qrels/<split>.tsv (default: test)")
    group.add_argument(
        "--first-stage", default=WORDS, metavar="STAGE", help=f"{WORDS}, {OWN} (the model's own), or a TREC run file"
    )
    group.add_argument("--depth", type=count, default=DEPTH, metavar="N", help=f"candidates (default: {DEPTH})")
    group.add_argument(
        "--fill", action="store_true", help="fill BM25's lists with documents that share no word with the query"
    )
    group.add_argument(
        "--pool", action="store_true", help="read and embed only the run's documents; search over nothing else"
    )
    group.add_argument("--exclude", type=Path, metavar="FILE", help="JSON: query id to ids of documents to leave out")
    group.add_argument(
        "--measures", nargs="+", default=list(MEASURES), metavar="M", help="ir-measures' names; compared by the first"
    )


def _add_model(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    add_encoder_arguments(group)
    group.add_argument(
        "--listwise-adapter", metavar="FOLDER", help=f"LoRA adapter for listwise prompts alone, or {NONE}"
    )
    group.add_argument("--cache", type=Path, metavar="DIR", help="keep the documents' vectors here")


def add_encoder_arguments(group: _ArgumentGroup) -> None:
    """Which model embeds, and on what."""
    group.add_argument("--model", default=DEFAULT_MODEL, help=f"hub name, folder, embedded (default: {DEFAULT_MODEL})")
    group.add_argument("--revision", help="branch, tag or commit on the hub")
    group.add_argument("--adapter", metavar="FOLDER", help="LoRA adapter to merge into the weights")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    group.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))


def _add_prompt(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("inputs of the model")
    group.add_argument("--profile", choices=PROFILES, help="formats and caps (default: the model's)")
    group.add_argument("--task", metavar="NAME", help="the reference's task strings of a data set, such as scifact")
    group.add_argument("--template", metavar="NAME", help=f"wording of the prompt: {', '.join(TEMPLATES)}")
    group.add_argument("--num-input-docs", type=count, metavar="K", help="documents listed (default: the profile's)")
    group.add_argument("--query-weight", type=float, metavar="W", help="share of the plain query, 0 to 1")
    group.add_argument("--document-tokens", type=count, metavar="N", help="cap of a document's embedding")
    group.add_argument("--listed-tokens", type=count, metavar="N", help="cap of a document in the prompt")
    group.add_argument("--prompt-tokens", type=count, metavar="N", help="cap of the prompt")
    group.add_argument(
        "--reproduce", action="store_true", help="rewrite documents as the authors' evaluation does (1,024 words)"
    )


def _add_outputs(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("outputs")
    group.add_argument("--json", type=Path, metavar="FILE", help="figures and settings")
    group.add_argument("--per-query", action="store_true", help="put each query's measures into the JSON, too")
    group.add_argument("--runs", type=Path, metavar="DIR", help="a TREC run file for each method")
    group.add_argument("--sweep-k", type=counts, metavar="K,K,…", help="also measure these numbers of listed documents")
    group.add_argument("--plot", type=Path, metavar="FILE", help="SVG of that sweep, with the controls")
    group.add_argument("--scores", type=Path, metavar="FILE", help="SVG of relevant and other candidates' cosines")


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1 between commas, each once, from the least."""
    return tuple(sorted({count(part.strip()) for part in text.split(",")}))
