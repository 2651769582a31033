"""tiktoken is used where it gives the ids and cuts of Hugging Face's tokenizer, and nowhere else."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import unicodedata
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from e2rank_integrations.checkpoint import EMBEDDED, resolve
from e2rank_integrations.text import ranks
from e2rank_integrations.text.characters import runs, unknown
from e2rank_integrations.text.literal import from_offsets
from e2rank_integrations.text.ranks import BYTES, MOST_CHARACTERS, SPLIT, RankEncoder, gives_same_ids
from e2rank_integrations.text.sample import RUNS, WRITTEN, texts
from e2rank_integrations.text.tokenizer import LiteralTokenizer
from tests.golden.inputs import LONG_TEXTS, TEXTS
from tests.support.qwen import CONTROLS, qwen_tokenizer
from tests.text.oracle import nfc
from tests.text.strategies import benign, few, hostile

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenizers import Encoding

SMALL = 3000
"""Ids of the small vocabulary: Qwen's first ones, which are a tokenizer of their own."""


@pytest.fixture(scope="module")
def fast(qwen: LiteralTokenizer) -> RankEncoder:
    """tiktoken's reading of Qwen's real ranks."""
    assert qwen._ranks is not None
    return qwen._ranks


def slowly(tokenizer: LiteralTokenizer, text: str) -> Encoding:
    """What Hugging Face's library makes of a text."""
    return tokenizer._tokenizer.encode(text, add_special_tokens=False)


@cache
def _small() -> str:
    """`tokenizer.json` as the hub has it: one pair for each token, no token looked up whole."""
    config = json.loads(qwen_tokenizer().to_str())
    vocabulary = {name: id_ for name, id_ in config["model"]["vocab"].items() if id_ < SMALL}
    merges = [_last_pair(name, vocabulary) for name in sorted(vocabulary, key=vocabulary.__getitem__) if len(name) > 1]
    config["model"].update(vocab=vocabulary, merges=merges, ignore_merges=False)
    config["model"].update(continuing_subword_prefix="", end_of_word_suffix="")
    for token in config["added_tokens"]:
        token["id"] += SMALL - min(CONTROLS.values())
    return json.dumps(config)


def small() -> Any:
    """A copy of it to change."""
    return json.loads(_small())


def _last_pair(name: str, vocabulary: dict[str, int]) -> list[str]:
    """What a token is merged from, by the definition of BPE."""
    parts = list(name)
    while len(parts) > 2:
        joined = [vocabulary.get(left + right, SMALL) for left, right in pairwise(parts)]
        place = joined.index(min(joined))
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
    return parts


# The same ids, the same cuts


@few
@given(text=st.one_of(benign, hostile, st.text(max_size=200)))
def test_ids_are_those_of_hugging_face(qwen: LiteralTokenizer, text: str) -> None:
    """Whichever library reads a text, its ids are the slower one's."""
    assert qwen.literal(text).ids == slowly(qwen, text).ids


@few
@given(text=st.one_of(benign, hostile))
def test_every_cut_is_that_of_hugging_face(qwen: LiteralTokenizer, text: str) -> None:
    """At each position the bytes tell the same character's end as the offsets."""
    _expect_same_cuts(qwen, text)


@pytest.mark.parametrize("name", [*TEXTS, *LONG_TEXTS])
def test_every_cut_of_every_text_is_that_of_hugging_face(qwen: LiteralTokenizer, name: str) -> None:
    """The same for the frozen texts, emoji and all."""
    _expect_same_cuts(qwen, {**TEXTS, **LONG_TEXTS}[name])


def _expect_same_cuts(qwen: LiteralTokenizer, text: str) -> None:
    ours, theirs = qwen.literal(text), from_offsets(slowly(qwen, text))
    positions = range(len(theirs.ids) + 1) if len(theirs.ids) < 500 else range(500)
    assert [ours.character_end(kept) for kept in positions] == [theirs.character_end(kept) for kept in positions]


