"""What the engine does when memory runs out, numbers break, or an option makes no sense."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from e2rank_integrations.engines import local
from e2rank_integrations.engines.forward import Forward
from e2rank_integrations.engines.registry import EngineKey, local_engine
from e2rank_integrations.errors import EngineMemoryError, InputError, NonFiniteError
from e2rank_integrations.values import TokenInput
from tests.support.models import with_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from e2rank_integrations.engines.local import LocalEngine

ITEMS = [TokenInput((i, i + 1, i + 2), "document") for i in range(13)]
OUT_OF_MEMORY = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory."),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 9 GB, max allowed: 9 GB)."),
}


def hold_at_most(patch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """Let batches of more than `most` inputs run out of memory; returns the sizes that were tried."""
    rows, sizes = Forward.rows, []

    def limited(forward: Forward, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        sizes.append(len(sequences))
        if len(sequences) > most:
            raise error
        return rows(forward, sequences)

    patch.setattr(Forward, "rows", limited)
    return sizes


@pytest.mark.parametrize("device", OUT_OF_MEMORY)
@pytest.mark.parametrize("most", [1, 2, 5])
def test_out_of_memory_halves_the_batch(
    bare_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, most: int, device: str
) -> None:
    """A batch that does not fit is embedded in smaller ones: same rows, same order, same bill."""
    whole = bare_engine.encode(ITEMS)
    sizes = hold_at_most(monkeypatch, most, OUT_OF_MEMORY[device])
    halved = bare_engine.encode(ITEMS)
    np.testing.assert_allclose(halved.vectors, whole.vectors, rtol=0, atol=1e-5)
    assert halved.usage == whole.usage
    assert sum(size for size in sizes if size <= most) == len(ITEMS)


def test_one_sequence_that_does_not_fit_is_a_typed_error(
    bare_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what it was, how long, where, and what to do; the engine can be used afterwards."""
    with monkeypatch.context() as patch:
        hold_at_most(patch, 0, OUT_OF_MEMORY["cuda"])
        with pytest.raises(EngineMemoryError, match=r"on cpu with one listwise of 4 tokens; lower") as caught:
            bare_engine.encode([TokenInput((1, 2, 3, 4), "listwise")])
    assert "1, 2" not in str(caught.value)
    assert bare_engine.encode(ITEMS).vectors.shape == (13, 32)


def test_other_runtime_errors_are_not_taken_for_a_lack_of_memory(
    bare_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the model surfaces at once, as it is, without smaller batches being tried."""
    sizes = hold_at_most(monkeypatch, 0, RuntimeError("expected scalar type Float"))
    with pytest.raises(RuntimeError, match="scalar type"):
        bare_engine.encode(ITEMS)
    assert sizes == [len(ITEMS)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_an_error_and_never_a_vector(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path, value: float
) -> None:
    """NaN sorts first in a ranking, so it must not leave the engine."""
    broken = with_weights(
        bare_folder, tmp_path / "m", lambda weights: {**weights, "norm.weight": torch.full((32,), value)}
    )
    with pytest.raises(NonFiniteError, match=r"13 of 13 inputs, first for a document of 3 tokens"):
        make_engine(broken).encode(ITEMS)


def test_one_broken_row_is_found_among_sound_ones(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path
) -> None:
    """One NaN row of many is counted and named by its role and length."""

    def break_one_token(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights["embed_tokens.weight"][500] = float("nan")
        return weights

    engine = make_engine(with_weights(bare_folder, tmp_path / "m", break_one_token))
    with pytest.raises(NonFiniteError, match=r"1 of 14 inputs, first for a query of 2 tokens"):
        engine.encode([*ITEMS, TokenInput((500, 1), "query")])
    assert engine.encode(ITEMS).vectors.shape == (13, 32)


@pytest.mark.parametrize("device", ["banana", "", "cuda:-1", "cuda:99", "cpu:7", "meta", "xpu", 0, None, 1.5])
def test_a_device_that_is_not_there_is_an_input_error(bare_folder: Path, device: object) -> None:
    """Unknown names, kinds that this engine does not drive, and numbers beyond the last are refused by name."""
    with pytest.raises(InputError, match="device"):
        local_engine(EngineKey(bare_folder, "qwen3", "last", device=device))


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")
def test_mps_where_there_is_none_is_an_input_error(bare_folder: Path) -> None:
    """As CUDA on a machine without: said when asked for, not by torch in the middle of a request."""
    with pytest.raises(InputError, match="device"):
        local_engine(EngineKey(bare_folder, "qwen3", "last", device="mps"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_cuda_where_there_is_none_is_an_input_error(bare_folder: Path, device: str) -> None:
    """The message names the devices that would do."""
    with pytest.raises(InputError, match="no CUDA device; use 'cpu' or 'auto'"):
        local_engine(EngineKey(bare_folder, "qwen3", "last", device=device))


@pytest.mark.parametrize("dtype", ["float8", "fp16", "", None, torch.float32, 16])
def test_an_unknown_dtype_is_an_input_error(bare_folder: Path, dtype: object) -> None:
    """Only the four names are accepted."""
    with pytest.raises(InputError, match="dtype"):
        local_engine(EngineKey(bare_folder, "qwen3", "last", device="cpu", dtype=dtype))


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize("device", ["cpu", "mps", "cuda:0"])
def test_auto_is_never_float16(monkeypatch: pytest.MonkeyPatch, device: str, supported: bool) -> None:
    """Hardware that computes in bfloat16 gets it, other hardware float32: never a dtype that overflows."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": supported, "amx_fp16": True})
    found = local._settled_dtype("auto", device)
    assert found == ("bfloat16" if supported and device != "mps" else "float32")
