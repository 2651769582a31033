"""One forward pass: token ids in, unit rows out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, cast

import torch
from torch.nn.functional import normalize

from e2rank_integrations.engines.attention import is_causal, packs
from e2rank_integrations.engines.linear import with_faster_products
from e2rank_integrations.engines.pooling import padded, pooled, pooled_packed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from peft import PeftModel
    from transformers import PreTrainedModel

    from e2rank_integrations.profiles import Pooling

KeysValues = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values of some leading tokens by layer, each of shape (1, key heads, tokens, width of a head)."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A loaded model, and how its forwards are laid out.

    Attributes:
        model: In evaluation mode, on its device.
        pooling: How a sequence becomes one vector.
        causal: Whether no token sees what follows it.
        packed: Whether sequences are laid end to end; otherwise they are padded.
    """

    model: PreTrainedModel | PeftModel
    pooling: Pooling
    causal: bool
    packed: bool

    @classmethod
    def of(cls, model: PreTrainedModel | PeftModel, pooling: Pooling) -> Self:
        """Make a model fast on its device: on a CPU sequences are packed, where the model allows it."""
        # peft's wrapper types what is within as any module.
        inner = cast("PreTrainedModel", model.get_base_model() if hasattr(model, "get_base_model") else model)  # type: ignore[operator]
        on_cpu = model.device.type == "cpu"
        if on_cpu:
            with_faster_products(model)
        return cls(model, pooling, is_causal(inner), on_cpu and packs(inner))

    @torch.inference_mode()
    def rows(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Unit float32 rows on the model's device, shape (sequences, width)."""
        return normalize(self._packed(sequences) if self.packed else self._padded(sequences), dim=-1)

    @torch.inference_mode()
    def row_after(self, ids: Sequence[int], past: KeysValues, keep: int) -> tuple[torch.Tensor, KeysValues]:
        """Embed one sequence of which the first tokens' keys and values are at hand.

        Args:
            ids: The whole sequence.
            past: Of fewer leading tokens than `ids` has; may be empty.
            keep: Of how many leading tokens to return keys and values; none where 0.

        Returns:
            A unit row, shape (1, width), and the keys and values.
        """
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(past):
            cache.update(keys, values, layer)
        known = past[0][0].shape[-2] if past else 0
        rest = _on(self.model.device, torch.tensor([ids[known:]], device="cpu"))
        hidden = self.model(input_ids=rest, past_key_values=cache, use_cache=True).last_hidden_state
        kept = tuple(_leading(layer, keep) for layer in cache.layers) if keep else ()
        return normalize(hidden[:, -1].float(), dim=-1), kept

    def bytes_per_token(self) -> int:
        """What keys and values of one token take, of all layers."""
        config = self.model.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * config.num_key_value_heads * width * self.model.dtype.itemsize)

    def _packed(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        lengths = [len(sequence) for sequence in sequences]
        hidden = self.model(
            input_ids=torch.tensor([[id_ for sequence in sequences for id_ in sequence]], device="cpu"),
            position_ids=torch.cat([torch.arange(length, device="cpu") for length in lengths])[None],
            cu_seq_lens_q=torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device="cpu"),
        ).last_hidden_state
        return pooled_packed(hidden[0], lengths, self.pooling)

    def _padded(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        ids, mask = padded(sequences)
        full = bool(mask.all())
        ids, mask = _on(self.model.device, ids), _on(self.model.device, mask)
        hidden = self.model(input_ids=ids, attention_mask=self._mask(mask, full=full)).last_hidden_state
        return pooled(hidden, mask, self.pooling)

    def _mask(self, mask: torch.Tensor, *, full: bool) -> torch.Tensor | dict[str, None] | None:
        """What the model is told of padding; in a causal one no token sees what stands to its right."""
        if self.causal:
            # Prepared: from None, transformers would look for packed sequences, and wait for the device to do so.
            return {"full_attention": None}
        return None if full else mask.long()


def _on(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on a device; on the way to a GPU from pinned memory, so that the copy does not wait."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _leading(layer: object, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A copy of what a cache's layer holds of the first tokens; a view would keep the rest alive."""
    found = cast("torch.nn.Module", layer)  # transformers types neither tensor
    keys, values = cast("torch.Tensor", found.keys), cast("torch.Tensor", found.values)
    return keys[..., :tokens, :].clone(), values[..., :tokens, :].clone()
