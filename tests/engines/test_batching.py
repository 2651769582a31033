"""Which inputs share a forward pass."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations.engines.batching import LEAST_FILLED, batches
from e2rank_integrations.values import TokenInput

roles = st.sampled_from(["document", "query", "listwise"])
inputs = st.lists(st.builds(lambda n, role: TokenInput((7,) * n, role), st.integers(1, 60), roles), max_size=40)
budgets = st.integers(1, 200)


@given(inputs, budgets, st.booleans())
@settings(deadline=None)
def test_every_input_is_in_exactly_one_batch(items: list[TokenInput], tokens: int, pad: bool) -> None:
    """Nothing is left out and nothing embedded twice."""
    grouped = [position for batch in batches(items, tokens=tokens, pad=pad) for position in batch]
    assert sorted(grouped) == list(range(len(items)))


@given(inputs, budgets, st.booleans())
@settings(deadline=None)
def test_a_batch_holds_one_role(items: list[TokenInput], tokens: int, pad: bool) -> None:
    """A prompt of thousands of tokens is never padded together with documents, nor with queries."""
    for batch in batches(items, tokens=tokens, pad=pad):
        assert len({items[i].role for i in batch}) == 1


@given(inputs, budgets)
@settings(deadline=None)
def test_a_padded_batch_keeps_within_the_budget_with_its_padding(items: list[TokenInput], tokens: int) -> None:
    """Rows times the longest row fit the budget, but for an input that is alone too long for it."""
    for batch in batches(items, tokens=tokens, pad=True):
        assert len(batch) == 1 or len(batch) * max(len(items[i].ids) for i in batch) <= tokens


@given(inputs, budgets)
@settings(deadline=None)
def test_a_packed_batch_keeps_within_the_budget(items: list[TokenInput], tokens: int) -> None:
    """All tokens of a batch fit the budget, but for an input that is alone too long for it."""
    for batch in batches(items, tokens=tokens, pad=False):
        assert len(batch) == 1 or sum(len(items[i].ids) for i in batch) <= tokens


@given(inputs, budgets)
@settings(deadline=None)
def test_a_padded_row_is_nearly_full(items: list[TokenInput], tokens: int) -> None:
    """No row is padded by more than a tenth of the batch's longest."""
    for batch in batches(items, tokens=tokens, pad=True):
        lengths = [len(items[i].ids) for i in batch]
        assert min(lengths) >= LEAST_FILLED * max(lengths)


@given(inputs, budgets, st.booleans())
@settings(deadline=None)
def test_the_longest_come_first_in_each_role(items: list[TokenInput], tokens: int, pad: bool) -> None:
    """Memory runs out at the start or not at all, and neighbours differ little in length."""
    order = [items[i] for batch in batches(items, tokens=tokens, pad=pad) for i in batch]
    for role in ("document", "query", "listwise"):
        lengths = [len(item.ids) for item in order if item.role == role]
        assert lengths == sorted(lengths, reverse=True)


@given(inputs, budgets, st.booleans())
@settings(deadline=None)
def test_a_batch_is_closed_only_when_it_must_be(items: list[TokenInput], tokens: int, pad: bool) -> None:
    """The first input of the next batch of the same role breaks the budget or, with padding, is too short."""
    for batch, following in pairwise(batches(items, tokens=tokens, pad=pad)):
        if items[batch[0]].role != items[following[0]].role:
            continue
        longest, added = len(items[batch[0]].ids), len(items[following[0]].ids)
        held = (len(batch) + 1) * longest if pad else sum(len(items[i].ids) for i in batch) + added
        assert held > tokens or (pad and added < LEAST_FILLED * longest)


@given(inputs, budgets, st.integers(0, 200))
@settings(deadline=None)
def test_a_batch_that_is_too_small_to_be_busy_takes_in_shorter_rows(
    items: list[TokenInput], tokens: int, busy: int
) -> None:
    """Padding alone closes no batch below `busy` tokens; the budget always does."""
    for batch, following in pairwise(batches(items, tokens=tokens, pad=True, busy=busy)):
        if items[batch[0]].role != items[following[0]].role:
            continue
        longest, added = len(items[batch[0]].ids), len(items[following[0]].ids)
        over = (len(batch) + 1) * longest > tokens
        assert over or (len(batch) * longest >= busy and added < LEAST_FILLED * longest)


def test_inputs_of_equal_length_keep_their_order() -> None:
    """The same call makes the same batches."""
    items = [TokenInput((i, i), "document") for i in range(10)]
    assert list(batches(items, tokens=8, pad=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
