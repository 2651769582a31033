"""Sharing a prompt's room: it always ends, never exceeds its caps, and takes from the long to keep the short."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from e2rank_integrations.errors import InputError, PromptBudgetError
from e2rank_integrations.profiles import E2RANK, E2RANK_SMALL, EMBEDDED, TEMPLATES, Caps
from e2rank_integrations.text.budget import round_up, share_room
from e2rank_integrations.text.prompts import InputWriter
from e2rank_integrations.text.tokenizer import MAX_CHARACTERS
from tests.golden import reference
from tests.text.oracle import rendered
from tests.text.strategies import benign, few, hostile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.text.tokenizer import LiteralTokenizer
    from e2rank_integrations.values import PromptPlan, TokenInput

lengths = st.lists(st.one_of(st.integers(1, 20), st.integers(1, 1000)), max_size=12)
any_text = st.one_of(benign, hostile, st.integers(0, 60).map("word ".__mul__))
documents = st.lists(any_text, min_size=1, max_size=8)


@st.composite
def small_caps(draw: st.DrawFn) -> Caps:
    """Caps under which most prompts must give something up."""
    floor = draw(st.integers(9, 20))
    listed = draw(st.integers(floor, 60))
    step = draw(st.sampled_from([1, 16, 128]))
    return Caps(floor=floor, listed=listed, prompt=draw(st.integers(listed, 400)), query_step=step)


def writer(tokenizer: LiteralTokenizer, template: str = "paper", **caps: int) -> InputWriter:
    """A writer of the E2Rank profile with some caps of its own."""
    caps.setdefault("listed", min(1024, caps.get("prompt", 1024)))
    return InputWriter(replace(E2RANK.with_template(template), caps=Caps(**caps)), tokenizer, 32768)


def written(ours: InputWriter, query: str, texts: list[str], asked: int) -> tuple[TokenInput, PromptPlan]:
    """A prompt of any template: each candidate has a score, which most templates leave out."""
    return ours.listwise(query, texts, asked, reference.scores(len(texts)))


def with_room_for_scores(caps: Caps, template: str) -> Caps:
    """The same few tokens for a text where its line also holds a score."""
    more = 20 if TEMPLATES[template].shows_scores else 0
    return replace(caps, floor=caps.floor + more, listed=caps.listed + more, prompt=caps.prompt + more)


# The arithmetic


@few
@given(lengths=lengths, room=st.integers(-50, 3000), floor=st.integers(1, 70), more=st.integers(0, 500))
def test_the_room_is_kept_and_the_share_is_fair(lengths: list[int], room: int, floor: int, more: int) -> None:
    """The cut lengths fit, and neither a larger cap nor one more document would."""
    asked = floor + more
    used, cap = share_room(lengths, room=room, cap=asked, floor=floor)
    assert floor <= cap <= asked
    assert 0 <= used <= len(lengths)
    if used:
        assert sum(min(size, cap) for size in lengths[:used]) <= room
    if cap < asked:
        assert sum(min(size, cap + 1) for size in lengths[:used]) > room
    if used < len(lengths):
        assert sum(min(size, floor) for size in lengths[: used + 1]) > room


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [
        ([], 100, (0, 50)),
        ([10, 20, 30], 60, (3, 50)),
        ([10, 20, 90], 80, (3, 50)),  # the profile's cap binds, not the room
        ([10, 20, 90], 70, (3, 40)),
        ([40, 40, 40], 90, (3, 30)),
        ([4, 40, 40], 64, (3, 30)),  # the short one's share goes to the others, wherever it stands
        ([40, 40, 4], 64, (3, 30)),
        ([40, 40, 40], 30, (3, 10)),  # all at the floor
        ([40, 40, 40], 29, (2, 14)),  # one fewer, rather than below the floor
        ([40, 40, 3], 22, (2, 11)),
        ([40], 10, (1, 10)),
        ([40], 9, (0, 50)),
        ([3], 3, (1, 50)),  # a line shorter than the floor needs no floor
        ([40], 0, (0, 50)),
        ([40], -7, (0, 50)),
    ],
)
def test_shares_by_hand(lengths: list[int], room: int, expected: tuple[int, int]) -> None:
    """Cap 50, floor 10."""
    assert share_room(lengths, room=room, cap=50, floor=10) == expected


@pytest.mark.parametrize(("tokens", "expected"), [(0, 0), (1, 128), (127, 128), (128, 128), (129, 256)])
def test_round_up(tokens: int, expected: int) -> None:
    """The next multiple of 128, itself included."""
    assert round_up(tokens, 128) == expected


# The prompt


def check(plan: PromptPlan, caps: Caps, candidates: int, asked: int) -> None:
    """What every plan promises, read off the plan alone."""
    slots = plan.slots
    listed = [slot for slot in slots if slot.included]
    assert plan.tokens <= plan.max_tokens <= caps.prompt
    assert len(slots) == candidates
    assert plan.documents_asked == min(asked, candidates)
    assert slots[: plan.documents_used] == tuple(listed)  # the leading candidates are listed, the last left out
    assert caps.floor <= plan.cap_used <= plan.cap_asked == caps.listed
    assert plan.documents_truncated == sum(slot.truncated for slot in slots)
    for slot in listed:
        assert slot.tokens_before is not None
        assert slot.tokens_after <= min(slot.tokens_before, plan.cap_used)
        assert slot.truncated == (slot.tokens_after < slot.tokens_before)
        # what a cut gives up beyond the cap is less than one character
        assert slot.tokens_after > min(slot.tokens_before, plan.cap_used) - 16
    for slot in slots[plan.documents_used : plan.documents_asked]:
        assert (slot.tokens_before or 0) > 0
        assert (slot.tokens_after, slot.truncated) == (0, False)
    for slot in slots[plan.documents_asked :]:
        assert (slot.included, slot.tokens_before, slot.tokens_after, slot.truncated) == (False, None, 0, False)


@few
@given(query=any_text, documents=documents, caps=small_caps(), asked=st.integers(1, 10))
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_prompt_keeps_its_caps(
    *, qwen: LiteralTokenizer, template: str, query: str, documents: list[str], caps: Caps, asked: int
) -> None:
    """Whatever the texts and the caps, the prompt fits and its plan is true, or the error is the budget's."""
    caps = with_room_for_scores(caps, template)
    ours = InputWriter(replace(E2RANK.with_template(template), caps=caps), qwen, 32768)
    try:
        prompt, plan = written(ours, query, documents, asked)
    except PromptBudgetError:
        assert _least(ours, query, documents[0]) > caps.prompt
        return
    assert len(prompt.ids) == plan.tokens
    check(plan, caps, len(documents), asked)
    assert rendered(prompt.ids)  # UnicodeDecodeError if a cut had split a character
    assert prompt.ids[-plan.query_tokens :] == _tail(ours, query)
    _expect_maximal(plan, caps, plan.tokens - sum(slot.tokens_after for slot in plan.slots) - plan.query_tokens)


