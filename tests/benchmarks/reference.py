"""The reference's usage: prompt and documents apart, each padded on the left, last token, cosine."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from transformers import AutoTokenizer

from e2rank_integrations.profiles import TaskInstructions
from tests.benchmarks.machine import computes_bfloat16
from tests.benchmarks.models import qwen3
from tests.benchmarks.outputs import Outcome
from tests.benchmarks.rows import Row, plain
from tests.golden import reference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

    from e2rank_integrations.values import Matrix
    from tests.benchmarks.options import Options
    from tests.benchmarks.rows import Bench
    from tests.benchmarks.workload import Workload

NAME = "reference float32"
BFLOAT16 = "reference bfloat16"
NO_BFLOAT16 = "this CPU has neither avx512_bf16 nor amx_bf16, and computes in bfloat16 by way of float32"


def rows(options: Options) -> list[Row]:
    """In float32, and in bfloat16 where the CPU computes in it."""
    return [_row(options, NAME, "float32"), _row(options, BFLOAT16, "bfloat16")]


def _row(options: Options, name: str, dtype: str) -> Row:
    return Row(
        name=name,
        call=lambda bench, work, _: rerank(bench, work, dtype),
        model=lambda bench: bench.plain(dtype).model,
        needs=(plain(dtype),),
        weight="middle",
        dtype=dtype,
        layers=options.layers,
        skipped=NO_BFLOAT16 if dtype == "bfloat16" and not computes_bfloat16() else None,
    )


def rerank(bench: Bench, work: Workload, dtype: str) -> Outcome:
    """All documents in one padded batch, and the prompt by itself."""
    model, tokenizer = bench.plain(dtype), tokenizer_of(qwen3(bench.options, bench.root))
    documents = embedded(model, tokenizer, document_texts(work))
    prompt = embedded(model, tokenizer, [prompt_text(work)])
    return Outcome((documents @ prompt[0]), prompt, documents)


@torch.inference_mode()
def embedded(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Matrix:
    """Unit rows of the last token, shape (texts, width)."""
    batch = tokenizer(list(texts), padding=True, return_tensors="pt", add_special_tokens=False)
    hidden = model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    return torch.nn.functional.normalize(hidden[:, -1].float(), dim=-1).numpy()


@cache
def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers runs it, padding on the left."""
    return AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)


def document_texts(work: Workload) -> list[str]:
    """The documents in their frames."""
    return [reference.document(text) for text in work.documents]


def prompt_text(work: Workload) -> str:
    """The listwise prompt."""
    tasks = TaskInstructions()
    named = {"query": tasks.query, "listwise": tasks.listwise, "noun": tasks.noun}
    return reference.prompt("paper", named, work.documents[: work.listed], work.query)


def in_one_batch(bench: Bench, work: Workload) -> str:
    """What the model card's example would push through the model, computed and not run."""
    tokenizer = tokenizer_of(qwen3(bench.options, bench.root))
    lengths = [len(ids) for ids in tokenizer([prompt_text(work), *document_texts(work)])["input_ids"]]
    padded = max(lengths) * len(lengths)
    return (
        f"The model card's example puts prompt and documents into one padded batch. Here that is {padded:,} tokens for "
        f"{sum(lengths):,} real ones, a pad factor of {padded / sum(lengths):.1f}; it was computed and not run."
    )
