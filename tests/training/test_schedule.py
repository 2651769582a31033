"""The order of slates and the documents that each prompt lists."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations.training.schedule import Draw, schedule
from e2rank_integrations.training.settings import TrainSettings
from e2rank_integrations.training.slates import TrainingSlate

SETTINGS = TrainSettings(batch_size=4)


def slates_of(*sizes: int, documents: int = 6) -> list[TrainingSlate]:
    """Slates of several sources, so many of each, in turn."""
    texts = tuple(f"document {number}" for number in range(documents))
    places = tuple(range(documents))
    return [
        TrainingSlate(f"query {number}", texts, places, source=f"source {source}")
        for number in range(max(sizes))
        for source, size in enumerate(sizes)
        if number < size
    ]


def batches_of(draws: list[Draw], size: int) -> list[list[Draw]]:
    return [draws[start : start + size] for start in range(0, len(draws), size)]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1)
)
def test_every_epoch_sees_every_slate_in_batches_of_one_source(
    sizes: list[int], batch_size: int, epochs: int, seed: int
) -> None:
    """No slate is left out, no batch is short or mixes sources, and none is filled up more than needed."""
    slates = slates_of(*sizes)
    draws = schedule(slates, TrainSettings(batch_size=batch_size, epochs=epochs, seed=seed))
    filled = sum(-size % batch_size for size in sizes)
    length = len(slates) + filled
    assert len(draws) == epochs * length
    for start in range(0, len(draws), length):
        epoch = draws[start : start + length]
        counts = Counter(draw.slate for draw in epoch)
        assert counts.keys() == set(range(len(slates)))
        assert counts.total() - len(counts) == filled
        for batch in batches_of(epoch, batch_size):
            assert len(batch) == batch_size
            assert len({slates[draw.slate].source for draw in batch}) == 1


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.integers(0, 8), st.integers(2, 6), st.sampled_from([0.0, 0.5, 1.0]))
def test_a_prompt_lists_as_many_documents_as_was_asked(least: int, more: int, documents: int, shuffle: float) -> None:
    """Between the bounds, fewer only where the slate holds no more, each document once."""
    asked = (least, least + more)
    for draw in schedule(slates_of(9, documents=documents), replace(SETTINGS, num_input_docs=asked, shuffle=shuffle)):
        assert min(asked[0], documents) <= len(draw.listed) <= min(asked[1], documents)
        assert len(set(draw.listed)) == len(draw.listed)
        assert set(draw.listed) <= set(range(documents))


def test_all_numbers_between_the_bounds_are_drawn() -> None:
    """The bounds are both included."""
    draws = schedule(slates_of(100), replace(SETTINGS, num_input_docs=(2, 4)))
    assert {len(draw.listed) for draw in draws} == {2, 3, 4}


def test_the_whole_slate_in_its_order_is_the_default() -> None:
    """As in the paper: neither a draw nor a shuffle."""
    assert all(draw.listed == tuple(range(6)) for draw in schedule(slates_of(9), SETTINGS))


def test_the_share_that_is_mixed_is_the_one_asked_for() -> None:
    """Of many prompts half are lists of the first documents, and the others reach the whole slate in any order."""
    draws = schedule(slates_of(400), replace(SETTINGS, num_input_docs=(3, 3), shuffle=0.5))
    first = [draw.listed == (0, 1, 2) for draw in draws]
    assert 0.4 < sum(first) / len(first) < 0.6
    mixed = [draw.listed for draw, kept in zip(draws, first, strict=True) if not kept]
    assert {place for listed in mixed for place in listed} == set(range(6))
    assert any(list(listed) != sorted(listed) for listed in mixed)


def test_the_seed_decides_everything() -> None:
    """The same seed gives the same draws, another one others."""
    slates = slates_of(9, 5, 12)
    drawn = replace(SETTINGS, epochs=2, num_input_docs=(2, 5), shuffle=0.5)
    assert schedule(slates, drawn) == schedule(slates, drawn)
    assert schedule(slates, drawn) != schedule(slates, replace(drawn, seed=1))


def test_epochs_differ_and_sources_are_mixed() -> None:
    """Neither is the second epoch the first one again, nor does one source come after the other."""
    slates = slates_of(20, 20)
    draws = schedule(slates, replace(SETTINGS, epochs=2))
    assert draws[:40] != draws[40:]
    sources = [slates[batch[0].slate].source for batch in batches_of(draws[:40], 4)]
    assert sources != sorted(sources)
    assert sources != sorted(sources, reverse=True)


def test_the_draws_leave_python_s_own_random_numbers_alone() -> None:
    """A library does not touch the caller's stream."""
    import random

    random.seed(5)
    expected = random.random()
    random.seed(5)
    schedule(slates_of(9), replace(SETTINGS, shuffle=0.5))
    assert random.random() == expected