def _tail(ours: InputWriter, query: str) -> tuple[int, ...]:
    roomy = InputWriter(E2RANK.with_template(ours.profile.template), ours._tokenizer, 32768)
    prompt, plan = written(roomy, query, ["x"], 1)
    return prompt.ids[-plan.query_tokens :]


def _least(ours: InputWriter, query: str, text: str) -> int:
    """Tokens of the prompt over one document at its floor, measured where there is room."""
    roomy = InputWriter(replace(ours.profile, caps=Caps(floor=ours.profile.caps.floor)), ours._tokenizer, 32768)
    plan = written(roomy, query, [text], 1)[1]
    return plan.tokens - plan.slots[0].tokens_after + min(plan.slots[0].tokens_before or 0, ours.profile.caps.floor)


def _expect_maximal(plan: PromptPlan, caps: Caps, head: int) -> None:
    """Neither a larger cap nor one more document would fit, whether the query's room is rounded up or not."""
    rest = plan.max_tokens - head
    reserved = round_up(plan.query_tokens, caps.query_step)
    room = rest - (reserved if rest - reserved >= caps.floor else plan.query_tokens)
    before = [slot.tokens_before or 0 for slot in plan.slots[: plan.documents_asked]]
    if plan.cap_used < caps.listed:
        assert sum(min(size, plan.cap_used + 1) for size in before[: plan.documents_used]) > room
    if plan.documents_used < plan.documents_asked:
        assert sum(min(size, caps.floor) for size in before[: plan.documents_used + 1]) > room


@few
@given(documents=documents)
def test_embedded_prompts_keep_their_caps(bert: LiteralTokenizer, documents: list[str]) -> None:
    """The embedded profile, whose window is its prompt's cap."""
    documents = [text * 4 for text in documents]
    prompt, plan = InputWriter(EMBEDDED, bert, 512).listwise("a short query", documents, 8)
    assert len(prompt.ids) == plan.tokens
    check(plan, EMBEDDED.caps, len(documents), 8)


