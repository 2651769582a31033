"""Independent answers to compare with: what characters ids stand for, and which controls they hold."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.qwen import CONTROLS, qwen_ranks
from tests.text.strategies import BERT_CONTROLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

QWEN_CONTROLS = {id_: name for name, id_ in CONTROLS.items()}


def nfc(text: str) -> str:
    """The text as Qwen's tokenizer reads it."""
    return unicodedata.normalize("NFC", text)


def qwen_bytes(ids: Sequence[int]) -> bytes:
    """What literal ids of Qwen stand for; KeyError for a control token."""
    return qwen_ranks().decode_bytes(list(ids))


def rendered(ids: Iterable[int]) -> str:
    """Qwen's ids as text, control tokens by name; UnicodeDecodeError where a character is split."""
    pieces = [QWEN_CONTROLS[id_].encode() if id_ in QWEN_CONTROLS else qwen_bytes([id_]) for id_ in ids]
    return b"".join(pieces).decode()


def qwen_controls(ids: Iterable[int]) -> Counter[int]:
    """How often each of Qwen's 26 control tokens stands in the ids."""
    return Counter(id_ for id_ in ids if id_ in QWEN_CONTROLS)


def bert_controls(ids: Iterable[int]) -> Counter[int]:
    """How often each of BERT's control tokens stands in the ids; [UNK] is text that has no word of its own."""
    return Counter(id_ for id_ in ids if id_ in BERT_CONTROLS.values())
