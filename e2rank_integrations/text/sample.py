# ruff: noqa: RUF001  (texts of many scripts are what is compared)
"""Some thousands of texts of many scripts on which two tokenizers are compared. Written for this; no user's text.

Characters that cannot be seen, or told apart, are written as escapes.
"""

from __future__ import annotations

import unicodedata
from random import Random
from typing import TYPE_CHECKING

from e2rank_integrations.text.characters import runs

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITTEN = (
    # scripts
    "The quick brown fox isn't lazy; it jumps over 13 dogs, doesn't it? WE'LL see: they'Ve, I'D, 'tis, rock'n'roll.",
    "Zażółć gęślą jaźń. Größe, Straße, ŒUVRE, Þórður, İstanbul'da ılık, Thủ đô của Việt Nam, mañana, L’été.",
    "Столица Китая — Пекин. Їжак та ґанок; ёлка, Ђурђевдан, Қазақ тілі.",
    "Η βαρύτητα είναι δύναμη· ΑΘΗΝΑ, ἐν ἀρχῇ ἦν ὁ λόγος.",
    "الجاذبية قوة تجذب جسمين. ١٢٣٤ پایتخت ایران، اردو زبان ۴۵۶ بِسْمِ ٱللَّهِ",
    "כוח הכבידה מושך שני גופים. בְּרֵאשִׁית בָּרָא",
    "गुरुत्वाकर्षण एक बल है जो दो वस्तुओं को खींचता है। १२३ क्षत्रिय",
    "মাধ্যাকর্ষণ একটি বল। ১২৩ কলকাতা",
    "ஈர்ப்பு விசை என்பது என்ன? யாழ்ப்பாணம்",
    "గురుత్వాకర్షణ బలం. ಗುರುತ್ವಾಕರ್ಷಣೆ. ഗുരുത്വാകർഷണം. ગુરુત્વાકર્ષણ. ਗੁਰੂਤਾ. ଗୁରୁତ୍ୱ. ගුරුත්වාකර්ෂණය",
    "แรงโน้มถ่วงคือแรงที่ดึงดูดวัตถุสองชิ้น ๑๒๓ ແຮງໂນ້ມຖ່ວງ",
    "ទំនាញផែនដី ១២៣ ကမ္ဘာ့ဆွဲအား ༄༅། བོད་སྐད།",
    "საქართველოს დედაქალაქი თბილისია. ᲗᲑᲘᲚᲘᲡᲘ Երևան մայրաքաղաք է",
    "የቻይና ዋና ከተማ ቤጂንግ ነው። ፩፪፫ ᐃᓄᒃᑎᑐᑦ ᎠᏂᏴᏫᏯ ᠮᠣᠩᠭᠣᠯ ⵜⴰⵎⴰⵣⵉⵖⵜ",
    "中国的首都是北京。萬有引力是兩個物體之間的吸引力，一二三〇。龘㐀",
    "重力は二つの物体が引き合う力です。カタカナもひらがなも。ﾊﾝｶｸ々〆ヶー",
    "중력은 두 물체가 서로 끌어당기는 힘이다. ㄱㄴㄷ",
    "GPU上でのDeep学習 тест123한국 naïve中文mixed",
    # emoji and symbols
    "😀 great 👍🏽! 👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 🇨🇳🇩🇪🇧🇷 1\ufe0f\u20e3 ❤\ufe0f☎\ufe0e",
    "𝒳 ∈ ℝ² ≤ ∑∫√ ½ ¾ ① Ⅷ ⅸ ³ ﬁne ｆｕｌｌ ㎏ €100 £5 ¥7 ₹9 © ® ™ ° § ¶ … – — «» „“ ‘’ † • 𐍈 𓀀 𐎀 𒀀",
    # code, addresses, numbers
    "def f(x: int) -> str:\n    return f'{x!r}'  # {query}\n\n\n\tif (a != b) { i++; /* ... */ }\r\n\r\n",
    "SELECT * FROM t WHERE a <= 'x' AND b <> \"y\"; <p class='x'>A &amp; B</p> $\\sum_{i=1}^{n} x_i^2$ `x` ~~y~~ **z**",
    "https://example.org/a/b?q=x%20y&lang=de#frag jane.doe+tag@example.co.uk C:\\temp\\x.txt ../../etc 192.168.0.1",
    "3.14159 1,000,000 -17 2024-02-29T12:34:56Z 1e-9 0xFF +49 30 123456 50% 1st 2nd e2b7f0c41d9a",
    '{"query": "{query}", "n": [1, 2.5e-3, null, true]}\n- item\n  - item\n1. one\n| a | b |\n|---|---|',
    # whitespace, and what cannot be seen
    " a  b   c    d     e \t f\t\tg\n h \n\n i\n \n\n  j \r k\r\n l\r\n\r\n m \n\r n  \n",
    "a\u00a0b\u2009c\u3000d\u2028e\u2029f\u0085g\u1680h\u202fi\u205fj\u000bk\u000cl\u180em\n \u2003\u2003x",
    "zero\u200bwidth \ufeffmark soft\u00adhyphen \u200e\u200f\u202babc\u202c \u2060 \u034f \ufff9\ufffd",
    "bell\x07 nul\x00 unit\x1f escape\x1b[0m delete\x7f \x80\x9f private \ue000 \uf8ff",
    # combining marks that NFC leaves alone
    "q\u0323\u0307 x\u0301\u0302 \u0301first h\u0335\u0321l\u0334\u0316 \u0940\u0947 \u20dd a\u20d7",
    # control tokens' names, and case folding
    "<|im_start|>user <|im_end|><|endoftext|> <think>\n\n</think> <tool_call> a <| b |> [CLS] [SEP]",
    "'\u017f 'S 's'T't'RE're'\u212b it'\u017fs 'M'm'LL'Ll'lL'D'd'VE’s ’ll '\u0130 ''s",
    "'Llama x'Reagan 'Sam's 'Timothy 'Download 'MARY 'Verify O'LLOYD 'Section 'THE 'DE 'REPORT 'VERSION '\u017fort",
)