def test_short_documents_give_to_long_ones(qwen: LiteralTokenizer) -> None:
    """What short lines leave goes to the long, and no line that fits whole is cut."""
    ours = writer(qwen, prompt=400, listed=300)
    texts = ["short", "word " * 500, "also short", "word " * 500]
    slots = ours.listwise("query", texts, 20)[1].slots
    assert [slot.truncated for slot in slots] == [False, True, False, True]
    assert slots[1].tokens_after == slots[3].tokens_after
    alone = ours.listwise("query", ["word " * 500] * 4, 20)[1].slots
    assert slots[1].tokens_after > alone[1].tokens_after


def test_fewer_documents_rather_than_below_the_floor(qwen: LiteralTokenizer) -> None:
    """Where all at the floor do not fit, the last are left out, and the plan says so."""
    ours = writer(qwen, prompt=400, floor=64)
    plan = ours.listwise("query", ["word " * 500] * 6, 20)[1]
    assert (plan.documents_asked, plan.documents_used) == (6, 3)
    assert all(slot.tokens_after >= 64 for slot in plan.slots[:3])
    assert [slot.included for slot in plan.slots] == [True] * 3 + [False] * 3
    assert [slot.tokens_before for slot in plan.slots[3:]] == [504] * 3
    assert plan.documents_truncated == 3


def test_candidates_beyond_the_asked_are_not_read(qwen: LiteralTokenizer) -> None:
    """Only the first `asked` texts are tokenised for the prompt; the rest have a slot that says nothing of them."""
    plan = writer(qwen).listwise("query", ["a"] * 5, 2)[1]
    assert [slot.included for slot in plan.slots] == [True, True, False, False, False]
    assert [slot.tokens_before for slot in plan.slots] == [5, 5, None, None, None]
    assert (plan.documents_asked, plan.documents_used) == (2, 2)


def test_what_stands_beyond_the_asked_does_not_matter(qwen: LiteralTokenizer) -> None:
    """The prompt is the same whatever candidates follow, in whatever order."""
    ours = writer(qwen, prompt=300)
    first = ours.listwise("query", ["a b", "word " * 99, "x", "y"], 2)[0]
    assert ours.listwise("query", ["a b", "word " * 99, "y", "z", "x"], 2)[0] == first


def test_the_plan_counts_every_token(qwen: LiteralTokenizer) -> None:
    """Before and after are counts of whole lines, mark and ending included; the rest is head and query."""
    prompt, plan = writer(qwen, listed=64).listwise("query", ["one two three", "word " * 100], 20)
    first, second = plan.slots
    assert first.tokens_before == first.tokens_after == len(qwen.literal("[1] one two three\n").ids)
    assert second.tokens_before == len(qwen.literal("[2] " + "word " * 99 + "word\n").ids)
    assert second.tokens_after == 64
    tail = qwen.encode(("Search Query: query", 0, "\n", 0, "assistant\n", 0, "\n\n", 0, "\n\n"))
    assert plan.query_tokens == len(tail)
    head = qwen.encode((0, f"user\n{E2RANK.tasks.listwise}:\nDocuments:\n"))
    assert plan.tokens == len(prompt.ids) == len(head) + first.tokens_after + 64 + plan.query_tokens
    assert (plan.cap_asked, plan.cap_used, plan.max_tokens) == (64, 64, 32768)


# The query's room


@few
@given(
    first=st.integers(0, 250),
    second=st.integers(0, 250),
    documents=documents,
    template=st.sampled_from(list(TEMPLATES)),
)
def test_the_document_block_does_not_change_within_a_step(
    qwen: LiteralTokenizer, first: int, second: int, documents: list[str], template: str
) -> None:
    """Two queries of different length in the same step of 128 tokens share everything before them, id for id."""
    ours = writer(qwen, template, prompt=600)
    texts = [text * 5 for text in documents] + ["word " * 300] * 3
    (one, one_plan), (two, two_plan) = (written(ours, "word " * size, texts, 20) for size in (first, second))
    blocks = [ids.ids[: -plan.query_tokens] for ids, plan in ((one, one_plan), (two, two_plan))]
    same_step = round_up(one_plan.query_tokens, 128) == round_up(two_plan.query_tokens, 128)
    assert one_plan.cap_used < 1024 or two_plan.cap_used < 1024  # the room binds, or the test shows nothing
    assume(same_step)
    assert blocks[0] == blocks[1]
    assert one_plan.slots == two_plan.slots


