"""The engine in this process: torch and transformers, on CPU, CUDA or MPS."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, cast, get_args
from weakref import WeakSet

import numpy as np
import torch

from e2rank_integrations.engines.batching import batches
from e2rank_integrations.engines.forward import Forward
from e2rank_integrations.engines.loading import load_model
from e2rank_integrations.engines.registry import DType
from e2rank_integrations.errors import CheckpointError, EngineMemoryError, InputError, NonFiniteError
from e2rank_integrations.threads import in_thread
from e2rank_integrations.values import Encoded, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from peft import PeftModel
    from transformers import PreTrainedModel

    from e2rank_integrations.engines.batching import Batch
    from e2rank_integrations.engines.prefixes import PrefixCache
    from e2rank_integrations.engines.registry import EngineKey
    from e2rank_integrations.values import Matrix, Role, TokenInput

# Tokens of a batch, padding included. A CPU gains nothing from more; a GPU needs them to be busy.
_CPU_BATCH_TOKENS = 2048
_GPU_BATCH_TOKENS = 32768
# Below this many tokens a GPU waits for its next kernel: better a padded row more than a forward more.
_GPU_BUSY_TOKENS = 8192


class LocalEngine:
    """Embeds with a model held in this process. Get it from `registry.local_engine`, which shares it.

    Args:
        key: What to load and how, its device and dtype settled.
    """

    def __init__(self, key: EngineKey) -> None:
        self.key = key
        self._forward: Forward | None = None
        self._load = object()  # stands for the model that is loaded now, without keeping it alive
        self._prefixes: WeakSet[PrefixCache] = WeakSet()
        self._process = os.getpid()
        self._lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle an engine, which holds weights; pickle an encoder, which names them")

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._forward is not None

    def warmup(self) -> None:
        """Load the weights, unless they are."""
        self._expect_own_process()
        with self._lock:
            self._ready()

    def close(self) -> None:
        """Free the weights for every component that shares this engine; the next call loads them again."""
        with self._lock:
            self._forward = None
            for prefixes in self._prefixes:
                prefixes.drop(self._load)
            self._load = object()
            if self.key.device.startswith("cuda"):
                torch.cuda.empty_cache()

    def encode(self, inputs: Sequence[TokenInput], prefixes: PrefixCache | None = None) -> Encoded:
        """Embed the inputs; see `Engine.encode`.

        Args:
            inputs: Of any roles and lengths.
            prefixes: Where keys and values of document blocks are kept for the next prompt, if anywhere.

        Raises:
            CheckpointError: the weights cannot be loaded.
            EngineMemoryError: out of memory with one sequence in the batch.
            InputError: prefixes are given, and the model is no causal one.
            NonFiniteError: the model returned NaN or infinity.
        """
        self._expect_own_process()
        with self._lock:  # one forward at a time: more only share the same cores
            forward = self._ready()
            _expect_causal(forward, prefixes)
            vectors = self._embedded(forward, inputs, prefixes)
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

    def _ready(self) -> Forward:
        if self._forward is None:
            self._forward = Forward.of(load_model(self.key), self.key.pooling)
        return self._forward

    def _embedded(self, forward: Forward, inputs: Sequence[TokenInput], prefixes: PrefixCache | None) -> Matrix:
        """Rows in the order of the inputs; they leave the device together, so that it never waits."""
        order: list[int] = []
        rows = [torch.empty(0, forward.model.config.hidden_size, device=forward.model.device)]
        for batch in self._batches(forward, inputs, prefixes):
            order += batch
            rows.append(self._rows(forward, [inputs[i] for i in batch], prefixes))
        vectors = np.empty((len(inputs), rows[0].shape[1]), dtype=np.float32)
        vectors[order] = torch.cat(rows).cpu().numpy()
        return vectors

    def _batches(self, forward: Forward, inputs: Sequence[TokenInput], prefixes: PrefixCache | None) -> Iterator[Batch]:
        on_cpu = self.key.device == "cpu"
        budget, busy = (_CPU_BATCH_TOKENS, 0) if on_cpu else (_GPU_BATCH_TOKENS, _GPU_BUSY_TOKENS)
        for batch in batches(inputs, tokens=budget, pad=not forward.packed, busy=busy):
            if prefixes is not None and inputs[batch[0]].role == "listwise":
                yield from ([position] for position in batch)
            else:
                yield batch

    def _rows(self, forward: Forward, batch: Sequence[TokenInput], prefixes: PrefixCache | None) -> torch.Tensor:
        """Embed one batch, halving it for as long as memory runs out."""
        try:
            with _adapted(forward.model, batch[0].role):
                if prefixes is not None and batch[0].role == "listwise":
                    return self._row_after_prefix(forward, batch[0], prefixes)
                return forward.rows([item.ids for item in batch])
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        if prefixes is not None:
            prefixes.drop(self._load)  # what was kept for later is the first to go
            return self._rows(forward, batch, None)
        if len(batch) == 1:
            raise EngineMemoryError(
                f"out of memory on {self.key.device} with one {batch[0].role} of {len(batch[0].ids)} tokens; "
                f"lower the profile's caps or use a device with more memory"
            )
        half = len(batch) // 2
        return torch.cat([self._rows(forward, part, prefixes) for part in (batch[:half], batch[half:])])

    def _row_after_prefix(self, forward: Forward, prompt: TokenInput, prefixes: PrefixCache) -> torch.Tensor:
        """Embed a prompt from where a kept document block ends; keep its own block if it is longer."""
        self._prefixes.add(prefixes)
        known, state = prefixes.longest(self._load, prompt.ids)
        past = tuple((keys[..., :known, :], values[..., :known, :]) for keys, values in state or ())
        nbytes = prompt.shared * forward.bytes_per_token()
        keep = prompt.shared if prompt.shared > known and prefixes.has_room(prompt.shared, nbytes) else 0
        row, kept = forward.row_after(prompt.ids, past, keep)
        if kept:
            prefixes.keep(self._load, prompt.ids[:keep], kept, nbytes)
        return row


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


def _expect_causal(forward: Forward, prefixes: PrefixCache | None) -> None:
    if prefixes is not None and not (forward.causal and forward.pooling == "last"):
        raise InputError(
            "prefix_cache: this model's documents see the query that follows them, so their keys and values cannot "
            "be kept for another query; leave prefix_cache out"
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The allocators of CPU, MPS and pinned memory, and cuBLAS, have no exception class of their own.
    messages = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in messages)


def _expect_finite(vectors: Matrix, inputs: Sequence[TokenInput]) -> None:
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        first = inputs[broken[0]]
        raise NonFiniteError(
            f"the model returned NaN or infinity for {len(broken)} of {len(inputs)} inputs, first for a "
            f"{first.role} of {len(first.ids)} tokens; load it in float32 or bfloat16"
        )
