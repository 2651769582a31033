"""Settings refuse what cannot be trained with, before any work."""

from __future__ import annotations

import math
from typing import Any

import pytest

from e2rank_integrations.errors import InputError
from e2rank_integrations.training.settings import TrainSettings

BAD = [
    {"objective": "both"},
    {"objective": "listwise"},  # without a rank
    {"lora_rank": 0},
    {"lora_rank": 2.0},
    {"lora_layers": 1},  # without a rank
    {"lora_rank": 2, "lora_layers": 0},
    {"epochs": 0},
    {"batch_size": 0},
    {"batch_size": True},
    {"gradient_accumulation": -1},
    {"save_steps": None},
    {"learning_rate": 0},
    {"learning_rate": math.nan},
    {"learning_rate": math.inf},
    {"learning_rate": "fast"},
    {"query_temperature": 0.0},
    {"listwise_temperature": -0.1},
    {"infonce_weight": -1},
    {"ranknet_weight": math.nan},
    {"warmup": 1},
    {"blend": 1.0},
    {"shuffle": 1.5},
    {"num_input_docs": (0, 3)},
    {"num_input_docs": (4, 3)},
    {"num_input_docs": (3,)},
    {"num_input_docs": 3},
    {"seed": -1},
    {"seed": 2**32},
    {"seed": 0.5},
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: "-".join(f"{name}={value}" for name, value in bad.items()))
def test_a_bad_setting_is_named(bad: dict[str, Any]) -> None:
    """The error is this package's, and its message begins with the setting."""
    names = {"objective": "lora_rank"} if bad.get("objective") == "listwise" else {}
    with pytest.raises(InputError) as caught:
        TrainSettings(**bad)
    assert str(caught.value).partition(":")[0] in {*bad, *names.values()}


def test_the_defaults_are_the_papers_for_stage_two() -> None:
    """Section 4.1 and the reference's script: λ = 2, temperatures .03 and .1, 5e-6, 3 % warm-up, one epoch of 8."""
    found = TrainSettings()
    assert (found.objective, found.ranknet_weight, found.infonce_weight) == ("joint", 2.0, 1.0)
    assert (found.query_temperature, found.listwise_temperature) == (0.03, 0.1)
    assert (found.learning_rate, found.warmup, found.epochs, found.batch_size) == (5e-6, 0.03, 1, 8)
    assert (found.lora_rank, found.num_input_docs, found.shuffle) == (None, None, 0.0)


def test_the_limits_themselves_are_allowed() -> None:
    """A share of all mixed prompts, no weight of one part, one document listed."""
    TrainSettings(shuffle=1.0, infonce_weight=0, num_input_docs=(1, 1), warmup=0.0, seed=2**32 - 1)