def test_the_document_block_changes_at_a_step(qwen: LiteralTokenizer) -> None:
    """Under a bound room the next step takes its tokens from the documents."""
    ours = writer(qwen, prompt=600)
    plans = [ours.listwise("word " * size, ["word " * 900], 20)[1] for size in (50, 90, 120)]
    assert plans[0].cap_used == plans[1].cap_used == plans[2].cap_used + 128


def test_the_last_tokens_are_used_where_a_step_would_leave_too_few(qwen: LiteralTokenizer) -> None:
    """Rather than refuse a query that fits, its room is not rounded up."""
    roomy = writer(qwen).listwise("query", ["x"], 1)[1]
    fixed = roomy.tokens - roomy.slots[0].tokens_after
    plan = writer(qwen, prompt=fixed + 64, listed=64).listwise("query", ["word " * 500], 1)[1]
    assert (plan.documents_used, plan.cap_used, plan.tokens) == (1, 64, plan.max_tokens)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_query_without_room_for_a_document_is_an_error_with_both_numbers(
    qwen: LiteralTokenizer, template: str
) -> None:
    """What the query and the scaffold take, and what the prompt may have; nothing of the query's words."""
    query = "private " * 300
    plan = written(writer(qwen, template), query, ["x"], 1)[1]
    taken = plan.tokens - plan.slots[0].tokens_after
    with pytest.raises(PromptBudgetError, match=rf"\b{taken}\b.*\b300\b") as caught:
        written(writer(qwen, template, prompt=300, listed=300), query, ["word " * 100], 1)
    assert "private" not in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_one_token_decides(qwen: LiteralTokenizer) -> None:
    """A prompt with exactly the floor left is written; with one token less it is refused."""
    roomy = writer(qwen).listwise("query", ["x"], 1)[1]
    fixed, texts = roomy.tokens - roomy.slots[0].tokens_after, ["word " * 100]
    assert writer(qwen, prompt=fixed + 64, listed=64).listwise("query", texts, 1)[1].documents_used == 1
    with pytest.raises(PromptBudgetError):
        writer(qwen, prompt=fixed + 63, listed=64).listwise("query", texts, 1)


# Very long texts


def test_a_very_long_text_s_count_is_flagged(qwen: LiteralTokenizer) -> None:
    """Above a million characters the count is a lower bound; at a million it is exact."""
    exact = "word " * (MAX_CHARACTERS // 5)
    first, second = writer(qwen, "training").listwise("query", [exact, exact + "."], 2)[1].slots
    assert (first.lower_bound, second.lower_bound) == (False, True)
    assert first.truncated
    assert second.truncated
    assert (second.tokens_before or 0) > 200_000
    assert first.tokens_after == second.tokens_after == 1024


def test_collapsing_comes_before_counting(qwen: LiteralTokenizer) -> None:
    """Two million characters, most of them blanks, are a short line in `paper`: whole, and counted exactly."""
    (slot,) = writer(qwen).listwise("query", ["a" + " " * 2_000_000 + "b"], 1)[1].slots
    assert (slot.lower_bound, slot.truncated) == (False, False)
    assert slot.tokens_before == len(qwen.literal("[1] a b\n").ids)


def test_a_very_long_text_of_few_tokens_keeps_the_cap(qwen: LiteralTokenizer) -> None:
    """A million blanks fit the line's cap; the prompt's cap holds to the last token all the same."""
    text = "x" + " " * MAX_CHARACTERS
    roomy = writer(qwen, "training", listed=32768).listwise("q", [text], 1)[1]
    fixed = roomy.tokens - roomy.slots[0].tokens_after
    before = roomy.slots[0].tokens_before or 0
    plan = writer(qwen, "training", listed=before + 5, prompt=fixed + before, query_step=1).listwise("q", [text], 1)[1]
    assert plan.tokens <= plan.max_tokens
    assert plan.slots[0].tokens_after <= plan.cap_used
    assert plan.slots[0].truncated


def test_ten_thousand_candidates(qwen: LiteralTokenizer) -> None:
    """Every candidate has a slot, and those that fit are listed."""
    ours = InputWriter(E2RANK_SMALL, qwen, 32768)
    plan = ours.listwise("query", ["word " * 50] * 10_000, 10_000)[1]
    assert len(plan.slots) == plan.documents_asked == 10_000
    assert plan.documents_used == (4096 - len(_head(qwen)) - 128) // 32
    assert plan.cap_used == 32


def _head(qwen: LiteralTokenizer) -> Sequence[int]:
    return qwen.encode((0, f"user\n{E2RANK.tasks.listwise}:\nDocuments:\n"))
