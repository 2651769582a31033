"""The same contracts on a GPU, where batches are padded. Skipped where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from e2rank_integrations.engines.prefixes import PrefixCache, PrefixedEngine
from e2rank_integrations.engines.registry import EngineKey, local_engine
from e2rank_integrations.values import TokenInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2rank_integrations.engines.local import LocalEngine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def mixed_inputs() -> list[TokenInput]:
    """Documents of many lengths, two prompts, a query."""
    generator = np.random.default_rng(0)
    lengths = [*generator.integers(1, 300, 40).tolist(), 2000, 3000, 12]
    roles = [*["document"] * 40, "listwise", "listwise", "query"]
    return [
        TokenInput(tuple(generator.integers(0, 512, n).tolist()), role) for n, role in zip(lengths, roles, strict=True)
    ]


@pytest.fixture
def full_precision() -> None:
    """Float32 products in float32, as on the CPU."""
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.usefixtures("full_precision")
def test_a_gpu_agrees_with_the_cpu(make_engine: Callable[..., LocalEngine], bare_engine: LocalEngine) -> None:
    """In float32 the padded batches of a GPU give the CPU's rows to 1e-4."""
    items = mixed_inputs()
    found = make_engine(device="cuda:0").encode(items).vectors
    np.testing.assert_allclose(found, bare_engine.encode(items).vectors, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("full_precision")
def test_on_a_gpu_neighbours_change_no_result(make_engine: Callable[..., LocalEngine]) -> None:
    """In float32 a row does not depend on what shares its batch, to 1e-5."""
    items = mixed_inputs()
    engine = make_engine(device="cuda:0")
    alone = np.concatenate([engine.encode([item]).vectors for item in items])
    np.testing.assert_allclose(engine.encode(items).vectors, alone, rtol=0, atol=1e-5)


def test_bfloat16_stays_near_float32(make_engine: Callable[..., LocalEngine], bare_engine: LocalEngine) -> None:
    """The default dtype of a GPU moves no cosine of this small model by more than a percent."""
    items = mixed_inputs()
    found = make_engine(device="cuda:0", dtype="bfloat16").encode(items).vectors
    cosines = (found * bare_engine.encode(items).vectors).sum(axis=1)
    assert cosines.min() > 0.99


@pytest.mark.usefixtures("full_precision")
def test_a_follow_up_on_a_gpu_gets_the_same_vector(
    make_engine: Callable[..., LocalEngine], bare_engine: LocalEngine
) -> None:
    """Keys and values kept on the device serve another query, in float32 to 1e-4 of the CPU."""
    block = tuple(np.random.default_rng(1).integers(0, 512, 500).tolist())
    prompts = [TokenInput((*block, *query), "listwise", shared=500) for query in ((1, 2), (3, 4, 5))]
    engine = PrefixedEngine(make_engine(device="cuda:0"), PrefixCache(10_000_000))
    found = np.concatenate([engine.encode([item]).vectors for item in prompts])
    assert engine.prefixes.hits == 1
    np.testing.assert_allclose(found, bare_engine.encode(prompts).vectors, rtol=0, atol=1e-4)


def test_cuda_without_a_number_is_the_current_device(bare_folder: Path) -> None:
    """`cuda`, `auto` and the number share one engine."""
    keys = [EngineKey(bare_folder, "qwen3", "last", device=name) for name in ("auto", "cuda", "cuda:0")]
    assert len({id(local_engine(key)) for key in keys}) == 1


def test_close_gives_the_memory_back(make_engine: Callable[..., LocalEngine]) -> None:
    """After `close` the device holds no more than before the load."""
    engine = make_engine(device="cuda:0")
    engine.encode(mixed_inputs())  # the libraries' own workspaces stay
    engine.close()
    before = torch.cuda.memory_allocated()
    engine.encode(mixed_inputs())
    assert torch.cuda.memory_allocated() > before
    engine.close()
    assert torch.cuda.memory_allocated() <= before
