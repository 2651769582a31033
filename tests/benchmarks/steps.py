"""What each step of the engine gains by itself on this machine: `python -m tests.benchmarks.steps`; two minutes.

Each table times its variants in turn, checks that they computed the same, and gives the median with low and high.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import Qwen3Model

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines.attention import attend
from e2rank_integrations.engines.batching import batches
from e2rank_integrations.engines.forward import Forward
from e2rank_integrations.engines.linear import OneDNNLinear
from e2rank_integrations.values import TokenInput
from tests.support.models import qwen3_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Variants = Mapping[str, Callable[[], torch.Tensor]]

ROUNDS = 5


def timed(variants: Variants, *, rounds: int = ROUNDS, tolerance: float = 1e-4) -> dict[str, list[float]]:
    """Seconds of each variant by round, after one that warms up and is compared with the first variant's output."""
    outputs = {name: call() for name, call in variants.items()}
    first, *others = outputs.values()
    for other in others:
        torch.testing.assert_close(other.float(), first.float(), rtol=0, atol=tolerance)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, call in variants.items():
            started = perf_counter()
            call()
            seconds[name].append(perf_counter() - started)
    return seconds


def show(title: str, seconds: Mapping[str, Sequence[float]], work: float = 0) -> None:
    """Milliseconds, the ratio to the first variant by round, and the rate where the work is known (in GFLOP)."""
    print(f"\n{title}")
    base = next(iter(seconds.values()))
    for name, column in seconds.items():
        ratios = [one / other for one, other in zip(base, column, strict=True)]
        rate = f"  {work / median(column):6.0f} GFLOP/s" if work else ""
        spread = f"{median(ratios):5.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  {name:34} {1000 * median(column):9.1f} ms  {spread}{rate}")


def products() -> None:
    """Linear layers of the 0.6B's width in float32, by torch's own choice and by oneDNN, and in bfloat16."""
    for rows in (16, 150, 2048):
        inputs, layer = torch.randn(rows, 1024), torch.nn.Linear(1024, 3072, bias=False)
        other, half = OneDNNLinear(layer), layer.weight.bfloat16()
        variants = {
            "float32, torch's own": lambda inputs=inputs, layer=layer: linear(inputs, layer.weight),
            "float32, oneDNN": lambda inputs=inputs, other=other: other(inputs),
            "bfloat16": lambda inputs=inputs, half=half: linear(inputs.bfloat16(), half),
        }
        show(
            f"a product of {rows} x 1,024 with 1,024 x 3,072", timed(variants, tolerance=0.1), rows * 1024 * 3072 * 2e-9
        )


def attention() -> None:
    """Causal attention of one sequence: 16 heads of 128, 8 key heads, float32."""
    for tokens in (150, 512, 1024, 3000):
        parts = [torch.randn(1, tokens, heads, 128).transpose(1, 2) for heads in (16, 8, 8)]
        variants = {
            "torch's kernel": lambda parts=parts: by_torch(*parts),
            "the engine's": lambda parts=parts: attend(SimpleNamespace(is_causal=True), *parts, None, scaling=0.088)[0],
        }
        show(f"attention over {tokens} tokens, float32", timed(variants), 2 * tokens**2 * 16 * 128 * 1e-9)


def by_torch(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.088, enable_gqa=True).transpose(1, 2)


def layouts() -> None:
    """Documents of mixed length: one a forward, padded as sentence-transformers does, padded to like length, packed."""
    config = qwen3_config(layers=2, width=1024, vocabulary=30000)
    config.update({"num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072})
    embedded = E2RankEncoder.embedded(device="cpu", dtype="float32")
    embedded.warmup()
    models = {
        "the 0.6B's width, 2 layers, mean 150 tokens": (Forward.of(Qwen3Model(config).eval(), "last"), 150, 40),
        "the embedded default, mean 60 tokens": (embedded.engine._forward, 60, 120),
    }
    for name, (forward, mean, count) in models.items():
        items = documents(count, mean)
        show(f"{count} documents on {name}", timed(ways(forward, items), rounds=3))


def documents(count: int, mean: int) -> list[TokenInput]:
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(mean) - 0.18, 0.6, count), 8, 500).astype(int)
    return [TokenInput(tuple(random.integers(1000, 20000, length).tolist()), "document") for length in lengths]


def ways(forward: Forward, items: Sequence[TokenInput]) -> Variants:
    """The same documents through one model, laid out in four ways."""
    by_length = sorted(range(len(items)), key=lambda i: -len(items[i].ids))
    groups = {
        "one document a forward": [[i] for i in by_length],
        "padded, 32 a batch": [by_length[i : i + 32] for i in range(0, len(items), 32)],
        "padded, of like length": list(batches(items, tokens=2048, pad=True)),
        "packed": list(batches(items, tokens=2048, pad=False)),
    }
    return {
        name: lambda group=group, name=name: embedded(forward, items, group, packed=not name.startswith("padded"))
        for name, group in groups.items()
    }


def embedded(
    forward: Forward, items: Sequence[TokenInput], groups: Sequence[Sequence[int]], *, packed: bool
) -> torch.Tensor:
    forward.model.set_attn_implementation("e2rank_packed" if packed else "sdpa")
    laid_out = Forward(forward.model, forward.pooling, forward.causal, packed)
    rows = torch.cat([laid_out.rows([items[i].ids for i in group]) for group in groups])
    return rows[torch.tensor([i for group in groups for i in group]).argsort()]


def main() -> None:
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    with torch.inference_mode():
        products()
        attention()
    layouts()


if __name__ == "__main__":
    main()
