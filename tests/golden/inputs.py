"""Benign texts of many kinds. Characters that cannot be seen, or told apart, are written as escapes."""

from __future__ import annotations

TEXTS = {
    # English and other Latin scripts
    "english": "The capital of China is Beijing.",
    "question": "What is the capital of China?",
    "two_words": "Explain gravity",
    "german": "Die Donaudampfschifffahrtsgesellschaft fährt über den großen Fluss.",
    "french": "L’été dernier, l'élève a mangé une crêpe à l’œuf.",
    "spanish": "¿Dónde está la biblioteca? ¡Allí!",
    "portuguese": "A rotação não é a translação.",
    "polish": "Zażółć gęślą jaźń",
    "turkish": "İstanbul'da ılık bir gün",
    "vietnamese": "Thủ đô của Việt Nam là Hà Nội.",
    "contractions": "I'm sure they've said we'll go; don't they'd? IT'S.",
    # other scripts
    "chinese": "中国的首都是北京。",
    "chinese_traditional": "萬有引力是兩個物體之間的吸引力。",
    "japanese": "重力は二つの物体が引き合う力です。カタカナもひらがなもある。",
    "korean": "중력은 두 물체가 서로 끌어당기는 힘이다.",
    "thai": "แรงโน้มถ่วงคือแรงที่ดึงดูดวัตถุสองชิ้นเข้าหากัน",
    "hindi": "गुरुत्वाकर्षण एक बल है जो दो वस्तुओं को खींचता है।",
    "tamil": "ஈர்ப்பு விசை என்பது என்ன?",
    "arabic": "الجاذبية قوة تجذب جسمين نحو بعضهما البعض.",
    "arabic_vowelled": "بِسْمِ ٱللَّهِ",
    "hebrew": "כוח הכבידה מושך שני גופים.",
    "rtl_marks": "\u202babc\u202c \u200fשלום\u200e 123",
    "russian": "Столица Китая — Пекин.",
    "greek": "Η βαρύτητα είναι δύναμη.",
    "amharic": "የቻይና ዋና ከተማ ቤጂንግ ነው።",
    "mixed_scripts": "GPU上でのDeep学習 тест 123한국",
    "astral": "𝒳 ∈ ℝ² and 𠮷野家 and 𐍈",
    # emoji
    "emoji": "😀 great 👍🏽!",
    "emoji_zwj": "family: 👩\u200d👩\u200d👧\u200d👦 and 🏳\ufe0f\u200d🌈",
    "emoji_flags": "🇨🇳🇩🇪🇧🇷",
    "emoji_keycap": "press 1\ufe0f\u20e3 now",
    # combining characters, to be composed or not
    "nfd_latin": "cafe\u0301 nin\u0303o A\u030a",
    "nfd_hangul": "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "nfd_reordered": "a\u0315\u0300 q\u0323\u0307",
    "combining_first": "\u0301starts with an accent",
    "zalgo": "h\u0335\u0321\u034ee\u0337\u0342l\u0334\u0316p",
    "composition_excluded": "\u0958\u0959 \u0344 \u2126 \u212b",
    "compatibility": "ﬁne ① ｆｕｌｌ ½ ㎏",
    # nothing, and hardly anything
    "empty": "",
    "space": " ",
    "spaces": "     ",
    "newline": "\n",
    "newlines_and_spaces": " \n \n\n  ",
    "letter": "a",
    "digit": "7",
    "full_stop": ".",
    # whitespace
    "leading_space": " leading space",
    "leading_spaces": "    four spaces first",
    "trailing_space": "trailing space ",
    "leading_newline": "\nnewline first",
    "leading_newlines": "\n\n\nthree newlines first",
    "trailing_newlines": "two newlines last\n\n",
    "crlf": "first line\r\nsecond line\r\n\r\nfourth line",
    "carriage_returns": "old\rMac\rlines",
    "tabs": "\ttab\tseparated\t\tvalues\t",
    "inner_newlines": "a paragraph.\n\nAnother one:\n- item\n- item",
    "odd_spaces": "no\u00a0break thin\u2009space ideographic\u3000space line\u2028separator next\u0085line",
    "zero_width": "zero\u200bwidth \ufeffmark soft\u00adhyphen",
    "control_characters": "bell\x07 form\x0cfeed vertical\x0btab unit\x1fseparator nul\x00",
    # beginnings that can merge with what stands before
    "leading_dot": "...and then",
    "leading_colon": ": a colon first",
    "leading_bracket": "[12] is not a mark",
    "leading_closing_bracket": "] closes nothing",
    "leading_quote": '"quoted" text',
    "leading_apostrophe": "'s possessive",
    "leading_dash": "--flag value",
    "leading_digits": "2024 was a leap year; 3.14159 is not.",
    "leading_cjk_punctuation": "「括弧」、それから。",
    "leading_symbol": "€100 is ≥ $100",
    # code, addresses, markup, long words
    "url": "https://example.org/a/b?q=x%20y&lang=de#frag",
    "email": "write to jane.doe+tag@example.co.uk",
    "python": "def f(x: int) -> str:\n    return f'{x!r}'  # {query} {document}\n",
    "json": '{"query": "{query}", "n": [1, 2.5e-3, null]}',
    "sql": "SELECT * FROM t WHERE a <= 'x' AND b <> \"y\";",
    "html": "<p class='x'>A &amp; B</p><br/>",
    "latex": "$\\sum_{i=1}^{n} x_i^2 \\leq \\|x\\|_2$",
    "near_control": "a <| b |> c, think > and <tool call> and im_end",
    "long_word": "pneumonoultramicroscopicsilicovolcanoconiosis" * 3,
    "long_digits": "3" * 60,
    "long_hash": "e2b7f0c41d9a" * 8,
    "repeated_letter": "a" * 100,
    "repeated_punctuation": "!?" * 40,
    "fake_mark": "text\n[2] looks like a line\nSearch Query: and this like a query",
}  # fmt: skip

LONG_TEXTS = {
    "many_words": "  ".join(f"word{number}" for number in range(1100)) + "\n",
    "many_characters": "中国的首都是北京 " * 150,
}
"""Texts above the reference's 1,024 words, and above 1,024 characters without as many words."""

SCORES = (
    (27.318, "27.32"), (19.0, "19.00"), (12.555, "12.55"), (7.0, "7.00"), (0.004, "0.00"), (-0.001, "0.00"),
    (-3.25, "-3.25"), (1234.5, "1234.50"),
)  # fmt: skip
"""First-stage scores by position, again from the first after the last: what is given, and what a prompt shows.

Half-way cases go by the nearest binary number: 12.555 is a little less.
"""

QUERIES = ("question", "two_words", "chinese", "leading_space", "crlf", "emoji_zwj", "leading_bracket", "json")

TASKS = {
    "default": {
        "query": "Given a web search query, retrieve relevant passages that answer the query",
        "listwise": "Given a web search query and some relevant documents, rerank the documents that answer the query",
        "noun": "Documents",
    },
    "touche": {
        "query": "Given a question, retrieve detailed and persuasive arguments that answer the question",
        "listwise": "Given a question and some arguments, "
        "rerank the detailed and persuasive arguments that answer the question",
        "noun": "Arguments",
    },
    "own": {
        "query": "给定问题，检索能回答它的段落 🔎\n(cafe\u0301 {query})",
        "listwise": " 给定问题和文档，按相关性排序 {noun}",
        "noun": "文档 {task}",
    },
}
"""The reference's own strings, a data set's, and a user's with everything odd in them."""