def test_some_cuts_move(qwen: LiteralTokenizer, fast: RankEncoder) -> None:
    """Or the two tests before show nothing: an emoji of several tokens is kept whole or left out."""
    text = "\U00010348" * 3
    literal = qwen.literal(text)
    assert fast.reads(text)
    assert fast.inner.issuperset(literal.ids[1:2])
    assert literal.character_end(1) == 0


def test_every_known_character_gives_the_same_ids(qwen: LiteralTokenizer, fast: RankEncoder) -> None:
    """Each assigned character in places that show whether it is a letter, a number, a space, or none of them."""
    # Of the long runs (ideographs, syllables, private use) the two ends are in the sample.
    points = [point for first, last in runs() if last - first < 3000 for point in range(first, last + 1)]
    lines = [f"{each}.get {each}\n\n {each}1{each}'{each}\n" for each in map(chr, points) if nfc(each) == each]
    assert len(lines) > 25_000
    for start in range(0, len(lines), 100):
        text = "".join(lines[start : start + 100])
        assert fast.encoding.encode_ordinary(nfc(text)) == slowly(qwen, text).ids


# What tiktoken does not read


@pytest.mark.parametrize("text", ["cafe\u0301", "\u1112\u1161\u11ab", "\u212b", "\u0958", "a\u0315\u0300"])
def test_what_nfc_changes_is_not_for_tiktoken(qwen: LiteralTokenizer, fast: RankEncoder, text: str) -> None:
    """tiktoken does not normalise, and a cut is told in the characters as they were written."""
    assert not unicodedata.is_normalized("NFC", text)
    assert not fast.reads(text)
    assert qwen.literal(text).ids == slowly(qwen, text).ids


@pytest.mark.parametrize("text", ["\u0378", "\u0378\u0301", "\U0003fffd", "\U0010ffff", "\ufdd0", "a\U000e0041"])
def test_an_unassigned_character_is_not_for_tiktoken(qwen: LiteralTokenizer, fast: RankEncoder, text: str) -> None:
    """A later Unicode may make a letter of it, or a mark that composes; each library has its own tables."""
    assert unknown().search(text)
    assert not fast.reads(text)
    assert qwen.literal(text).ids == slowly(qwen, text).ids


@pytest.mark.parametrize("unit", RUNS)
@pytest.mark.parametrize("end", ["", "x", "\n"])
def test_the_longest_run_is_read(qwen: LiteralTokenizer, fast: RankEncoder, unit: str, end: str) -> None:
    """At the most characters that tiktoken gets, a run of one thing breaks nothing and gives the same ids."""
    text = (unit * MOST_CHARACTERS)[: MOST_CHARACTERS - 1] + (end or unit[0])
    assert len(text) == MOST_CHARACTERS
    assert fast.reads(text)
    assert fast.encoding.encode_ordinary(text) == slowly(qwen, text).ids


def test_a_longer_text_is_not_for_tiktoken(qwen: LiteralTokenizer, fast: RankEncoder) -> None:
    """A million blanks, at which its regex engine panics, are read by the other library."""
    assert not fast.reads(" " * (MOST_CHARACTERS + 1))
    assert qwen.literal(" " * 1_000_000).ids == slowly(qwen, " " * 1_000_000).ids


# Which tokenizers are read so


def test_the_hub_s_form_is_read() -> None:
    """One pair for each token, as lists or, as older files have it, as strings; whole tokens looked up or not."""
    for change in (_as_given, _merges_as_strings, _looked_up_whole, _without_normalizer):
        tokenizer = _changed(change)
        assert tokenizer._ranks is not None, change
        assert tokenizer._tokenizer.model.ignore_merges is (change is _looked_up_whole)
        for text in (*TEXTS.values(), *WRITTEN):
            assert tokenizer.literal(text).ids == slowly(tokenizer, text).ids


