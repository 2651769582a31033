"""A generative listwise reranker of the same size, as RankGPT does it: windows of 20 from the end to the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tests.benchmarks.models import qwen3
from tests.benchmarks.outputs import Outcome
from tests.benchmarks.reference import tokenizer_of
from tests.benchmarks.rows import Row, plain
from tests.support.models import EOS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.options import Options
    from tests.benchmarks.rows import Bench
    from tests.benchmarks.workload import Workload

NAME = "generative listwise"
WINDOW, STEP = 20, 10
NEW_TOKENS = 100
"""What `[1] > [2] > …` over 20 documents takes."""

_SYSTEM = "You are RankGPT, an intelligent assistant that can rank passages based on their relevancy to the query."
_OPENING = (
    "I will provide you with {number} passages, each indicated by number identifier []. \n"
    "Rank the passages based on their relevance to query: {query}."
)
_READY = "Okay, please provide the passages."
_CLOSING = (
    "Search Query: {query}. \nRank the {number} passages above based on their relevance to the search query. The "
    "passages should be listed in descending order using identifiers. The most relevant passages should be listed "
    "first. The output format should be [] > [], e.g., [1] > [2]. Only response the ranking results, do not say any "
    "word or explain."
)


def rows(options: Options, dtype: str) -> list[Row]:
    """One row."""
    note = (
        "Random weights write no permutation, so the windows keep their order. With few layers the language-model head "
        "weighs more than in the true model."
    )
    return [
        Row(
            name=NAME,
            call=rerank,
            model=lambda bench: bench.plain(bench.dtype).model,
            needs=(plain(dtype),),
            weight="heavy",
            dtype=dtype,
            layers=options.layers,
            note=note,
        )
    ]


def windows(candidates: int, window: int = WINDOW, step: int = STEP) -> list[tuple[int, int]]:
    """Bounds of the windows, in the order in which they are ranked; the last one begins at the first candidate."""
    bounds, end = [], candidates
    while True:
        start = max(0, end - window)
        bounds.append((start, end))
        if start == 0:
            return bounds
        end -= step


@torch.inference_mode()
def rerank(bench: Bench, work: Workload, round_: int) -> Outcome:
    """Read each window and write as many tokens as its permutation takes, greedily."""
    model, tokenizer = bench.plain(bench.dtype), tokenizer_of(qwen3(bench.options, bench.root))
    for start, end in windows(len(work.documents)):
        text = window_prompt(work.query, work.documents[start:end])
        batch = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        found = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            use_cache=True,
            eos_token_id=EOS,
            pad_token_id=EOS,
        )
        assert found.shape[1] == batch["input_ids"].shape[1] + NEW_TOKENS
    return Outcome()


def window_prompt(query: str, documents: Sequence[str]) -> str:
    """RankGPT's conversation in Qwen's chat format, thinking switched off."""
    number = len(documents)
    turns = [("system", _SYSTEM), ("user", _OPENING.format(number=number, query=query)), ("assistant", _READY)]
    for position, text in enumerate(documents, start=1):
        turns += [("user", f"[{position}] {text}"), ("assistant", f"Received passage [{position}].")]
    turns.append(("user", _CLOSING.format(number=number, query=query)))
    told = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    return f"{told}<|im_start|>assistant\n<think>\n\n</think>\n\n"
