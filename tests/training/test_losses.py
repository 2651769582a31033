"""Each loss against plain loops in float64, and which way a step moves the cosines."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from e2rank_integrations.training.losses import info_nce, multi_positive_info_nce, rank_net

TEMPERATURES = st.sampled_from([0.03, 0.1, 0.5, 1.0])


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    """Unit rows in float64, so that only the formula can differ."""
    drawn = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return normalize(drawn, dim=-1)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def minus_log_share(logits: list[float], chosen: list[int]) -> float:
    """-log of the softmax's share of some logits, shifted so that nothing overflows."""
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    return math.log(sum(powers)) - math.log(sum(powers[place] for place in chosen))


def slow_info_nce(queries: list, documents: list, positives: list[int], temperature: float) -> float:
    losses = []
    for query, positive in zip(queries, positives, strict=True):
        logits = [cosine(query, document) / temperature for document in documents]
        losses.append(minus_log_share(logits, [positive]))
    return sum(losses) / len(losses)


def slow_rank_net(slates: list[list[float]], temperature: float) -> float:
    """The paper's sum over ordered pairs, each unordered pair once, over all slates alike."""
    losses = []
    for scores in slates:
        for better, worse in combinations(range(len(scores)), 2):
            losses.append(math.log1p(math.exp((scores[worse] - scores[better]) / temperature)))
    return sum(losses) / len(losses)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(2, 6), TEMPERATURES, st.integers(0, 10**6), st.data())
def test_info_nce_is_its_definition(  # noqa: PLR0917 - hypothesis gives them by position
    queries: int, documents: int, width: int, temperature: float, seed: int, data: st.DataObject
) -> None:
    """The mean over the queries of the positive's -log share among all documents of the batch, to 1e-6."""
    positives = data.draw(st.lists(st.integers(0, documents - 1), min_size=queries, max_size=queries))
    asked, given_rows = rows(queries, width, seed), rows(documents, width, seed + 1)
    found = info_nce(asked, given_rows, torch.tensor(positives), temperature=temperature)
    assert float(found) == pytest.approx(
        slow_info_nce(asked.tolist(), given_rows.tolist(), positives, temperature), rel=1e-6, abs=1e-6
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(2, 6), TEMPERATURES, st.integers(0, 10**6), st.data())
def test_multi_positive_info_nce_is_its_definition(
    documents: int, width: int, temperature: float, seed: int, data: st.DataObject
) -> None:
    """-log of the share that falls on all positives together, to 1e-6; with one positive it is `info_nce`."""
    positives = data.draw(st.lists(st.integers(0, documents - 1), min_size=1, unique=True))
    query, given_rows = rows(1, width, seed), rows(documents, width, seed + 1)
    found = float(multi_positive_info_nce(query[0], given_rows, torch.tensor(positives), temperature=temperature))
    logits = [cosine(query[0].tolist(), document) / temperature for document in given_rows.tolist()]
    assert found == pytest.approx(minus_log_share(logits, positives), rel=1e-6, abs=1e-6)
    assert found >= -1e-9
    one = torch.tensor(positives[:1])
    single = multi_positive_info_nce(query[0], given_rows, one, temperature=temperature)
    torch.testing.assert_close(single, info_nce(query, given_rows, one, temperature=temperature))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.floats(-1, 1), min_size=2, max_size=7), min_size=1, max_size=5), TEMPERATURES)
def test_rank_net_is_the_mean_over_all_pairs_of_the_batch(slates: list[list[float]], temperature: float) -> None:
    """Every pair of every slate weighs the same, however many pairs its slate has, to 1e-6."""
    tensors = [torch.tensor(scores, dtype=torch.float64) for scores in slates]
    found = float(rank_net(tensors, temperature=temperature))
    assert found == pytest.approx(slow_rank_net(slates, temperature), rel=1e-6, abs=1e-6)


def test_rank_net_is_no_mean_of_the_slates_means() -> None:
    """A slate of 2 beside one of 4: one pair of seven, not half."""
    short, long = torch.tensor([0.0, 1.0]), torch.tensor([0.9, 0.6, 0.3, 0.0])
    alone = [float(rank_net([slate])) for slate in (short, long)]
    assert float(rank_net([short, long])) == pytest.approx((alone[0] + 6 * alone[1]) / 7, rel=1e-6)


def test_the_defaults_are_the_papers_temperatures() -> None:
    """0.03 for InfoNCE and 0.1 for RankNet."""
    queries, documents, positives = rows(2, 4, 0), rows(3, 4, 1), torch.tensor([0, 2])
    given_rows = [documents @ queries[0]]
    assert float(info_nce(queries, documents, positives)) == pytest.approx(
        slow_info_nce(queries.tolist(), documents.tolist(), [0, 2], 0.03), rel=1e-6
    )
    assert float(rank_net(given_rows)) == pytest.approx(slow_rank_net([given_rows[0].tolist()], 0.1), rel=1e-6)


def test_a_rank_net_step_raises_each_better_document_against_each_worse() -> None:
    """On a slate in the reverse of its label's order, every pair's gap grows, and so every pair's loss falls."""
    width = 8
    documents = torch.eye(4, width)
    prompt = normalize(torch.tensor([0.1, 0.2, 0.3, 0.4, 1, 0, 0, 0]), dim=-1).requires_grad_()
    before = documents @ prompt
    rank_net([before]).backward()
    with torch.no_grad():
        after = documents @ normalize(prompt - 0.01 * prompt.grad, dim=-1)
    for better, worse in combinations(range(4), 2):
        assert after[better] - after[worse] > before[better] - before[worse]


def test_a_rank_net_step_moves_the_misplaced_document_most() -> None:
    """The gradient pulls at a wrong pair harder than at a right one: only the wrong pair is far from zero loss."""
    scores = torch.tensor([0.2, 0.9, 0.1, 0.0], requires_grad=True)  # the second should be below the first
    rank_net([scores]).backward()
    assert scores.grad[0] < 0 < scores.grad[1]
    assert int(scores.grad.abs().argmax()) in {0, 1}
    assert float(scores.grad.sum()) == pytest.approx(0, abs=1e-6)


def test_an_info_nce_step_raises_the_positive_alone() -> None:
    """The query comes nearer to its positive and goes away from every other document of the batch."""
    documents = torch.eye(3, 6)
    query = normalize(torch.tensor([[0.2, 0.3, 0.4, 1, 0, 0]]), dim=-1).requires_grad_()
    info_nce(query, documents, torch.tensor([0]), temperature=0.5).backward()
    with torch.no_grad():
        change = (documents @ (query - 0.1 * query.grad).T - documents @ query.T)[:, 0]
    assert change[0] > 0
    assert (change[1:] < 0).all()


def test_several_positives_are_no_negatives_of_one_another() -> None:
    """Both positives rise, the others fall."""
    documents = torch.eye(4, 6)
    query = normalize(torch.tensor([0.2, 0.3, 0.4, 0.3, 1, 0]), dim=-1).requires_grad_()
    multi_positive_info_nce(query, documents, torch.tensor([0, 2]), temperature=0.5).backward()
    assert [float(value) > 0 for value in query.grad[:4]] == [False, True, False, True]


def test_extreme_cosines_give_finite_losses() -> None:
    """At the smallest temperature the largest gap neither overflows nor becomes NaN."""
    scores = torch.tensor([-1.0, 1.0], requires_grad=True)
    loss = rank_net([scores], temperature=0.001)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2000)
    assert torch.isfinite(scores.grad).all()