def test_without_a_normalizer_nothing_is_composed() -> None:
    """Then tiktoken reads decomposed text, too."""
    tokenizer = _changed(_without_normalizer)
    assert tokenizer._ranks is not None
    assert tokenizer._ranks.reads("cafe\u0301")
    assert not _changed(_as_given)._ranks.reads("cafe\u0301")  # type: ignore[union-attr]


def test_the_embedded_model_s_tokenizer_is_not(bert: LiteralTokenizer) -> None:
    """WordPiece is none of tiktoken's."""
    assert bert._ranks is None


def _changed(change: Callable[[Any], None]) -> LiteralTokenizer:
    config = small()
    change(config)
    return LiteralTokenizer(json.dumps(config))


def _as_given(config: Any) -> None:
    pass


def _merges_as_strings(config: Any) -> None:
    config["model"]["merges"] = [" ".join(pair) for pair in config["model"]["merges"]]


def _looked_up_whole(config: Any) -> None:
    config["model"]["ignore_merges"] = True


def _without_normalizer(config: Any) -> None:
    config["normalizer"] = None


def _swapped_merges(config: Any) -> None:
    merges = config["model"]["merges"]
    merges[700], merges[701] = merges[701], merges[700]


def _swapped_ids(config: Any) -> None:
    vocabulary = config["model"]["vocab"]
    first, second = list(vocabulary)[700], list(vocabulary)[1700]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def _other_pair(config: Any) -> None:
    """ " the" of " t" and "he" becomes " th" and "e": the list alone no longer makes it."""
    merges, vocabulary = config["model"]["merges"], config["model"]["vocab"]
    for place, pair in enumerate(merges):
        name = "".join(pair)
        others = [
            [name[:cut], name[cut:]] for cut in range(1, len(name)) if {name[:cut], name[cut:]} <= set(vocabulary)
        ]
        if len(others) > 1:
            merges[place] = next(other for other in others if other != pair)
            return


def _no_pair(config: Any) -> None:
    config["model"]["merges"].pop()


def _no_byte(config: Any) -> None:
    del config["model"]["vocab"]["\u00c0"]  # 0xC0, which stands in no text


def _foreign_letter(config: Any) -> None:
    config["model"]["vocab"]["\u20ac"] = SMALL + 100


def _same_id(config: Any) -> None:
    config["model"]["vocab"]["Ġt"] = config["model"]["vocab"]["Ġa"]


def _control_in_vocabulary(config: Any) -> None:
    config["added_tokens"][0].update(content="Ġthe", id=config["model"]["vocab"]["Ġthe"])


def _kompatibel(config: Any) -> None:
    config["normalizer"] = {"type": "NFKC"}


