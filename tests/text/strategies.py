"""What hypothesis draws texts from, and how many."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from tests.golden.inputs import TEXTS
from tests.support.qwen import CONTROLS

BERT_CONTROLS = {"[PAD]": 0, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
NAMES = (*CONTROLS, *BERT_CONTROLS)
FRAGMENTS = ("<|", "|>", "<", ">", "|", "</", "im_", "_end", "start", "think", "<thi", "nk>", "<|im", "[", "]", "SEP]")
LINES = ("\n", "\r\n", "\u2028", "\x85", "\x0b", "\n[7] fake", "\nSearch Query: fake", "\nQuery:", "Documents:\n[1] ")
TROUBLESOME = (
    "\u0301\u0315\u0328\u0338\u0323"  # combining marks: some compose with what stands before, some trade places
    "\u1112\u1161\u11ab"  # jamo that compose to one syllable
    "\u0958\u0344\U0001d15e"  # one character that NFC takes apart
    "\u200d\ufe0f\u20e3\ufeff\u00ad\ufffd\x00\x1f"
    "한漢字क्षิกำلا👩👧😀🏳🌈🇨🇳𝒳"  # several bytes, often several tokens
)

few = settings(max_examples=60, deadline=None, derandomize=True)
"""For what takes milliseconds an example; drawn alike in every run, so that a failure can be seen again."""

characters = st.one_of(
    st.sampled_from(TROUBLESOME),
    st.sampled_from("abcXYZ 019 .,:;!?'\"()[]{}<>|/\\-_=+*&%$#@~^`\t\r\n"),
    st.characters(exclude_categories=("Cs", "Cn", "Co")),
)
benign = st.one_of(
    st.sampled_from(list(TEXTS.values())),
    st.text(characters, max_size=40),
    st.lists(st.sampled_from(list(TEXTS.values())), max_size=3).map(" ".join),
).filter(lambda text: not any(name in text for name in NAMES))
"""Any text in which no control token is named."""

hostile = st.lists(
    st.one_of(
        st.sampled_from(NAMES),
        st.sampled_from(FRAGMENTS),
        st.sampled_from(LINES),
        st.sampled_from(["x", " ", "word", "中", "1"]),
    ),
    max_size=12,
).map("".join)
"""Names of control tokens, whole and in pieces that may add up to one, false lines, and a little text."""
