"""LoRA adapters: merged as their own library merges them, or refused."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import Qwen3ForCausalLM, Qwen3Model

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines.registry import EngineKey, local_engine
from e2rank_integrations.errors import CheckpointError
from e2rank_integrations.values import TokenInput
from tests.support.models import reference_embed, save_bare_qwen3, with_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2rank_integrations.engines.local import LocalEngine

peft = pytest.importorskip("peft", reason="the adapter extra is not installed")
pytestmark = [
    # peft still asks transformers for an attribute under its old name.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    # It warns where this package must refuse, and a user's program does not turn warnings into errors.
    pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning"),
]

ITEMS = [TokenInput((1, 2, 3), "document"), TokenInput((9, 8, 7, 6, 5), "query")]


def save_adapter(model: torch.nn.Module, folder: Path) -> Path:
    """Write a LoRA adapter whose both factors are random, so that it changes every vector."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def base_model(folder: Path) -> Qwen3Model:
    return Qwen3Model.from_pretrained(folder, dtype=torch.float32)


def causal_model(folder: Path) -> Qwen3ForCausalLM:
    """The same encoder inside a language model, as a training script may load it."""
    base = base_model(folder)
    causal = Qwen3ForCausalLM(base.config)
    causal.model.load_state_dict(base.state_dict())
    return causal


@pytest.fixture(scope="module")
def adapter(bare_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(base_model(bare_folder), tmp_path_factory.mktemp("adapter"))


def test_a_merged_adapter_computes_what_peft_computes(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, adapter: Path
) -> None:
    """With the adapter the vectors are those of peft's own unmerged model to 1e-5, and far from the base's."""
    tuned = peft.PeftModel.from_pretrained(base_model(bare_folder), str(adapter)).eval()
    expected = reference_embed(tuned, [item.ids for item in ITEMS], "left", pad=0).numpy()
    found = make_engine(adapter=str(adapter)).encode(ITEMS).vectors
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(found - make_engine().encode(ITEMS).vectors).max() > 0.01


def test_an_adapter_makes_an_engine_and_a_fingerprint_of_its_own(qwen_folder: Path, tmp_path: Path) -> None:
    """Base and adapted model share neither weights nor an index, and two spellings of one adapter share both."""
    adapter = save_adapter(base_model(qwen_folder), tmp_path / "adapter")
    (tmp_path / "link").symlink_to(adapter)
    base, adapted, linked = (
        E2RankEncoder(str(qwen_folder), adapter=path, device="cpu", dtype="float32")
        for path in (None, str(adapter), str(tmp_path / "link"))
    )
    assert adapted.engine is linked.engine
    assert adapted.engine is not base.engine
    assert adapted.fingerprint.differences(base.fingerprint) == ["adapter"]
    assert adapted.fingerprint.differences(linked.fingerprint) == []


def test_loading_an_adapter_leaves_the_base_engine_alone(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, adapter: Path
) -> None:
    """The base model's vectors are the same before and after an adapted engine was loaded beside it."""
    base = make_engine()
    before = base.encode(ITEMS).vectors
    make_engine(adapter=str(adapter)).encode(ITEMS)
    np.testing.assert_array_equal(base.encode(ITEMS).vectors, before)


def test_an_adapter_trained_on_the_causal_model_is_used_or_refused(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path
) -> None:
    """Its tensors carry one prefix more. peft would warn and run with fresh, random or void, factors."""
    folder = save_adapter(causal_model(bare_folder), tmp_path / "adapter")
    tuned = peft.PeftModel.from_pretrained(causal_model(bare_folder), str(folder)).eval()
    expected = reference_embed(tuned.base_model.model.model, [item.ids for item in ITEMS], "left", pad=0).numpy()
    try:
        found = make_engine(adapter=str(folder)).encode(ITEMS).vectors
    except CheckpointError:
        return
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def deeper(folder: Path, bare_folder: Path) -> Path:
    return save_adapter(base_model(save_bare_qwen3(folder / "base", layers=3)), folder / "adapter")


def wider(folder: Path, bare_folder: Path) -> Path:
    return save_adapter(base_model(save_bare_qwen3(folder / "base", width=64)), folder / "adapter")


def without_weights(folder: Path, bare_folder: Path) -> Path:
    save_adapter(base_model(bare_folder), folder / "adapter")
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    return folder / "adapter"


def without_config(folder: Path, bare_folder: Path) -> Path:
    save_adapter(base_model(bare_folder), folder / "adapter")
    (folder / "adapter" / "adapter_config.json").unlink()
    return folder / "adapter"


def pickled(folder: Path, bare_folder: Path) -> Path:
    weights = without_weights(folder, bare_folder)
    torch.save({}, weights / "adapter_model.bin")
    return weights


def missing(folder: Path, bare_folder: Path) -> Path:
    return folder / "nowhere"


@pytest.mark.parametrize("broken", [deeper, wider, without_weights, without_config, pickled, missing])
def test_an_adapter_that_does_not_fit_is_refused(
    make_engine: Callable[..., LocalEngine],
    bare_folder: Path,
    tmp_path: Path,
    broken: Callable[[Path, Path], Path],
) -> None:
    """Of another depth or width, incomplete, pickled or absent: an error of this package, never the base model."""
    engine = make_engine(adapter=str(broken(tmp_path, bare_folder)))
    with pytest.raises(CheckpointError):
        engine.warmup()
    assert not engine.loaded


def test_an_adapter_with_a_tensor_missing_is_refused(
    make_engine: Callable[..., LocalEngine], adapter: Path, tmp_path: Path
) -> None:
    """Half an adapter is none."""
    folder = tmp_path / "half"
    shutil.copytree(adapter, folder)
    shutil.move(folder / "adapter_model.safetensors", folder / "model.safetensors")
    half = with_weights(folder, tmp_path / "cut", lambda weights: dict(sorted(weights.items())[1:]))
    shutil.move(half / "model.safetensors", half / "adapter_model.safetensors")
    with pytest.raises(CheckpointError):
        make_engine(adapter=str(half)).warmup()


def test_a_missing_adapter_has_no_fingerprint(qwen_folder: Path, tmp_path: Path) -> None:
    """An index is never marked with the digest of files that are not there."""
    encoder = E2RankEncoder(str(qwen_folder), adapter=str(tmp_path / "nowhere"), device="cpu", dtype="float32")
    with pytest.raises(CheckpointError):
        _ = encoder.fingerprint


def test_engines_are_told_apart_by_their_adapter(bare_folder: Path) -> None:
    """The registry keys on the adapter."""
    keys = [EngineKey(bare_folder, "qwen3", "last", adapter=name, device="cpu") for name in (None, "/a", "/b")]
    assert len({id(local_engine(key)) for key in keys}) == 3
