"""Float32 products on a CPU by oneDNN, where it is the faster library.

torch hands them to MKL, which on some CPUs does not use the widest instructions that are there. oneDNN can be had for
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

_ROWS, _WIDTH, _TRIES = 256, 1024, 4
_WORTHWHILE = 1.3
"""How many times faster it must be: the two differ by rounding, so a near tie must not decide by chance."""


class OneDNNLinear(torch.nn.Module):
    """A linear layer whose weight is laid out for oneDNN."""

    def __init__(self, source: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = source.in_features, source.out_features
        self.weight = source.weight.detach()[:0]  # others read its dtype and device
        self.bias = None if source.bias is None else source.bias.detach()
        self._laid_out = torch.ops.mkldnn._reorder_linear_weight(source.weight.detach(), _ROWS)  # noqa: SLF001 - see `is_faster`

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As `torch.nn.Linear`."""
        out = torch.ops.mkldnn._linear_pointwise(inputs, self._laid_out, self.bias, "none", [], "")  # noqa: SLF001
        return cast("torch.Tensor", out)


def with_faster_products(model: torch.nn.Module) -> None:
    """Exchange a float32 model's linear layers for oneDNN's, if that is faster on this CPU."""
    if not is_faster():
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear and child.weight.dtype == torch.float32:
                setattr(parent, name, OneDNNLinear(child))


@cache
def is_faster() -> bool:
    """Whether oneDNN clearly beats torch's own choice; measured once per process, in some hundredths of a second."""
    layer = torch.nn.Linear(_WIDTH, _WIDTH, bias=False)
    inputs = torch.ones(_ROWS, _WIDTH)
    with torch.inference_mode():
        try:  # torch's compiler uses these operators, but they are no public interface
            other = OneDNNLinear(layer)
            return _seconds(lambda: linear(inputs, layer.weight)) > _WORTHWHILE * _seconds(lambda: other(inputs))
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return False


def _seconds(call: Callable[[], torch.Tensor]) -> float:
    """The best of some tries, after one that warms up."""
    call()
    times = []
    for _ in range(_TRIES):
        started = perf_counter()
        call()
        times.append(perf_counter() - started)
    return min(times)