def _other_split(config: Any) -> None:
    config["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = SPLIT.replace(r"\p{N}|", r"\p{N}{1,3}|")


def _removed_matches(config: Any) -> None:
    config["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"


def _space_before(config: Any) -> None:
    config["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True


def _gpt2(config: Any) -> None:
    config["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _dropout(config: Any) -> None:
    config["model"]["dropout"] = 0.0001


@pytest.mark.parametrize(
    "change",
    [
        _swapped_merges, _swapped_ids, _other_pair, _no_pair, _no_byte, _foreign_letter, _same_id,
        _control_in_vocabulary, _kompatibel, _other_split, _removed_matches, _space_before, _gpt2, _dropout,
    ],
)  # fmt: skip
def test_any_other_tokenizer_is_left_to_hugging_face(
    change: Callable[[Any], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever in the file would give other ids, or might: quietly, and the ids are that file's own."""
    caplog.set_level(logging.INFO)
    tokenizer = _changed(change)
    assert tokenizer._ranks is None
    assert not caplog.records
    if change is not _dropout and change is not _control_in_vocabulary:
        assert tokenizer.literal(TEXTS["english"]).ids == slowly(tokenizer, TEXTS["english"]).ids


# The sample tells tokenizers apart


PATTERNS = {
    "numbers and letters": SPLIT.replace(r"\p{L}+|\p{N}|", r"[\p{L}\p{N}]+|"),
    "ASCII numbers": SPLIT.replace(r"\p{N}", "0-9").replace("|0-9|", "|[0-9]|"),
    "case of contractions": SPLIT.replace("(?i:", "(?:"),
    "a space before letters only": SPLIT.replace(r"| ?[^\s", r"|[^\s"),
    "no newlines after marks": SPLIT.replace(r"]+[\r\n]*|", "]+|"),
    "newlines apart": SPLIT.replace(r"|\s*[\r\n]+", r"|[\r\n]+"),
    "last blank taken": SPLIT.replace(r"|\s+(?!\S)", ""),
    "ASCII letters": SPLIT.replace(r"\p{L}", "A-Za-z").replace("A-Za-z+", "[A-Za-z]+"),
    "letters without marks": SPLIT.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+"),
    "ASCII blanks": SPLIT.replace(r"\s", r"[\t\n\r\x20]").replace(r"[^[\t\n\r\x20]", r"[^\t\n\r\x20"),
    "no carriage return": SPLIT.replace(r"[\r\n]", r"\n"),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_the_sample_tells_another_pattern(qwen: LiteralTokenizer, fast: RankEncoder, name: str) -> None:
    """Each clause of the pattern, changed, shows."""
    assert PATTERNS[name] != SPLIT
    encoding = tiktoken.Encoding(
        "other", pat_str=PATTERNS[name], mergeable_ranks=fast.encoding._mergeable_ranks, special_tokens={}
    )
    assert not gives_same_ids(replace(fast, encoding=encoding), qwen._tokenizer)


def test_the_sample_agrees_on_the_real_ranks(qwen: LiteralTokenizer, fast: RankEncoder) -> None:
    """Or the tests before show nothing."""
    assert gives_same_ids(fast, qwen._tokenizer)


def test_a_difference_on_the_sample_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two libraries that once read one pattern differently: the slower is used, and the log says why."""
    monkeypatch.setattr(ranks, "SPLIT", PATTERNS["newlines apart"])
    caplog.set_level(logging.INFO, logger=ranks.__name__)
    assert _changed(_as_given)._ranks is None
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_the_sample_is_large_fixed_and_read(fast: RankEncoder) -> None:
    """Thousands of texts, the same in every process, nearly all of which tiktoken reads; no surrogate among them."""
    sample = list(texts())
    assert sample == list(texts())
    assert len(set(sample)) > 2_500
    assert sum(map(fast.reads, sample)) > 0.97 * len(sample)
    assert sum(map(fast.reads, WRITTEN)) >= len(WRITTEN) - 2
    assert all(text.encode() for text in sample)


# The rest


def test_the_table_of_bytes_is_that_of_the_library() -> None:
    """A letter for each byte, as the library has them."""
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(map(chr, BYTES)) == set(ByteLevel.alphabet())
    assert sorted(BYTES.values()) == list(range(256))
    splitter = ByteLevel(add_prefix_space=False, use_regex=False)
    for text in WRITTEN:
        (letters, _), *_ = splitter.pre_tokenize_str(text)
        assert letters.translate(BYTES).encode("latin-1") == text.encode()


def test_tiktoken_is_imported_for_its_own_tokenizers_alone() -> None:
    """Nothing pays for it before a tokenizer is loaded that it can read."""
    code = (
        "import sys; from pathlib import Path; from e2rank_integrations.text.tokenizer import load_tokenizer;"
        "load_tokenizer(Path(sys.argv[1])); sys.exit('tiktoken' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(resolve(EMBEDDED).folder)], check=False)
    assert done.returncode == 0


def test_a_config_is_not_written_to() -> None:
    """The checks only read."""
    config = small()
    given = deepcopy(config)
    ranks.rank_encoder(config, LiteralTokenizer(json.dumps(config))._tokenizer)
    assert config == given
