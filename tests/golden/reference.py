"""The reference's inputs: each rendered as one whole string and encoded by Hugging Face's AutoTokenizer.

Nothing of the package is imported here. Formats: arXiv 2510.22733, section 3 and appendix C; the model card's
example; the reference's stage II data loader.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.golden.inputs import SCORES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedTokenizerBase

EOS = "<|endoftext|>"
START = "<|im_start|>user\n"
CLOSE = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
REFERENCE_WORDS = 1024

OPENINGS = {"paper": ("", ""), "readme": ("", "\n"), "training": ("", ""), "insertrank": ("", "")}
"""What stands before the position mark: of the first line, and of each later one."""
ENDINGS = {"paper": "\n", "readme": EOS, "training": "\n", "insertrank": "\n"}
TAILS = {
    "paper": "Search Query: {query}",
    "readme": "Search Query:{query}",
    "training": "Query: {query}" + EOS,
    "insertrank": "Search Query: {query}",
}
COLLAPSED = {"paper", "insertrank"}


def first_words(text: str) -> str:
    """The rewriting of the reference's evaluation."""
    return " ".join(text.split()[:REFERENCE_WORDS])


def document(text: str) -> str:
    """A document's embedding input."""
    return text + EOS


def query(text: str, task: Mapping[str, str]) -> str:
    """A plain query's input."""
    return f"Instruct: {task['query']}\nQuery:{text}{EOS}"


def head(task: Mapping[str, str]) -> str:
    """The prompt up to the first document."""
    return f"{START}{task['listwise']}:\n{task['noun']}:\n"


def line(template: str, position: int, text: str) -> str:
    """One listed document, without its ending."""
    text = " ".join(text.split()) if template in COLLAPSED else text
    score = f"(BM25 score: {SCORES[(position - 1) % len(SCORES)][1]}) " if template == "insertrank" else ""
    return f"{OPENINGS[template][position > 1]}[{position}] {score}{text}"


def scores(count: int) -> list[float]:
    """The scores of the first candidates, which `insertrank` shows."""
    return [SCORES[place % len(SCORES)][0] for place in range(count)]


def tail(template: str, query: str) -> str:
    """The prompt from the query on; `replace`, since a query may hold braces."""
    return TAILS[template].replace("{query}", query) + CLOSE


def prompt(template: str, task: Mapping[str, str], texts: Sequence[str], query: str) -> str:
    """The whole listwise prompt."""
    lines = [line(template, position, text) + ENDINGS[template] for position, text in enumerate(texts, start=1)]
    return head(task) + "".join(lines) + tail(template, query)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a whole string, control tokens parsed wherever they stand."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def cut(tokenizer: PreTrainedTokenizerBase, text: str, ending: str, cap: int) -> list[int]:
    """The ids of `text + ending`, or as many of its leading ids as end with a whole character, and the ending's."""
    whole = encode(tokenizer, text + ending)
    if len(whole) <= cap:
        return whole
    closing = encode(tokenizer, ending)
    kept = max(0, cap - len(closing))
    while not _ends_with_a_character(tokenizer, whole[:kept], text):
        kept -= 1
    return [*whole[:kept], *closing]


@dataclass(frozen=True)
class Budget:
    """Limits in tokens."""

    prompt: int
    listed: int
    floor: int
    query_step: int = 128


def cut_prompt(
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    *,
    task: Mapping[str, str],
    texts: Sequence[str],
    query: str,
    budget: Budget,
) -> list[int]:
    """The listwise prompt within a budget, found by trying every number of documents and every cap."""
    opening, closing = encode(tokenizer, head(task)), encode(tokenizer, tail(template, query))
    room = budget.prompt - len(opening) - -(-len(closing) // budget.query_step) * budget.query_step
    lines = [line(template, position, text) for position, text in enumerate(texts, start=1)]
    lengths = [len(encode(tokenizer, text + ENDINGS[template])) for text in lines]
    used = max(n for n in range(len(lines) + 1) if sum(min(size, budget.floor) for size in lengths[:n]) <= room)
    caps = range(budget.floor, budget.listed + 1)
    cap = max(cap for cap in caps if sum(min(size, cap) for size in lengths[:used]) <= room)
    listed = [cut(tokenizer, text, ENDINGS[template], cap) for text in lines[:used]]
    return [*opening, *(id_ for ids in listed for id_ in ids), *closing]


def _ends_with_a_character(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> bool:
    decoded = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return unicodedata.normalize("NFC", text).startswith(decoded)
