"""Float32 products on a CPU by oneDNN, where it is the faster library.

torch hands them to MKL, which on some CPUs leaves AVX-512 unused. oneDNN can be had for
one model alone: its weights are laid out anew, and nothing else in the process changes.
"""

from __future__ import annotations

from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, cast

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from collections.abc import Callable

_ROWS, _WIDTH, _TRIES = 256, 1024, 8
_WORTHWHILE = 1.3
"""How many times faster it must be: the two differ by rounding, so a near tie must not decide by chance."""


class OneDNNLinear(torch.nn.Module):
    """A linear layer whose weight is laid out for oneDNN."""

    def __init__(self, source: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = source.in_features, source.out_features
        self.weight = source.weight.detach().new_empty(0)  # others read its dtype and device, not its numbers
        self.bias = None if source.bias is None else source.bias.detach()
        self._laid_out = torch.ops.mkldnn._reorder_linear_weight(source.weight.detach(), _ROWS)  # noqa: SLF001 - see `is_faster`

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As `torch.nn.Linear`."""
        out = torch.ops.mkldnn._linear_pointwise(inputs, self._laid_out, self.bias, "none", [], "")  # noqa: SLF001
        return cast("torch.Tensor", out)


def with_faster_products(model: torch.nn.Module) -> None:
    """Exchange a float32 model's linear layers for oneDNN's, if that is faster on this CPU."""
    # Not the layers themselves, which would all be held until the last is exchanged.
    parents = [module for module in model.modules() if any(map(_is_exchangeable, module.children()))]
    if not parents or not is_faster():
        return
    for parent in parents:
        for name in [name for name, child in parent.named_children() if _is_exchangeable(child)]:
            setattr(parent, name, OneDNNLinear(getattr(parent, name)))


def _is_exchangeable(module: torch.nn.Module) -> bool:
    return type(module) is torch.nn.Linear and module.weight.dtype == torch.float32


@cache
def is_faster() -> bool:
    """Whether oneDNN clearly beats torch's own choice; measured once per process, in some hundredths of a second."""
    if not _has_avx512():
        return False  # MKL uses all that there is
    layer = torch.nn.Linear(_WIDTH, _WIDTH, bias=False, device="cpu")  # a user's default may be another
    inputs = torch.ones(_ROWS, _WIDTH, device="cpu")
    with torch.inference_mode():
        try:  # torch's compiler uses these operators, but they are no public interface
            other = OneDNNLinear(layer)
            own_seconds, other_seconds = _seconds(lambda: linear(inputs, layer.weight), lambda: other(inputs))
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return False
    return own_seconds > _WORTHWHILE * other_seconds


def _has_avx512() -> bool:
    return hasattr(torch.cpu, "get_capabilities") and bool(torch.cpu.get_capabilities().get("avx512_f"))


def _seconds(*calls: Callable[[], torch.Tensor]) -> list[float]:
    """The best time of each call, tried in turn, so that a busy moment meets them all."""
    times = [[_timed(call) for call in calls] for _ in range(_TRIES)]
    return [min(column) for column in zip(*times, strict=True)]


def _timed(call: Callable[[], torch.Tensor]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started