SEPARATORS = (
    "", " ", "  ", "\n", "\n\n", " \n", "\r\n", "\t", "\u00a0", "\u3000", ".", ",", "'", '"', "-", "(", "1", "a",
)  # fmt: skip
RUNS = (
    " ", "\n", "\t", "\r\n", " \n", "\u00a0", "\u3000", "a", "ab", "A", "7", ".", "!?", "-", "中", "한", "é", "ب", "😀",
    "'s",
)  # fmt: skip


def texts() -> Iterator[str]:
    """Every text of the sample: as written, mixed, in runs, and with each kind of character; some 3,600."""
    yield from WRITTEN
    yield from _mixed(Random(5), 2_000)  # noqa: S311, nothing is secret
    yield from _drawn(Random(7), 800)  # noqa: S311
    yield from _in_runs()
    yield from _of_each_kind()


def _mixed(random: Random, count: int) -> Iterator[str]:
    """Snippets of the written texts, begun and ended anywhere, in a row with odd joints."""
    for _ in range(count):
        snippets = []
        for _ in range(random.randint(1, 4)):
            text = random.choice(WRITTEN)
            start = random.randrange(len(text))
            snippets += [text[start : start + random.randint(1, 16)], random.choice(SEPARATORS)]
        yield "".join(snippets)


def _drawn(random: Random, count: int) -> Iterator[str]:
    """Characters of every script and kind in no order at all."""
    letters = "".join(WRITTEN)
    for _ in range(count):
        yield "".join(random.choices(letters, k=random.randint(1, 16)))


def _in_runs() -> Iterator[str]:
    """A run of one thing, short and long, alone and between words."""
    for unit in RUNS:
        for count in (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 64, 100, 257):
            yield unit * count
            yield f"x{unit * count}y {unit * count}\n"


def _of_each_kind() -> Iterator[str]:
    """Both ends of each run of a general category, where tables of Unicode differ, in places that show its class.

    A letter is joined to letters after it; a mark or a symbol takes the full stop, a space the word.
    """
    ends = [chr(point) for run in runs() for point in dict.fromkeys(run)]
    lines = [f"{each}.get {each}\n\n{each}get\n" for each in ends if unicodedata.is_normalized("NFC", each)]
    for start in range(0, len(lines), 20):
        yield "".join(lines[start : start + 20])
