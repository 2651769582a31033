"""One engine per process for the same weights in the same form, however many components ask for it."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from e2rank_integrations.engines.local import LocalEngine
    from e2rank_integrations.profiles import Pooling

DType = Literal["auto", "float32", "bfloat16", "float16"]
"""In what numbers a model computes; `auto` is bfloat16 where the hardware computes in it, else float32."""


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What makes two engines the same.

    Attributes:
        folder: The checkpoint's files, links resolved; a hub revision has a folder of its own.
        architecture: The `model_type` that its config must state; None for any.
        pooling: How a sequence becomes one vector.
        adapter: Folder of a LoRA adapter that is merged into the weights, or None.
        listwise_adapter: Folder of a LoRA adapter that is switched on for listwise prompts alone, or None.
        dtype: `auto` is bfloat16 where the hardware computes in it, else float32.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; `auto` is the first that is there of cuda, mps, cpu.
    """

    folder: Path
    architecture: str | None
    pooling: Pooling
    adapter: str | None = None
    listwise_adapter: str | None = None
    dtype: DType = "auto"
    device: str = "auto"


_engines: dict[EngineKey, LocalEngine] = {}
_lock = threading.Lock()


def local_engine(key: EngineKey) -> LocalEngine:
    """The process's engine for a key; its weights are loaded on first use."""
    from e2rank_integrations.engines.local import LocalEngine, settled

    key = settled(key)
    with _lock:
        if key not in _engines:
            _engines[key] = LocalEngine(key)
        return _engines[key]


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
