from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.demo import demo_collection
from e2rank_integrations.training.cloze import inverse_cloze

LONG = "one two three four five six seven eight nine"
DOCUMENTS = {
    "a": f"{LONG} ten. Short one. Version 9.99 is not the end of a sentence at all here.",
    "b": "Only a single sentence is in this document, so it would be its own query.",
    "c": f"Too short. {' '.join(['word'] * 65)}. Again short.",
    "d": "",
}


def is_subsequence(words: list[str], of: list[str]) -> bool:
    rest = iter(of)
    return all(word in rest for word in words)


def test_a_query_is_a_sentence_of_its_document_less_a_third_of_its_words():
    """Words keep their order; a full stop inside a number ends nothing."""
    made = inverse_cloze(DOCUMENTS, per_document=5)
    assert set(made.queries) == {"ict-a-0", "ict-a-1"}
    by_length = sorted(made.queries.values(), key=lambda text: len(text.split()))
    for query, sentence in zip(by_length, DOCUMENTS["a"].split(". ")[::2], strict=True):
        words, whole = query.split(), sentence.split()
        assert len(words) == len(whole) - round(len(whole) / 3)
        assert is_subsequence(words, [word for text in (sentence, f"{sentence}.") for word in text.split()])


def test_a_document_is_its_querys_only_judged_one_and_stays_as_it_is():
    """The vectors of an index stay right: no text is changed, not even copied."""
    made = inverse_cloze(DOCUMENTS, per_document=5)
    assert made.qrels == {"ict-a-0": {"a": 1}, "ict-a-1": {"a": 1}}
    assert made.documents is DOCUMENTS


def test_documents_that_give_no_query_are_counted_in_one_record(caplog: pytest.LogCaptureFixture):
    """A single sentence, sentences of a wrong length, and no text: three of four."""
    with caplog.at_level(logging.WARNING, "e2rank_integrations"):
        inverse_cloze(DOCUMENTS)
    (record,) = caplog.records
    assert "3 of 4 documents" in record.getMessage()


def test_a_sentence_that_two_documents_have_is_no_query():
    """A footer would be a query with many right answers and one judged."""
    footer = "This page is part of the manual of the great program."
    documents = {"a": f"{LONG} alpha. {footer}", "b": f"{LONG} beta. {footer}"}
    made = inverse_cloze(documents, per_document=5, drop=0)
    assert made.queries == {"ict-a-0": f"{LONG} alpha.", "ict-b-0": f"{LONG} beta."}


def test_chinese_and_japanese_are_cut_at_their_own_marks():
    """Without spaces, characters are dropped as words are elsewhere."""
    text = "北京是中华人民共和国的首都。它位于华北平原的北部边缘地区！短。"
    made = inverse_cloze({"zh": text}, per_document=5)
    sentences = {"北京是中华人民共和国的首都。", "它位于华北平原的北部边缘地区！"}
    assert len(made.queries) == 2
    for query in made.queries.values():
        assert any(is_subsequence(list(query), list(sentence)) and len(query) < len(sentence) for sentence in sentences)


def test_the_seed_decides_and_other_documents_do_not_matter():
    """Same seed, same queries, also with more documents; another seed, others."""
    documents = dict(list(demo_collection().documents.items())[:40])
    few = dict(list(documents.items())[:10])
    made = inverse_cloze(documents, per_document=2, seed=3)
    assert made.queries == inverse_cloze(documents, per_document=2, seed=3).queries
    assert made.queries.items() >= inverse_cloze(few, per_document=2, seed=3).queries.items()
    assert made.queries != inverse_cloze(documents, per_document=2, seed=4).queries


@given(
    lengths=st.lists(st.integers(8, 64), min_size=2, max_size=4),
    drop=st.floats(0, 1, exclude_max=True),
    per_document=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_query_is_blank_and_none_is_there_twice(lengths: list[int], drop: float, per_document: int):
    """Whatever share is dropped, at least a word stays; a document gives no more queries than asked for."""
    sentences = [" ".join(f"w{place}x{word}" for word in range(length)) for place, length in enumerate(lengths)]
    made = inverse_cloze({"d": "\n".join(sentences)}, per_document=per_document, drop=drop)
    assert len(made.queries) == min(per_document, len(lengths))
    assert all(query.strip() for query in made.queries.values())
    assert len({query.split("x")[0] for query in made.queries.values()}) == len(made.queries)


@pytest.mark.parametrize("options", [{"drop": 1.0}, {"drop": True}, {"drop": -0.1}, {"per_document": 0}])
def test_options_out_of_range_are_refused(options: dict[str, float]):
    """Before any document is read."""
    with pytest.raises(InputError, match=next(iter(options))):
        inverse_cloze(DOCUMENTS, **options)  # type: ignore[arg-type]


def test_documents_without_any_usable_sentence_are_an_error_with_a_next_step():
    """Nothing to train on is never a success."""
    with pytest.raises(InputError, match="give longer documents"):
        inverse_cloze({"a": "short. texts. only."})
    with pytest.raises(InputError, match="document 'a'"):
        inverse_cloze({"a": None})  # type: ignore[dict-item]
