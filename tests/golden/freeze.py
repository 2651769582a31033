"""Freeze the golden ids: `python -m tests.golden.freeze` writes `ids.json` beside this file.

The ids come from the reference's formats and Hugging Face's AutoTokenizer, never from this package.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.golden import reference
from tests.golden.inputs import LONG_TEXTS, QUERIES, TASKS, TEXTS
from tests.support.qwen import save_qwen_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerBase

PATH = Path(__file__).with_name("ids.json")
TEMPLATES = ("paper", "readme", "training", "insertrank")
LISTED = 6
CUT_TEXTS = (
    "english", "chinese", "japanese", "korean", "thai", "hindi", "arabic_vowelled", "amharic", "astral", "emoji",
    "emoji_zwj", "emoji_flags", "nfd_latin", "nfd_hangul", "zalgo", "crlf", "inner_newlines", "tabs", "long_word",
    "long_digits", "repeated_punctuation", "mixed_scripts", "letter", "empty",
)  # fmt: skip
DOCUMENT_CAPS = (1, 2, 3, 5, 8, 13)
BUDGETS = (
    reference.Budget(prompt=32768, listed=10, floor=8),  # the profile's cap binds
    reference.Budget(prompt=480, listed=64, floor=8),  # the room binds: short ones give to long ones
    reference.Budget(prompt=300, listed=64, floor=16),  # the floor binds: fewer are listed
)
BUDGETS_WITH_SCORES = (
    reference.Budget(prompt=32768, listed=26, floor=24),
    reference.Budget(prompt=880, listed=64, floor=24),
    reference.Budget(prompt=300, listed=64, floor=32),
)
"""The same for lines that hold a score, which takes up to twenty tokens of each."""


def freeze(tokenizer: PreTrainedTokenizerBase) -> dict[str, list[dict[str, Any]]]:
    """Every golden case with its ids."""
    return {
        "documents": list(_documents(tokenizer)),
        "queries": list(_queries(tokenizer)),
        "prompts": list(_prompts(tokenizer)),
        "cut_documents": list(_cut_documents(tokenizer)),
        "cut_prompts": list(_cut_prompts(tokenizer)),
    }


def _documents(tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, Any]]:
    texts = {**TEXTS, **LONG_TEXTS}
    for name, text in texts.items():
        yield {"text": name, "words": None, "ids": reference.encode(tokenizer, reference.document(text))}
    for name in (*LONG_TEXTS, "crlf", "spaces", "odd_spaces", "chinese"):
        whole = reference.document(reference.first_words(texts[name]))
        yield {"text": name, "words": reference.REFERENCE_WORDS, "ids": reference.encode(tokenizer, whole)}


def _queries(tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, Any]]:
    names = list(TEXTS)
    for task, chosen in (("default", names), ("touche", names[::8]), ("own", names[4::8])):
        for name in chosen:
            whole = reference.query(TEXTS[name], TASKS[task])
            yield {"text": name, "task": task, "ids": reference.encode(tokenizer, whole)}


def _prompts(tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, Any]]:
    """Every text is listed once in each template; neighbours, queries and task strings change from case to case."""
    for template in TEMPLATES:
        for number, names in enumerate(_mixes()):
            task, query = list(TASKS)[number % len(TASKS)], QUERIES[number % len(QUERIES)]
            whole = reference.prompt(template, TASKS[task], [TEXTS[name] for name in names], TEXTS[query])
            ids = reference.encode(tokenizer, whole)
            yield {"template": template, "task": task, "words": None, "texts": names, "query": query, "ids": ids}
        names = ["many_characters", "crlf", "odd_spaces", "empty"]
        texts = [reference.first_words({**TEXTS, **LONG_TEXTS}[name]) for name in names]
        ids = reference.encode(tokenizer, reference.prompt(template, TASKS["default"], texts, TEXTS["question"]))
        yield {
            "template": template, "task": "default", "words": reference.REFERENCE_WORDS,
            "texts": names, "query": "question", "ids": ids,
        }  # fmt: skip


def _mixes() -> list[list[str]]:
    """All texts, a few at a time, those far apart in the list side by side."""
    names = list(TEXTS)
    count = -(-len(names) // LISTED)
    return [names[start::count] for start in range(count)]


def _cut_documents(tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, Any]]:
    for name in CUT_TEXTS:
        for cap in DOCUMENT_CAPS:
            ids = reference.cut(tokenizer, TEXTS[name], reference.EOS, cap)
            yield {"text": name, "cap": cap, "ids": ids}


def _cut_prompts(tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, Any]]:
    for template in TEMPLATES:
        for budget in BUDGETS_WITH_SCORES if template == "insertrank" else BUDGETS:
            ids = reference.cut_prompt(
                tokenizer,
                template,
                task=TASKS["default"],
                texts=[TEXTS[name] for name in CUT_TEXTS],
                query=TEXTS["question"],
                budget=budget,
            )
            yield {
                "template": template, "texts": list(CUT_TEXTS), "query": "question",
                "prompt": budget.prompt, "listed": budget.listed, "floor": budget.floor, "ids": ids,
            }  # fmt: skip


def reference_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Qwen's tokenizer as Hugging Face's library reads it from a folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def main() -> None:
    """Write the file, one case a line."""
    with tempfile.TemporaryDirectory() as folder:
        save_qwen_tokenizer(Path(folder))
        cases = freeze(reference_tokenizer(Path(folder)))
    groups = [f"{json.dumps(name)}: [\n" + ",\n".join(map(_as_line, rows)) + "\n]" for name, rows in cases.items()]
    PATH.write_text("{\n" + ",\n".join(groups) + "\n}\n", encoding="utf-8")
    print(f"{sum(map(len, cases.values()))} cases, {PATH.stat().st_size:,} bytes in {PATH}")


def _as_line(case: dict[str, Any]) -> str:
    return json.dumps(case, separators=(",", ":"))


if __name__ == "__main__":
    main()
