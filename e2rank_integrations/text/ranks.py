"""The same ids several times faster: byte-level BPE by `tiktoken`, from the checkpoint's own vocabulary.

Hugging Face's BPE merges the neighbours whose *pair* comes first in a list; tiktoken's merges those whose *joined
bytes* have the lowest id. The two agree on every piece of text where

1. the list is sorted by the id of what a pair joins to,
2. every token of two bytes or more is joined by some pair, and
3. the list alone makes each token of that token's own bytes.

For, by induction over ids: where two neighbours of whatever kind join to a token, all merges of lower ids are done,
and none of them reached over the token's two ends; so its bytes stand as they would alone, and by the third condition
that is as a pair of the list. All three are checked. (The third also makes tiktoken's short cut harmless, which takes
a piece that is a token as it is.)

That both libraries cut a text into the same pieces depends on two regex engines and their tables of Unicode. It is
tried, for one known pattern, on every text of `sample.texts`. What is left of doubt never reaches tiktoken: see
`RankEncoder.reads`.
"""

from __future__ import annotations

import logging
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from e2rank_integrations.text.characters import unknown
from e2rank_integrations.text.literal import Literal, from_bytes
from e2rank_integrations.text.sample import texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tiktoken
    from tokenizers import Tokenizer

MOST_CHARACTERS = 100_000
"""Of a text that tiktoken reads: its regex engine panics at a run of 1,000,000 blanks (0.14; not yet at 320,000)."""

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 and Qwen3 cut a text into pieces. Another pattern could backtrack without bound on another text."""

_KEPT = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_MOVED = sorted(set(range(0x100)) - set(_KEPT))
BYTES = {**{byte: byte for byte in _KEPT}, **{0x100 + place: byte for place, byte in enumerate(_MOVED)}}
"""The byte that each letter of a byte-level vocabulary stands for, by code point (GPT-2's table)."""
_CONTINUATION = range(0x80, 0xC0)
"""Bytes that do not begin a character's UTF-8 sequence."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RankEncoder:
    """Encodes what it may with tiktoken. Holds no mutable state; threads may share it.

    Attributes:
        encoding: The vocabulary, without any control token.
        inner: Ids of the tokens that begin inside a character.
        composes: Whether the tokenizer brings a text to NFC, which tiktoken does not.
    """

    encoding: tiktoken.Encoding
    inner: frozenset[int]
    composes: bool

    def reads(self, text: str) -> bool:
        """Whether ids and cuts of this text are surely those of Hugging Face's tokenizer."""
        if len(text) > MOST_CHARACTERS:
            return False
        if text.isascii():  # told from the string's header
            return True
        return not unknown().search(text) and (not self.composes or unicodedata.is_normalized("NFC", text))

    def literal(self, text: str) -> Literal:
        """Encode a text that it `reads`."""
        return from_bytes(self.encoding.encode_ordinary(text), self.inner)


def rank_encoder(config: Mapping[str, Any], tokenizer: Tokenizer) -> RankEncoder | None:
    """Tiktoken's encoder of a tokenizer, or None where it is not known to give the same ids.

    Args:
        config: The content of `tokenizer.json`.
        tokenizer: The same without added tokens, to compare with.
    """
    if not _is_known_shape(config):
        _log.debug("tokenised with `tokenizers`: not Qwen's kind of byte-level BPE")
        return None
    try:
        return _proved(config, tokenizer)
    finally:
        _forget(tokenizer)


def _proved(config: Mapping[str, Any], tokenizer: Tokenizer) -> RankEncoder | None:
    if not _merges_by_rank(config["model"], tokenizer):
        _log.debug("tokenised with `tokenizers`: its merges do not follow its ids")
        return None
    encoder = _encoder(config)
    if not gives_same_ids(encoder, tokenizer):
        _log.info("tokenised with `tokenizers`, which is slower: `tiktoken` gives other ids on the sample")
        return None
    return encoder


def _forget(tokenizer: Tokenizer) -> None:
    """Empty the model's cache, which keeps the first words it sees: here rare ones, of no use to later texts."""
    if forget := getattr(tokenizer.model, "_clear_cache", None):  # no public name, and nothing but speed hangs on it
        forget()


def gives_same_ids(encoder: RankEncoder, tokenizer: Tokenizer) -> bool:
    """Whether both tokenizers agree on every text of the sample."""
    readable = (text for text in texts() if encoder.reads(text))
    return all(
        encoder.encoding.encode_ordinary(text) == tokenizer.encode(text, add_special_tokens=False).ids
        for text in readable
    )


def _encoder(config: Mapping[str, Any]) -> RankEncoder:
    import tiktoken  # only where it is used

    letters = config["model"]["vocab"]
    ranks = {name.translate(BYTES).encode("latin-1"): id_ for name, id_ in letters.items()}
    encoding = tiktoken.Encoding("checkpoint", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={})
    inner = frozenset(id_ for token, id_ in ranks.items() if token[0] in _CONTINUATION)
    return RankEncoder(encoding, inner, composes=config.get("normalizer") is not None)


def _is_known_shape(config: Mapping[str, Any]) -> bool:
    model = config["model"]
    plain = not any(model.get(key) for key in _EXTRAS)
    return (
        model.get("type") == "BPE"
        and plain
        and config.get("normalizer") in (None, {"type": "NFC"})
        and _without_offsets(config.get("pre_tokenizer")) == _PRE_TOKENIZER
        and _is_byte_level(model["vocab"])
        and _is_free_of_controls(config)
    )


_EXTRAS = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback")
_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
    ],
}


def _without_offsets(settings: object) -> object:
    """A pre-tokenizer's settings less `trim_offsets`, which only a post-processor reads."""
    if isinstance(settings, list):
        return [_without_offsets(each) for each in settings]
    if isinstance(settings, dict):
        return {key: _without_offsets(value) for key, value in settings.items() if key != "trim_offsets"}
    return settings


def _is_byte_level(vocabulary: Mapping[str, int]) -> bool:
    """Whether all 256 bytes are tokens, all tokens are of bytes, and no id is given twice."""
    alphabet = set(map(chr, BYTES))
    return (
        alphabet <= vocabulary.keys()
        and alphabet.issuperset("".join(vocabulary))
        and len(set(vocabulary.values())) == len(vocabulary)
    )


def _is_free_of_controls(config: Mapping[str, Any]) -> bool:
    """Whether no id of the vocabulary is a control token's: then no text can ever yield one."""
    return {token["id"] for token in config["added_tokens"]}.isdisjoint(config["model"]["vocab"].values())


def _merges_by_rank(model: Mapping[str, Any], tokenizer: Tokenizer) -> bool:
    """The three conditions at the top of this file."""
    vocabulary = model["vocab"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    joined = [vocabulary["".join(pair)] for pair in pairs]
    longer = {id_ for name, id_ in vocabulary.items() if len(name) > 1}
    return joined == sorted(joined) and longer == set(joined) and _makes_every_token(vocabulary, tokenizer)


def _makes_every_token(vocabulary: Mapping[str, int], tokenizer: Tokenizer) -> bool:
    """Whether the merges alone make one token of each token's bytes."""
    model: Any = tokenizer.model
    given = model.ignore_merges
    model.ignore_merges = False  # else a token would be looked up whole, and nothing shown
    try:
        return all(len(model.tokenize(name)) == 1 for name in vocabulary)
    finally:
        model.ignore_merges = given
