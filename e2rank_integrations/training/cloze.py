"""Inverse cloze: queries for documents that have none (Lee et al. 2019, arXiv 1906.00300)."""

from __future__ import annotations

import logging
import re
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from e2rank_integrations.checks import expect_positive
from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.text.checks import expect_text

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

_LEAST_WORDS, _MOST_WORDS = 8, 64

# A full stop (or an Arabic, Urdu or Hindi mark) ends a sentence before white space alone: not in 9.99. The marks of
# Chinese and Japanese need none.
_SENTENCE_ENDS = re.compile(r"(?<=[.!?\u061f\u06d4\u0964])\s+|(?<=[\u3002\uff01\uff1f])\s*|\s*\n\s*")

# Kana and Han are written without spaces: each character counts as a word. White space goes with the word before it.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]\s*|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+\s*")


def inverse_cloze(
    documents: Mapping[str, str],
    *,
    per_document: int = 1,
    drop: float = 1 / 3,
    seed: int = 0,
    name: str = "inverse cloze",
) -> Collection:
    """Make a query of a document's own sentence, some of its words dropped; the document is what it should find.

    The document keeps the sentence. Lee et al. take it out nine times in ten, so that a model learns more than to find
    the same words again; but here documents are those of an index whose vectors exist, and one without its sentence
    would be another document. Dropped words serve the same end.

    A sentence serves if it has 8 to 64 words and no other document has it, nor is it all that its document says.
    Sentences end at `.!?` before white space, at the marks of Chinese and Japanese, and at line ends. A character of
    these two counts as a word; in another script that is written without spaces, few sentences have 8 words.

    Args:
        documents: Text by id.
        per_document: Queries of a document, at most.
        drop: Share of the words that are dropped, in [0, 1).
        seed: For the draw of sentences and words, of each document on its own.
        name: The collection's.

    Returns:
        The same documents; queries `ict-<document's id>-<n>`, each with its document as the only judged one, grade 1.
        Documents without a sentence that serves stay in it, unjudged; they are counted in one log record.

    Raises:
        InputError: an option is out of its range, a text is not text, or no sentence serves.
    """
    expect_positive("per_document", per_document)
    if isinstance(drop, bool) or not isinstance(drop, int | float) or not 0 <= drop < 1:
        raise InputError(f"drop: expected a number in [0, 1), found {drop!r}")
    sentences = {key: _sentences(expect_text(text, f"document {key!r}")) for key, text in documents.items()}
    seen_in = Counter(sentence for found in sentences.values() for sentence in dict.fromkeys(found))
    queries, qrels = {}, {}
    for key, found in sentences.items():
        serving = [sentence for sentence in dict.fromkeys(found) if len(found) > 1 and _serves(sentence, seen_in)]
        random = Random(f"{seed} {key}")  # noqa: S311
        for number, sentence in enumerate(random.sample(serving, min(per_document, len(serving)))):
            queries[f"ict-{key}-{number}"] = _with_words_dropped(sentence, drop, random)
            qrels[f"ict-{key}-{number}"] = {key: 1}
    _report(name, len(documents), len({key for judged in qrels.values() for key in judged}))
    return Collection(name, documents, queries, qrels)


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE_ENDS.split(text) if part.strip()]


def _serves(sentence: str, seen_in: Mapping[str, int]) -> bool:
    return seen_in[sentence] == 1 and _LEAST_WORDS <= len(_WORD.findall(sentence)) <= _MOST_WORDS


def _with_words_dropped(sentence: str, drop: float, random: Random) -> str:
    words = _WORD.findall(sentence)
    kept = random.sample(range(len(words)), len(words) - min(round(len(words) * drop), len(words) - 1))
    return "".join(words[place] for place in sorted(kept)).strip()


def _report(name: str, documents: int, used: int) -> None:
    if not used:
        raise InputError(
            f"{name}: none of {documents} documents has a sentence of {_LEAST_WORDS} to {_MOST_WORDS} words beside "
            "others; give longer documents, or queries of your own"
        )
    if used < documents:
        logger.warning(
            "%s: %d of %d documents have no sentence of %d to %d words that is theirs alone, and give no query",
            name, documents - used, documents, _LEAST_WORDS, _MOST_WORDS,
        )  # fmt: skip
