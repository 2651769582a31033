"""How many floating point operations the model needs, counted from its config."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import Qwen3Config


def forward_flops(config: Qwen3Config, lengths: Iterable[int]) -> int:
    """Operations of embedding sequences without padding; a multiplication and an addition count as two.

    For one layer and a sequence of n tokens, with width w, intermediate width i, h heads and g key heads of width d:

    - linear layers, 2 operations per weight and token: n · 2 · (w·h·d + 2·w·g·d + h·d·w + 3·w·i)
      (queries, keys and values, output, and the three of the MLP);
    - causal attention, where the token at place t sees t tokens: scores and weighted sum are each
      2·h·d·(1 + 2 + … + n) = h·d·n·(n + 1).

    All layers are counted alike and in full. Norms, rotations, the softmax and the look-up of embeddings are left out:
    they are no matrix products, and the share of the matmul peak is what this is for.
    """
    return config.num_hidden_layers * sum(_layer_flops(config, length) for length in lengths)


def _layer_flops(config: Qwen3Config, tokens: int) -> int:
    width, inner = config.hidden_size, config.intermediate_size
    heads, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    linears = 2 * (width * heads + 2 * width * keys + heads * width + 3 * width * inner)
    return tokens * linears + 2 * heads * tokens * (tokens + 1)
