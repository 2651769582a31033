"""Both ways to make ids, side by side on Qwen's real ranks: `python -m tests.benchmarks.tokenising`.

Rounds alternate; the figures are medians of the rounds, with the lowest and the highest ratio. The ids of every text
are checked to be equal first.
"""

from __future__ import annotations

from random import Random
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from e2rank_integrations.text.tokenizer import LiteralTokenizer
from tests.golden.inputs import TEXTS as SCRIPTS
from tests.support.passages import TEXTS as PASSAGES
from tests.support.qwen import qwen_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS = 15
COUNT = 200

CHINESE = "中国的首都是北京，万有引力是两个物体之间的吸引力。月球绕地球一周约需二十七天。"
MIXED = ("english", "german", "russian", "greek", "hindi", "chinese", "japanese", "emoji", "python", "url")


def kinds(random: Random) -> dict[str, list[str]]:
    """Texts of about 150 tokens: English, Chinese, and several scripts with code."""
    return {
        "English": [" ".join(random.choices(PASSAGES, k=8)) for _ in range(COUNT)],
        "Chinese": ["".join(random.choices(CHINESE, k=200)) for _ in range(COUNT)],
        "mixed": [" ".join(SCRIPTS[name] for name in random.choices(MIXED, k=10)) for _ in range(COUNT)],
    }


def seconds(encode: Callable[[str], object], texts: Sequence[str]) -> float:
    """Time for all texts."""
    start = perf_counter()
    for text in texts:
        encode(text)
    return perf_counter() - start


def main() -> None:
    """Print a row per kind of text, and what loading costs."""
    source = qwen_tokenizer().to_str()
    start = perf_counter()
    tokenizer = LiteralTokenizer(source)
    print(f"loaded, with the proof, in {perf_counter() - start:.2f} s")

    def slowly(text: str) -> list[int]:
        return tokenizer._tokenizer.encode(text, add_special_tokens=False).ids

    for kind, texts in kinds(Random(0)).items():
        assert all(tokenizer.literal(text).ids == slowly(text) for text in texts)
        rounds = [(seconds(slowly, texts), seconds(tokenizer.literal, texts)) for _ in range(ROUNDS)]
        tokens = sum(len(slowly(text)) for text in texts) / COUNT
        before, after = (median(times) / COUNT * 1e6 for times in zip(*rounds, strict=True))
        ratios = sorted(slow / fast for slow, fast in rounds)
        print(
            f"{kind}: {tokens:.0f} tokens a text; tokenizers {before:.0f} µs, tiktoken {after:.0f} µs; "
            f"{median(ratios):.1f} times as fast ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        )


if __name__ == "__main__":
    main()
