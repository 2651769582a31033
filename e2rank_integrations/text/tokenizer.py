"""Literal token ids: what a user wrote can never become a control token.

A text is split only at control tokens that *we* placed. Everything between two of them, our own words included,
is one literal string, encoded by the checkpoint's tokenizer with its added tokens removed. For benign text the ids
equal those of the whole string encoded at once; hostile text stays text.

Ids are made by `tiktoken` where it is proved to give the same ones (see `ranks`), else by `tokenizers`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from e2rank_integrations.errors import CheckpointError, ProfileError
from e2rank_integrations.text.literal import Literal, from_offsets
from e2rank_integrations.text.ranks import rank_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_CHARACTERS = 1_000_000
"""Of a longer text only this much is tokenised: far beyond every cap, and counts become lower bounds."""

_CONTROL_LIKE = re.compile(r"<\|[^|<>\s]+\|>|</?think>|\[(?:CLS|MASK|PAD|SEP|UNK)\]")

Part = str | int
"""A piece of an input: text to be encoded literally, or the id of a control token."""


@dataclass(frozen=True, slots=True)
class Line:
    """A text with its frame, as ids that can be cut from the text's end.

    Attributes:
        opening: Ids before the text's literal.
        encoding: The literal that holds the text, closed where the text was read to its end.
        ending: Ids that close the literal again after a cut.
        closing: Ids after the literal.
        lower_bound: Whether the text was longer than `MAX_CHARACTERS`, and so not read to its end.
    """

    opening: tuple[int, ...]
    encoding: Literal
    ending: tuple[int, ...]
    closing: tuple[int, ...]
    lower_bound: bool

    def __len__(self) -> int:
        ending = len(self.ending) if self.lower_bound else 0
        return len(self.opening) + len(self.encoding.ids) + ending + len(self.closing)

    def ids(self, limit: int) -> tuple[int, ...]:
        """At most `limit` ids: whole, or cut at the end of a character and closed again."""
        if len(self) <= limit and not self.lower_bound:
            return (*self.opening, *self.encoding.ids, *self.closing)
        kept = limit - len(self.opening) - len(self.ending) - len(self.closing)
        end = self.encoding.character_end(max(0, min(kept, len(self.encoding.ids))))
        return (*self.opening, *self.encoding.ids[:end], *self.ending, *self.closing)


class LiteralTokenizer:
    """The checkpoint's tokenizer without its control tokens, its truncation, and its padding.

    It holds no mutable state, so threads may share it.
    """

    def __init__(self, tokenizer_json: str) -> None:
        config = json.loads(tokenizer_json)
        self._controls: dict[str, int] = {token["content"]: token["id"] for token in config["added_tokens"]}
        names = sorted(self._controls, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(f"({re.escape(name)})" for name in names) or "(?!)")
        self._tokenizer = _without_added_tokens(tokenizer_json)
        self._ranks = rank_encoder(config, self._tokenizer)
        unknown = config["model"].get("unk_token")
        self._forbidden = frozenset(id_ for name, id_ in self._controls.items() if name != unknown)

    def split(self, trusted: str) -> tuple[Part, ...]:
        """Our own words as parts: control tokens that they name become ids. Never call it with a user's text.

        Raises:
            ProfileError: they name a control token of another model, which would be embedded as its letters.
        """
        pieces = [piece for piece in self._control_pattern.split(trusted) if piece]
        for piece in pieces:
            if piece not in self._controls and (found := _CONTROL_LIKE.search(piece)):
                raise ProfileError(f"a format names {found[0]}, a control token that the checkpoint's tokenizer lacks")
        return tuple(self._controls.get(piece, piece) for piece in pieces)

    def encode(self, parts: Sequence[Part]) -> tuple[int, ...]:
        """Ids of parts, neighbouring texts encoded as one literal."""
        ids: list[int] = []
        for part in merged(parts):
            ids.extend((part,) if isinstance(part, int) else self.literal(part).ids)
        return tuple(ids)

    def line(self, before: Sequence[Part], text: str, after: Sequence[Part]) -> Line:
        """Encode a text between its frame's parts, ready to be cut."""
        lower_bound = len(text) > MAX_CHARACTERS
        *opening, head = merged((*before, ""))
        tail, *closing = merged(("", *after))
        literal = self.literal(f"{head}{text[:MAX_CHARACTERS]}" if lower_bound else f"{head}{text}{tail}")
        return Line(self.encode(opening), literal, self.encode((tail,)), self.encode(closing), lower_bound)

    def literal(self, text: str) -> Literal:
        """Encode a text without any control token; it must have passed `expect_text`."""
        if self._ranks is not None and self._ranks.reads(text):
            return self._ranks.literal(text)  # no control token is among its ids
        literal = from_offsets(self._tokenizer.encode(text, add_special_tokens=False))
        if not self._forbidden.isdisjoint(literal.ids):
            raise CheckpointError(
                "this tokenizer's model yields control tokens from plain text, so its inputs cannot be kept literal"
            )
        return literal

    def splits_at_newline(self) -> bool:
        """Whether a newline before a non-space always ends a token, so that lines may be encoded one by one."""
        return self.encode(("one.\n[2] two",)) == self.encode(("one.\n",)) + self.encode(("[2] two",))


def _without_added_tokens(tokenizer_json: str) -> Tokenizer:
    """The model with what stands before it, and nothing else of the file."""
    try:
        given = Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library raises nothing more precise
        raise ValueError("not a tokenizer") from error
    tokenizer = Tokenizer(given.model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = given.normalizer, given.pre_tokenizer
    return tokenizer


def merged(parts: Sequence[Part]) -> list[Part]:
    """Join neighbouring texts; an empty text stays where nothing joins it."""
    out: list[Part] = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        else:
            out.append(part)
    return out


@lru_cache(maxsize=8)
def load_tokenizer(folder: Path) -> LiteralTokenizer:
    """The tokenizer of a checkpoint's folder, read once per process."""
    try:
        return LiteralTokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'tokenizer.json'} is not a tokenizer; download or save it again") from error
