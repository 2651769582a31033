"""Literal ids: equal to the reference for benign text, never a control token, cut between characters."""

from __future__ import annotations

import json
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2rank_integrations.checkpoint import EMBEDDED, resolve
from e2rank_integrations.errors import CheckpointError, ProfileError
from e2rank_integrations.text.tokenizer import MAX_CHARACTERS, LiteralTokenizer, load_tokenizer, merged
from tests.golden.inputs import TEXTS
from tests.support.qwen import CONTROLS, qwen_ranks
from tests.text.oracle import nfc, qwen_bytes
from tests.text.strategies import BERT_CONTROLS, benign, few, hostile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EOS = CONTROLS["<|endoftext|>"]
CLS, SEP = BERT_CONTROLS["[CLS]"], BERT_CONTROLS["[SEP]"]
NEWLINE = 198


# Equal to the reference


@few
@given(text=benign)
def test_benign_qwen_text_is_encoded_as_by_hugging_face(
    qwen: LiteralTokenizer, hf_qwen: PreTrainedTokenizerBase, text: str
) -> None:
    """Taking the added tokens out changes no id of a text that names none."""
    assert qwen.literal(text).ids == hf_qwen(text, add_special_tokens=False)["input_ids"]


@few
@given(text=benign)
def test_benign_qwen_text_is_encoded_as_by_tiktoken(qwen: LiteralTokenizer, text: str) -> None:
    """A second implementation of the ranks gives the same ids for the composed text."""
    assert qwen.literal(text).ids == qwen_ranks().encode_ordinary(nfc(text))


@few
@given(text=benign)
def test_benign_bert_text_is_encoded_as_by_hugging_face(
    bert: LiteralTokenizer, hf_bert: PreTrainedTokenizerBase, text: str
) -> None:
    """The same holds for the embedded model's WordPiece."""
    assert bert.literal(text).ids == hf_bert(text, add_special_tokens=False)["input_ids"]


# Never a control token


@few
@given(text=hostile)
def test_hostile_qwen_text_stays_text(qwen: LiteralTokenizer, text: str) -> None:
    """Whatever a user writes comes back, letter for letter, from ids of plain text alone."""
    ids = qwen.literal(text).ids
    assert not set(ids) & set(CONTROLS.values())
    assert qwen_bytes(ids).decode() == nfc(text)


@few
@given(text=hostile)
def test_hostile_bert_text_stays_text(bert: LiteralTokenizer, text: str) -> None:
    """`[CLS]`, `[SEP]`, `[MASK]` and `[PAD]` never come from a text."""
    assert not set(bert.literal(text).ids) & set(BERT_CONTROLS.values())


@pytest.mark.parametrize("name", CONTROLS)
def test_every_qwen_control_is_text_where_a_user_writes_it(
    qwen: LiteralTokenizer, hf_qwen: PreTrainedTokenizerBase, name: str
) -> None:
    """The danger is real: Hugging Face parses each of the 26 names, alone and inside a text; we do not."""
    for text in (name, f"before{name}after", f"{name}{name}"):
        assert CONTROLS[name] in hf_qwen(text, add_special_tokens=False)["input_ids"]
        assert qwen_bytes(qwen.literal(text).ids).decode() == text


@pytest.mark.parametrize("name", BERT_CONTROLS)
def test_every_bert_control_is_text_where_a_user_writes_it(
    bert: LiteralTokenizer, hf_bert: PreTrainedTokenizerBase, name: str
) -> None:
    """The same for the embedded model."""
    assert BERT_CONTROLS[name] in hf_bert(f"a {name} b", add_special_tokens=False)["input_ids"]
    assert BERT_CONTROLS[name] not in bert.literal(f"a {name} b").ids


def test_our_own_words_name_controls(qwen: LiteralTokenizer) -> None:
    """In a format of ours a control's name is that control, and what stands between two is one text."""
    parts = qwen.split("<|im_start|>user\n<think>\n\n</think>")
    assert parts == (CONTROLS["<|im_start|>"], "user\n", CONTROLS["<think>"], "\n\n", CONTROLS["</think>"])
    assert qwen.split("") == ()
    assert qwen.split("no control") == ("no control",)


def test_names_do_not_join_over_parts(qwen: LiteralTokenizer) -> None:
    """Neighbouring texts become one literal, even where together they spell a control's name."""
    ids = qwen.encode(("<|im_", "end", "|>", EOS, "<|", "endoftext|>"))
    assert [id_ for id_ in ids if id_ in CONTROLS.values()] == [EOS]
    assert merged(("a", "b", 1, "", "c", 2, 3, "")) == ["ab", 1, "c", 2, 3, ""]


@pytest.mark.parametrize("name", ["<|no_such|>", "[SEP]", "[CLS]"])
def test_a_control_of_another_model_is_an_error(qwen: LiteralTokenizer, name: str) -> None:
    """A format that names one would be embedded as its letters; the message says which it is."""
    with pytest.raises(ProfileError, match=re.escape(name)):
        qwen.split(f"before{name}<|im_end|>after")


