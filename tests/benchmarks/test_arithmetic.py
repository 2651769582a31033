"""The benchmark's arithmetic: what it counts, divides and refuses. Nothing is timed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.benchmarks.counting import counted
from tests.benchmarks.flops import forward_flops
from tests.benchmarks.generative import windows
from tests.benchmarks.harness import rounds_of, worse
from tests.benchmarks.options import parsed
from tests.benchmarks.outputs import Difference, Outcome, OutputsDifferError, difference, expect_same
from tests.benchmarks.results import Spread, ratios
from tests.benchmarks.workload import LISTED, LONGEST, SHORTEST, document_lengths, workload
from tests.support.models import SMALL_VOCABULARY, qwen3_config


def test_ratios_are_taken_round_by_round_over_the_rounds_that_both_have() -> None:
    """A slow minute slows both rows of a round, so medians must not be divided by medians."""
    assert ratios([10.0, 60.0], [1.0, 3.0, 100.0]) == Spread(median=15.0, low=10.0, high=20.0)
    assert ratios([], [1.0]) is None


def test_rows_run_in_turn_and_those_with_fewer_rounds_drop_out() -> None:
    a, b, c = (SimpleNamespace(name=name) for name in "abc")
    order = [(row.name, round_) for row, round_ in rounds_of([(a, 2), (b, 1), (c, 3)])]
    assert order == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("c", 2)]


def test_flops_are_those_that_torch_counts_for_the_linear_layers() -> None:
    """Against torch's own counter, for linear layers; of attention, the half that a causal model needs."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import Qwen3Model

    config, tokens = qwen3_config(layers=3, vocabulary=SMALL_VOCABULARY), 24
    model = Qwen3Model(config).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        model(input_ids=torch.ones(1, tokens, dtype=torch.long))
    by_operator = {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}
    linears = sum(count for name, count in by_operator.items() if name in {"aten.mm", "aten.addmm"})
    heads = config.num_attention_heads * config.head_dim
    attention = 3 * 2 * 2 * heads * sum(range(1, tokens + 1))
    assert forward_flops(config, [tokens]) == linears + attention
    assert forward_flops(config, [tokens, tokens]) == 2 * forward_flops(config, [tokens])


def test_windows_go_from_the_end_to_the_start_and_meet_the_first_candidate() -> None:
    assert windows(100) == [(start, start + 20) for start in range(80, -1, -10)]
    assert windows(25) == [(5, 25), (0, 15)]
    assert windows(12) == [(0, 12)]


def test_counts_real_and_padded_tokens_also_with_keys_at_hand() -> None:
    """A mask that is longer than the ids covers what was read before."""

    class Model(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> None:
            """Nothing."""

    model = Model()
    with counted(model) as counts:
        model(input_ids=torch.ones(2, 3), attention_mask=torch.tensor([[0, 1, 1], [1, 1, 1]]))
        model(input_ids=torch.ones(2, 1), attention_mask=torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]))
        model.forward(torch.ones(1, 7))
    model(input_ids=torch.ones(1, 1))
    assert (counts.forwards, counts.real_tokens, counts.padded_tokens) == (3, 5 + 2 + 7, 6 + 2 + 7)


def test_difference_compares_what_both_have() -> None:
    one = Outcome(np.array([0.3, 0.2, 0.1]), np.array([[1.0, 0.0]]))
    other = Outcome(np.array([0.2, 0.3, 0.1]), np.array([[0.6, 0.8]]), np.eye(2))
    found = difference(one, other)
    assert found is not None
    assert found.largest == pytest.approx(0.8)
    assert found.lowest_cosine == pytest.approx(0.6)
    assert found.same_order is False
    assert difference(one, Outcome(documents=np.eye(2))) is None


@pytest.mark.parametrize(
    ("dtype", "largest", "cosine", "fails"),
    [
        ("float32", 9e-6, 1.0, False),
        ("float32", 2e-5, 1.0, True),
        ("float32", float("nan"), 1.0, True),
        ("bfloat16", 1e-2, 0.9999, False),
        ("bfloat16", 1e-2, 0.9997, True),
    ],
)
def test_a_run_fails_where_our_output_is_not_the_references(
    dtype: str, largest: float, cosine: float, fails: bool
) -> None:
    found = Difference(largest, cosine, same_order=True)
    if not fails:
        expect_same("ours", dtype, found)
        return
    with pytest.raises(OutputsDifferError, match="ours: its output"):
        expect_same("ours", dtype, found)


def test_the_worst_of_two_rounds_is_what_is_told() -> None:
    found = worse(Difference(1e-6, 0.9, same_order=True), Difference(1e-7, 0.8, same_order=False))
    assert found == Difference(1e-6, 0.8, same_order=False)
    assert worse(None, found) == found


def test_the_workload_is_the_same_each_time_and_as_long_as_it_says() -> None:
    lengths = document_lengths(100)
    assert 145 <= np.mean(lengths) <= 155
    assert 140 <= np.mean(lengths[:LISTED]) <= 150
    assert SHORTEST <= min(lengths) <= max(lengths) <= LONGEST
    first = workload(100)
    assert first == workload(100)
    assert len(set(first.documents)) == 100
    assert len(first.queries) >= 4


def test_only_a_whole_run_writes_into_the_docs() -> None:
    """Figures of a run that was cut short must not take the place of the published ones."""
    assert parsed([])[0].out.name == "docs"
    assert parsed(["--full"])[0].out.name == "docs"
    for part in (["--layers", "1"], ["--candidates", "12"], ["--rows", "E2Rank"], ["--dtype", "float32"]):
        assert parsed(part)[0].out.name == ".benchmarks"
