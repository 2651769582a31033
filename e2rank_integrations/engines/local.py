"""The engine in this process: torch and transformers, on CPU, CUDA or MPS."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, cast, get_args

import numpy as np
import torch
from torch.nn.functional import normalize

from e2rank_integrations.engines.batching import batches
from e2rank_integrations.engines.loading import load_model
from e2rank_integrations.engines.pooling import padded, pooled
from e2rank_integrations.engines.registry import DType
from e2rank_integrations.errors import CheckpointError, EngineMemoryError, InputError, NonFiniteError
from e2rank_integrations.threads import in_thread
from e2rank_integrations.values import Encoded, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from peft import PeftModel
    from transformers import PreTrainedModel

    from e2rank_integrations.engines.registry import EngineKey
    from e2rank_integrations.profiles import Pooling
    from e2rank_integrations.values import Matrix, Role, TokenInput

# Tokens of a batch, padding included. A CPU gains nothing from more; a GPU needs them to be busy.
_CPU_BATCH_TOKENS = 2048
_GPU_BATCH_TOKENS = 32768


class LocalEngine:
    """Embeds with a model held in this process. Get it from `registry.local_engine`, which shares it.

    Args:
        key: What to load and how, its device and dtype settled.
    """

    def __init__(self, key: EngineKey) -> None:
        self.key = key
        self._model: PreTrainedModel | PeftModel | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._model is not None

    def warmup(self) -> None:
        """Load the weights, unless they are."""
        self._expect_own_process()
        with self._lock:
            self._ready()

    def close(self) -> None:
        """Free the weights for every component that shares this engine; the next call loads them again."""
        with self._lock:
            self._model = None
            if self.key.device.startswith("cuda"):
                torch.cuda.empty_cache()

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """Embed the inputs; see `Engine.encode`.

        Raises:
            CheckpointError: the weights cannot be loaded.
            EngineMemoryError: out of memory with one sequence in the batch.
            NonFiniteError: the model returned NaN or infinity.
        """
        self._expect_own_process()
        with self._lock:  # one forward at a time: more only share the same cores
            model = self._ready()
            vectors = np.empty((len(inputs), model.config.hidden_size), dtype=np.float32)
            on_gpu = self.key.device != "cpu"
            budget = _GPU_BATCH_TOKENS if on_gpu else _CPU_BATCH_TOKENS
            for batch in batches(inputs, tokens=budget, pad=on_gpu):
                vectors[batch] = self._embed(model, [inputs[i] for i in batch])
        _expect_finite(vectors, inputs)
        return Encoded(vectors, Usage.of(inputs))

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        """As `encode`, in one of the package's threads."""
        return await in_thread(self.encode, inputs)

    def _expect_own_process(self) -> None:
        # On a CPU, too: a child would wait for ever for torch's threads, or for the lock that one of them held.
        if os.getpid() != self._process:
            raise CheckpointError(
                "this process was forked after the engine was made, and neither CUDA nor torch's threads survive "
                "a fork; start workers with the 'spawn' method, or fork before the first use"
            )

    def _ready(self) -> PreTrainedModel | PeftModel:
        if self._model is None:
            self._model = load_model(self.key)
        return self._model

    def _embed(self, model: PreTrainedModel | PeftModel, batch: Sequence[TokenInput]) -> Matrix:
        """Embed one batch, halving it for as long as memory runs out."""
        try:
            with _adapted(model, batch[0].role):
                return _forward(model, batch, self.key.pooling)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        if len(batch) == 1:
            raise EngineMemoryError(
                f"out of memory on {self.key.device} with one {batch[0].role} of {len(batch[0].ids)} tokens; "
                f"lower the profile's caps or use a device with more memory"
            )
        half = len(batch) // 2
        return np.concatenate([self._embed(model, batch[:half]), self._embed(model, batch[half:])])


def settled(key: EngineKey) -> EngineKey:
    """The key with `auto` resolved, so that asking by default and by name finds the same engine.

    Raises:
        InputError: the device is unknown or not there.
    """
    device = _settled_device(key.device)
    return replace(key, device=device, dtype=_settled_dtype(key.dtype, device))


def _settled_device(name: str) -> str:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(str(name))
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in {"cpu", "cuda", "mps"} or (device.type != "cuda" and device.index):
        raise InputError(f"device: expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', found {name!r}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device: 'mps' was asked for, but this machine has none; use 'cpu' or 'auto'")
    return f"cuda:{_cuda_index(device)}" if device.type == "cuda" else device.type


def _cuda_index(device: torch.device) -> int:
    if not torch.cuda.is_available():
        raise InputError("device: 'cuda' was asked for, but torch sees no CUDA device; use 'cpu' or 'auto'")
    index = torch.cuda.current_device() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise InputError(f"device: 'cuda:{index}' was asked for, but there are {torch.cuda.device_count()}")
    return index


def _settled_dtype(dtype: DType, device: str) -> DType:
    if dtype not in get_args(DType):
        raise InputError(f"dtype: expected one of {', '.join(get_args(DType))}, found {dtype!r}")
    if dtype != "auto":
        return dtype
    return "bfloat16" if _computes_bfloat16(device) else "float32"


def _computes_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def _adapted(model: PreTrainedModel | PeftModel, role: Role) -> AbstractContextManager[None]:
    """Switch a listwise adapter off for everything but prompts; a batch holds one role."""
    if role == "listwise" or not hasattr(model, "disable_adapter"):
        return nullcontext()
    off: AbstractContextManager[None] = cast("PeftModel", model).disable_adapter()
    return off


@torch.inference_mode()
def _forward(model: PreTrainedModel | PeftModel, batch: Sequence[TokenInput], pooling: Pooling) -> Matrix:
    """Unit float32 rows of one batch, padded on the right where lengths differ."""
    ids, mask = padded([item.ids for item in batch])
    whole = bool(mask.all())
    ids, mask = ids.to(model.device), mask.to(model.device)
    hidden = model(input_ids=ids, attention_mask=None if whole else mask.long()).last_hidden_state
    rows: Matrix = normalize(pooled(hidden.float(), mask, pooling), dim=-1).cpu().numpy()
    return rows


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The allocators of CPU and MPS have no exception class of their own.
    messages = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in messages)


def _expect_finite(vectors: Matrix, inputs: Sequence[TokenInput]) -> None:
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        first = inputs[broken[0]]
        raise NonFiniteError(
            f"the model returned NaN or infinity for {len(broken)} of {len(inputs)} inputs, first for a "
            f"{first.role} of {len(first.ids)} tokens; load it in float32 or bfloat16"
        )
