"""Attention on a CPU over sequences laid end to end: no padding, no mask, and causal attention in blocks.

Registered through transformers' own `AttentionInterface`. Where one forward holds several sequences, their bounds come
under the name that transformers gives them for FlashAttention, `cu_seq_lens_q`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "e2rank_packed"

# A block's scores should stay in a core's cache: a block of 64 rows over 1,024 keys is half a megabyte for two heads.
_SHORT, _SHORT_BLOCK, _LONG_BLOCK = 1024, 64, 256


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each of the sequences of one row.

    Args:
        module: Says by `is_causal` whether a token sees what follows it.
        query: Shape (1, heads, tokens, width of a head).
        key: Shape (1, key heads, tokens, width of a head); longer than `query` where keys of a prefix come first.
        value: As `key`.
        _mask: Nothing: what a token sees follows from the bounds.
        scaling: What the scores are multiplied with.
        cu_seq_lens_q: Where sequences begin and end, from 0 to the number of tokens; None for one sequence.

    Returns:
        Shape (1, tokens, heads, width of a head), and no weights.
    """
    if len(query) > 1 or _mask is not None:
        raise ValueError("sequences are laid end to end in one row; rows or a mask need another attention")
    q, k, v = query[0], key[0], value[0]
    causal = bool(module.is_causal)
    if cu_seq_lens_q is None:
        return _attended(q, k, v, scaling, causal=causal).transpose(0, 1)[None], None
    parts = [
        _attended(q[:, start:end], k[:, start:end], v[:, start:end], scaling, causal=causal)
        for start, end in pairwise(cu_seq_lens_q.tolist())
    ]
    return torch.cat(parts, dim=1).transpose(0, 1)[None], None


def _attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, *, causal: bool) -> torch.Tensor:
    """Attention of one sequence, shapes (heads, tokens, width of a head)."""
    whole = q.shape[1] == k.shape[1]
    # In float32 torch's own kernel keeps up with the blocks on long sequences, and needs less memory.
    if causal and not (whole and q.dtype == torch.float32 and q.shape[1] > _SHORT):
        return _in_blocks(q, k, v, scaling)
    return scaled_dot_product_attention(q[None], k[None], v[None], is_causal=causal, scale=scaling, enable_gqa=True)[0]


def _in_blocks(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float) -> torch.Tensor:
    """Causal attention, some rows of queries at a time, each over no more keys than its last row sees."""
    (heads, tokens, width), (key_heads, seen, _) = q.shape, k.shape
    size = _SHORT_BLOCK if seen <= _SHORT else _LONG_BLOCK
    # Scores in float32 whatever the dtype, as torch's kernel has them: in bfloat16 a score of 30 is off by .06.
    # The heads that share keys are rows of one product.
    grouped = (q.float() * scaling).view(key_heads, heads // key_heads, tokens, width)
    keys = k.float().transpose(1, 2)
    out = torch.empty(grouped.shape, dtype=v.dtype, device=v.device)
    scores = grouped.new_empty(heads * min(size, tokens) * seen)
    future = torch.full((size, size), -torch.inf, device=q.device).triu(1)
    for start in range(0, tokens, size):
        end = min(start + size, tokens)
        rows, last = end - start, seen - tokens + end
        block = scores[: heads * rows * last].view(key_heads, -1, last)
        torch.bmm(grouped[:, :, start:end].reshape(key_heads, -1, width), keys[..., :last], out=block)
        block.view(key_heads, -1, rows, last)[..., last - rows :] += future[:rows, :rows]
        weights = torch.softmax(block, dim=-1).to(v.dtype)
        out[:, :, start:end] = torch.bmm(weights, v[:, :last]).view(key_heads, -1, rows, width)
    return out.view(heads, tokens, width)


def is_causal(model: PreTrainedModel) -> bool:
    """Whether no token of the model sees what follows it, so that padding on the right changes nothing."""
    config = model.config
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    return config.model_type == "qwen3" and getattr(config, "is_causal", True) and set(layers) == {"full_attention"}


def packs(model: PreTrainedModel) -> bool:
    """Make a model attend within packed sequences, if it is one of those known to read positions as they are given."""
    from transformers import AttentionInterface

    if not (is_causal(model) or _is_plain_bert(model)) or not getattr(model, "_supports_attention_backend", False):
        return False
    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)
    return bool(model.config._attn_implementation == NAME)  # noqa: SLF001 - where it cannot be set, there is but a warning


def _is_plain_bert(model: PreTrainedModel) -> bool:
    config = model.config
    positions = getattr(config, "position_embedding_type", "absolute")
    return config.model_type == "bert" and not config.is_decoder and positions == "absolute"
