"""How to train: the objective, its temperatures and weights, the schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from e2rank_integrations.checks import expect_count, expect_positive
from e2rank_integrations.errors import InputError

QUERY_TEMPERATURE = 0.03
LISTWISE_TEMPERATURE = 0.1
RANKNET_WEIGHT = 2.0
_SEEDS = 2**32  # all that numpy takes
_BOUNDS = 2

Objective = Literal["retrieval", "joint", "listwise"]
"""What is trained.

- `retrieval`: the paper's stage I, InfoNCE on plain queries.
- `joint`: the paper's stage II, InfoNCE on plain queries plus RankNet on listwise prompts.
- `listwise`: an adapter for listwise prompts alone. Queries' and documents' vectors stay the base model's, so an index
  that exists keeps working, as in ANCE-PRF (arXiv 2108.13454).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Settings of a training; the defaults are the paper's for stage II (section 4.1), where it gives them.

    Attributes:
        objective: What is trained.
        epochs: How often each slate is seen.
        batch_size: Slates of a device's step, at least 1. All of a batch come from one source.
        gradient_accumulation: Batches of an optimizer step.
        learning_rate: At the peak; it falls linearly to 0.
        warmup: Share of the steps in which it rises, in [0, 1).
        infonce_weight: Weight of InfoNCE, at least 0.
        ranknet_weight: Weight of RankNet, λ in the paper, at least 0.
        query_temperature: What cosines are divided by in InfoNCE.
        listwise_temperature: What cosines are divided by in RankNet.
        blend: Share w of the plain query in the vector that `listwise` trains, `normalise(w·e_q + (1−w)·e_q̂)`, in
            [0, 1); 0 trains the prompt's vector alone. What the result blends with is its profile's query weight.
        num_input_docs: The least and the most documents of a prompt, drawn for each; None for the whole slate.
        shuffle: Share of the prompts whose documents are drawn from the whole slate, in random order, in [0, 1]; the
            others list the slate's first ones.
        lora_rank: Rank of the LoRA factors; None trains all weights, which `listwise` cannot.
        lora_layers: Layers that get them, counted from the last; None for all.
        bf16: Whether to compute in bfloat16, weights staying in float32.
        gradient_checkpointing: Whether to compute activations a second time instead of keeping them.
        save_steps: Optimizer steps between two states from which a killed training can go on.
        seed: Of every draw.
    """

    objective: Objective = "joint"
    epochs: int = 1
    batch_size: int = 8
    gradient_accumulation: int = 1
    learning_rate: float = 5e-6
    warmup: float = 0.03
    infonce_weight: float = 1.0
    ranknet_weight: float = RANKNET_WEIGHT
    query_temperature: float = QUERY_TEMPERATURE
    listwise_temperature: float = LISTWISE_TEMPERATURE
    blend: float = 0.0
    num_input_docs: tuple[int, int] | None = None
    shuffle: float = 0.0
    lora_rank: int | None = None
    lora_layers: int | None = None
    bf16: bool = False
    gradient_checkpointing: bool = False
    save_steps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise InputError(f"objective: expected one of {', '.join(get_args(Objective))}, found {self.objective!r}")
        if self.objective == "listwise" and self.lora_rank is None:
            raise InputError(
                "lora_rank: the objective 'listwise' trains an adapter that can be switched off; give its rank"
            )
        for name in ("epochs", "batch_size", "gradient_accumulation", "save_steps"):
            expect_positive(name, getattr(self, name))
        for name in ("lora_rank", "lora_layers"):
            expect_count(name, getattr(self, name))
        if self.lora_layers is not None and self.lora_rank is None:
            raise InputError("lora_layers: it says which layers get LoRA factors; give lora_rank, too, or neither")
        for name in ("learning_rate", "query_temperature", "listwise_temperature"):
            self._expect_number(name, above=0)
        for name in ("infonce_weight", "ranknet_weight", "warmup", "shuffle", "blend"):
            self._expect_number(name)
        for name, most in (("warmup", 1), ("blend", 1), ("shuffle", math.nextafter(1, 2))):
            if getattr(self, name) >= most:
                limit = "below 1" if most == 1 else "of at most 1"
                raise InputError(f"{name}: expected a share {limit}, found {getattr(self, name)!r}")
        if type(self.seed) is not int or not 0 <= self.seed < _SEEDS:
            raise InputError(f"seed: expected an integer of 32 bits, from 0, found {self.seed!r}")
        self._expect_documents()

    def _expect_number(self, name: str, *, above: float | None = None) -> None:
        value = getattr(self, name)
        least = "0" if above is None else "more than 0"
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0 or (above is not None and value <= above):
            raise InputError(f"{name}: expected a number of at least {least}, found {value!r}")

    def _expect_documents(self) -> None:
        if self.num_input_docs is None:
            return
        if not isinstance(self.num_input_docs, tuple) or len(self.num_input_docs) != _BOUNDS:
            raise InputError(f"num_input_docs: expected the least and the most, found {self.num_input_docs!r}")
        least, most = self.num_input_docs
        expect_positive("num_input_docs", least)
        expect_positive("num_input_docs", most)
        if least > most:
            raise InputError(f"num_input_docs: expected the least and the most, found {least} and {most}")