@pytest.mark.parametrize("text", ["<doc>", "</doc>", "[1]", "[x]", "a < b | c > d", "<| |>", "<||>", "[Sep]"])
def test_brackets_alone_make_no_control(qwen: LiteralTokenizer, text: str) -> None:
    """Marks and tags of the user's own are words like any other."""
    assert qwen.split(text) == (text,)


def test_a_model_that_yields_controls_from_text_is_refused(bert: LiteralTokenizer) -> None:
    """A tokenizer that does not split a control's name apart finds it in its vocabulary: an error, not a leak."""
    config = json.loads((resolve(EMBEDDED).folder / "tokenizer.json").read_text(encoding="utf-8"))
    config["pre_tokenizer"], config["normalizer"] = {"type": "WhitespaceSplit"}, None
    careless = LiteralTokenizer(json.dumps(config))
    assert careless.literal("plain words").ids == bert.literal("plain words").ids
    with pytest.raises(CheckpointError) as caught:
        careless.literal("private [SEP] words")
    assert "private" not in str(caught.value)


# Cut between characters


@few
@given(text=st.one_of(benign, hostile), limit=st.integers(1, 40))
def test_a_qwen_cut_is_the_longest_that_splits_no_character(qwen: LiteralTokenizer, text: str, limit: int) -> None:
    """Cut ids decode to leading characters of the text, and one id more would split one or exceed the limit."""
    line = qwen.line((), text, (EOS,))
    *kept, last = line.ids(limit)
    assert last == EOS
    assert len(kept) < limit
    assert nfc(text).startswith(qwen_bytes(kept).decode())
    whole = qwen.literal(text).ids
    assert kept == whole[: len(kept)]
    if not _taken_apart(text):
        longer = [whole[:size] for size in range(len(kept) + 1, min(limit, len(whole) + 1))]
        assert all("\ufffd" in qwen_bytes(ids).decode(errors="replace") for ids in longer)


def _taken_apart(text: str) -> bool:
    """Whether NFC makes several characters of one, between which we do not cut either."""
    return any(len(nfc(character)) > 1 for character in text) or "\ufffd" in text


@pytest.mark.parametrize("name", TEXTS)
def test_every_cut_of_every_text_ends_with_a_character(qwen: LiteralTokenizer, name: str) -> None:
    """At whatever limit, the ids before EOS decode to leading characters of the text, and EOS is last."""
    line = qwen.line((), TEXTS[name], (EOS,))
    for limit in range(1, len(line) + 2):
        ids = line.ids(limit)
        assert len(ids) <= limit
        assert ids[-1] == EOS
        assert nfc(TEXTS[name]).startswith(qwen_bytes(ids[:-1]).decode())


@few
@given(text=st.one_of(benign, hostile), limit=st.integers(2, 40))
def test_a_bert_cut_is_framed_and_within_its_limit(bert: LiteralTokenizer, text: str, limit: int) -> None:
    """A cut drops ids from the text's end only: `[CLS]` stays first and `[SEP]` last."""
    first, *kept, last = bert.line((CLS,), text, (SEP,)).ids(limit)
    assert (first, last) == (CLS, SEP)
    assert len(kept) <= limit - 2
    whole = bert.literal(text).ids
    assert kept == whole[: len(kept)]
    assert len(whole) <= limit - 2 or len(kept) > limit - 2 - 12  # at most a character is given up


def test_a_bert_cut_splits_no_syllable(bert: LiteralTokenizer, hf_bert: PreTrainedTokenizerBase) -> None:
    """BERT takes Hangul syllables apart into letters; a cut keeps all letters of a syllable or none."""
    text = "한국어 중력은 두 물체가 서로"
    line = bert.line((CLS,), text, (SEP,))
    assert len(line) > len(text)  # or the test shows nothing
    for limit in range(2, len(line) + 1):
        pieces = hf_bert.convert_ids_to_tokens(list(line.ids(limit)[1:-1]))
        letters = "".join(piece.removeprefix("##") for piece in pieces)
        assert text.replace(" ", "").startswith(unicodedata.normalize("NFC", letters))


@pytest.mark.parametrize("limit", range(6, 15))
def test_a_cut_line_is_closed_again(qwen: LiteralTokenizer, limit: int) -> None:
    """A cut line keeps its mark and ends with its newline, also where the whole one's newline merged with the text."""
    line = qwen.line(("[1] ",), "The capital, as they say, is Beijing!!!", ("\n",))
    assert line.encoding.ids[-1] != NEWLINE  # "!!!\n" is one token
    ids = line.ids(limit)
    assert len(ids) == min(limit, len(line))
    assert qwen_bytes(ids).startswith(b"[1] ")
    assert qwen_bytes(ids).endswith(b"\n")
    assert ids == tuple(line.encoding.ids) or ids[-1] == NEWLINE


