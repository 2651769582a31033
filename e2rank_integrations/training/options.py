"""The options of `e2rank train`."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from e2rank_integrations.encoder import DEFAULT_MODEL
from e2rank_integrations.evaluation.options import count
from e2rank_integrations.profiles import TEMPLATES
from e2rank_integrations.training.mining import SLATE_SIZE, ListOrder
from e2rank_integrations.training.settings import Objective, TrainSettings

if TYPE_CHECKING:
    from argparse import ArgumentParser

DEFAULTS = TrainSettings()


def add_arguments(parser: ArgumentParser) -> None:
    """Add every option to a parser."""
    _add_data(parser)
    _add_model(parser)
    _add_objective(parser)
    _add_run(parser)
    _add_card(parser)


def _add_data(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("data, each option any number of times")
    group.add_argument(
        "--slates", type=Path, action="append", default=[], metavar="FILE", help="JSONL of query, documents, ranking"
    )
    group.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="FOLDER[:SPLIT]",
        help="judged data in BEIR's layout, whose slates are mined (default split: train)",
    )
    group.add_argument(
        "--documents",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="corpus.jsonl without queries: inverse cloze makes them",
    )
    group.add_argument("--slate-size", type=count, default=SLATE_SIZE, metavar="N", help="documents of a mined slate")
    group.add_argument("--order", choices=get_args(ListOrder), default="both", help="first stage of mined slates")
    group.add_argument(
        "--teacher",
        metavar="MODEL",
        help="labels of documents of equal grade by its cosine (default: BM25 and cosine fused)",
    )
    group.add_argument("--limit", type=count, metavar="N", help="queries of a mined source, at most")
    group.add_argument("--skip-bad-rows", action="store_true", help="leave bad rows of --slates out, and say so")
    group.add_argument("--cache", type=Path, metavar="DIR", help="keep the documents' vectors here")


def _add_model(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model and prompt")
    group.add_argument("--model", default=DEFAULT_MODEL, help=f"hub name, folder, embedded (default: {DEFAULT_MODEL})")
    group.add_argument("--revision", help="branch, tag or commit on the hub")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    group.add_argument("--template", metavar="NAME", help=f"wording of the prompt: {', '.join(TEMPLATES)}")
    group.add_argument("--prompt-tokens", type=count, metavar="N", help="cap of the prompt")
    group.add_argument("--rerank-docs", type=count, metavar="K", help="documents that the result lists when reranking")
    group.add_argument("--query-weight", type=float, metavar="W", help="share of the plain query in the result, 0 to 1")


def _add_objective(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("objective; the defaults are the paper's for stage II")
    group.add_argument("--objective", choices=get_args(Objective), default=DEFAULTS.objective)
    group.add_argument("--infonce-weight", type=float, default=DEFAULTS.infonce_weight, metavar="X")
    group.add_argument("--ranknet-weight", type=float, default=DEFAULTS.ranknet_weight, metavar="X")
    group.add_argument("--query-temperature", type=float, default=DEFAULTS.query_temperature, metavar="X")
    group.add_argument("--listwise-temperature", type=float, default=DEFAULTS.listwise_temperature, metavar="X")
    group.add_argument(
        "--blend", type=float, default=DEFAULTS.blend, metavar="W", help="share of the plain query while training"
    )
    group.add_argument(
        "--num-input-docs", type=bounds, metavar="N-M", help="documents of a prompt, drawn (default: the whole slate)"
    )
    group.add_argument("--shuffle", type=float, default=DEFAULTS.shuffle, metavar="X", help="share of mixed prompts")


def _add_run(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the result, loaded by path")
    group.add_argument("--resume", action="store_true", help="go on where a killed training stopped")
    for name in ("epochs", "batch_size", "gradient_accumulation", "save_steps"):
        group.add_argument(f"--{name.replace('_', '-')}", type=count, default=getattr(DEFAULTS, name), metavar="N")
    group.add_argument("--learning-rate", type=float, default=DEFAULTS.learning_rate, metavar="X")
    group.add_argument("--warmup", type=float, default=DEFAULTS.warmup, metavar="X", help="share of the steps")
    group.add_argument("--lora-rank", type=count, metavar="R", help="train LoRA factors (default: all weights)")
    group.add_argument("--lora-layers", type=count, metavar="N", help="in the last N layers (default: all)")
    group.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    group.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    group.add_argument("--seed", type=int, default=DEFAULTS.seed)


def _add_card(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("model card")
    group.add_argument("--licence", default="other", help="of the result, as an SPDX identifier")
    group.add_argument("--data-licence", action="append", default=[], metavar="TEXT", help="origin and terms of texts")
    group.add_argument(
        "--evaluate",
        action="append",
        default=[],
        metavar="FOLDER[:SPLIT]",
        help="judged data to measure before and after (default split: test)",
    )


def bounds(text: str) -> tuple[int, int]:
    """`3`, or `2-4`: the least and the most."""
    parts = [count(part) for part in text.split("-")]
    if len(parts) > 2:  # noqa: PLR2004
        raise ArgumentTypeError(f"expected a number or two with a dash between, found {text!r}")
    return parts[0], parts[-1]