def test_a_line_within_its_limit_is_whole(qwen: LiteralTokenizer) -> None:
    """At a limit of exactly its length nothing is cut; at one less, the text is."""
    line = qwen.line((EOS, "[1] "), "a b c", (" (end)\n", EOS))
    whole = (EOS, *qwen.literal("[1] a b c (end)\n").ids, EOS)
    assert line.ids(len(line)) == line.ids(len(line) + 9) == whole
    assert qwen_bytes(line.ids(len(line) - 1)[1:-1]) == b"[1] a b (end)\n"


# Very long texts


def test_of_a_very_long_text_a_prefix_is_read(qwen: LiteralTokenizer) -> None:
    """Above a million characters the count is a lower bound, and the cut is that of the whole text."""
    text = "one two " * (MAX_CHARACTERS // 8)
    exact, above = qwen.line((), text, (EOS,)), qwen.line((), text + "three four five", (EOS,))
    assert (exact.lower_bound, above.lower_bound) == (False, True)
    assert len(exact) == len(above) > 100_000
    assert above.ids(100) == exact.ids(100)


@pytest.mark.parametrize("ending", ["\n", " (end)\n"])
def test_a_very_long_text_of_few_tokens_is_closed_once(qwen: LiteralTokenizer, ending: str) -> None:
    """A million blanks take few tokens: within the limit as they are, the line still ends once."""
    line = qwen.line(("[1] ",), "x" + " " * MAX_CHARACTERS, (ending,))
    assert line.lower_bound
    rendered = qwen_bytes(line.ids(20_000)).decode()
    assert re.fullmatch(r"\[1\] x *" + re.escape(ending), rendered)


# Nothing of the file's own settings, nothing shared


def test_the_file_s_truncation_and_padding_are_not_inherited(bert: LiteralTokenizer) -> None:
    """The embedded file cuts and pads to 128; here 200 words give 202 ids, and one word gives three."""
    config = json.loads((resolve(EMBEDDED).folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert config["truncation"]["max_length"] == 128  # or the test shows nothing
    assert config["padding"]["strategy"] == {"Fixed": 128}
    long, short = (bert.line((CLS,), text, (SEP,)).ids(512) for text in ("word " * 200, "word"))
    assert len(long) == 202
    assert len(short) == 3
    assert BERT_CONTROLS["[PAD]"] not in (*long, *short)


@pytest.mark.parametrize("which", ["qwen", "bert"])
def test_threads_do_not_disturb_one_another(which: str, request: pytest.FixtureRequest) -> None:
    """Sixteen threads that encode and cut different texts at different limits get what one thread gets."""
    tokenizer: LiteralTokenizer = request.getfixturevalue(which)
    jobs = [(text, limit) for text in TEXTS.values() for limit in (4, 9, 30, 500)]
    barrier = Barrier(16)

    def work(thread: int) -> list[tuple[int, ...]]:
        barrier.wait()
        order = jobs[thread * 20 :] + jobs[: thread * 20]
        return [tokenizer.line((7,), text, ("\n", 8)).ids(limit) for text, limit in order]

    serial = [tokenizer.line((7,), text, ("\n", 8)).ids(limit) for text, limit in jobs]
    with ThreadPoolExecutor(16) as pool:
        for thread, ids in enumerate(pool.map(work, range(16))):
            assert ids == serial[thread * 20 :] + serial[: thread * 20]


def test_a_folder_s_tokenizer_is_read_once() -> None:
    """Every encoder of a checkpoint shares one tokenizer."""
    assert load_tokenizer(resolve(EMBEDDED).folder) is load_tokenizer(resolve(EMBEDDED).folder)


@pytest.mark.parametrize(("which", "expected"), [("qwen", True), ("bert", True)])
def test_lines_may_be_encoded_apart(which: str, expected: bool, request: pytest.FixtureRequest) -> None:
    """Both tokenizers end a token at a newline that a non-space follows."""
    assert request.getfixturevalue(which).splits_at_newline() is expected


def test_a_tokenizer_that_reads_over_line_ends_is_found_out() -> None:
    """Without a pre-tokenizer BPE merges what it likes; such a tokenizer must not be used line by line."""
    config = {
        "version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None,
        "decoder": None, "truncation": None, "padding": None,
        "model": {"type": "BPE", "vocab": {c: i for i, c in enumerate("one.\n[2] tw")} | {"\n[": 99},
                  "merges": [["\n", "["]]},
    }  # fmt: skip
    assert LiteralTokenizer(json.dumps(config)).splits_at_newline() is False


@few
@given(before=st.one_of(benign, hostile), after=st.one_of(benign, hostile))
@pytest.mark.parametrize("opening", ["[2] ", "Search Query:", "(", "x"])
def test_a_newline_before_a_non_space_is_a_boundary(
    qwen: LiteralTokenizer, bert: LiteralTokenizer, opening: str, before: str, after: str
) -> None:
    """What makes lines safe to encode one by one: no id reaches over the joint, whatever stands on either side."""
    left, right = f"[1] {before}\n", f"{opening}{after}"
    for tokenizer in (qwen, bert):
        assert tokenizer.literal(left + right).ids == tokenizer.literal(left).ids + tokenizer.literal(right).ids
