"""Exactly the weights of the file, or an error: no pickle, no remote code, no layer left random."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines.loading import load_model
from e2rank_integrations.errors import CheckpointError, E2RankError
from e2rank_integrations.values import TokenInput
from tests.support.models import save_bare_causal_qwen3, with_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from e2rank_integrations.engines.local import LocalEngine
    from tests.support.models import Weights

ONE = [TokenInput((1, 2, 3), "document")]


def with_config(source: Path, target: Path, **changes: object) -> Path:
    """Copy a checkpoint and change entries of its config."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **changes}))
    return target


def one_missing(weights: Weights) -> Weights:
    return {name: tensor for name, tensor in weights.items() if name != "layers.1.mlp.up_proj.weight"}


def without_final_norm(weights: Weights) -> Weights:
    return {name: tensor for name, tensor in weights.items() if name != "norm.weight"}


def wrong_prefix(weights: Weights) -> Weights:
    return {f"transformer.{name}": tensor for name, tensor in weights.items()}


def one_layer_more(weights: Weights) -> Weights:
    more = {name.replace("layers.1.", "layers.2."): tensor.clone() for name, tensor in weights.items()}
    return {**more, **weights}


def one_unexpected(weights: Weights) -> Weights:
    return {**weights, "score.weight": torch.zeros(2, 32)}


def another_shape(weights: Weights) -> Weights:
    return {**weights, "norm.weight": torch.ones(33)}


@pytest.mark.parametrize(
    "change", [one_missing, without_final_norm, wrong_prefix, one_layer_more, one_unexpected, another_shape]
)
def test_weights_that_are_not_exactly_the_models_are_refused(
    make_engine: Callable[..., LocalEngine],
    bare_folder: Path,
    tmp_path: Path,
    change: Callable[[Weights], Weights],
) -> None:
    """Missing, left over, renamed or misshapen tensors are an error: transformers would run with random layers."""
    engine = make_engine(with_weights(bare_folder, tmp_path / "m", change))
    with pytest.raises(CheckpointError):
        engine.warmup()
    assert not engine.loaded


def test_the_message_names_a_missing_weight(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path
) -> None:
    """A user can see which tensor the file lacks."""
    with pytest.raises(CheckpointError, match=r"1 missing \(layers\.1\.mlp\.up_proj\.weight"):
        make_engine(with_weights(bare_folder, tmp_path / "m", one_missing)).warmup()


def test_a_language_models_head_and_prefix_are_no_fault(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path
) -> None:
    """A checkpoint saved as a causal model, `lm_head.weight` included, gives the same vectors."""

    def as_causal(weights: Weights) -> Weights:
        causal = {f"model.{name}": tensor for name, tensor in weights.items()}
        return {**causal, "lm_head.weight": torch.zeros(512, 32)}

    found = make_engine(with_weights(bare_folder, tmp_path / "m", as_causal)).encode(ONE).vectors
    np.testing.assert_array_equal(found, make_engine().encode(ONE).vectors)


def test_a_causal_checkpoint_loads_its_own_encoder(make_engine: Callable[..., LocalEngine], tmp_path: Path) -> None:
    """What `Qwen3ForCausalLM.save_pretrained` writes is a checkpoint of the family."""
    folder = save_bare_causal_qwen3(tmp_path / "m", seed=3)
    model = load_model(make_engine(folder).key)
    expected = load_file(folder / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    torch.testing.assert_close(model.layers[0].mlp.up_proj.weight.detach(), expected, rtol=0, atol=0)


def test_old_buffers_are_no_fault(make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path) -> None:
    """Buffers that older versions saved are not weights."""

    def with_buffers(weights: Weights) -> Weights:
        return {**weights, "layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8), "position_ids": torch.ones(4)}

    found = make_engine(with_weights(bare_folder, tmp_path / "m", with_buffers)).encode(ONE).vectors
    np.testing.assert_array_equal(found, make_engine().encode(ONE).vectors)


def test_pickled_weights_are_never_read(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path
) -> None:
    """A folder with `pytorch_model.bin` alone is refused, though transformers could unpickle it."""
    folder = tmp_path / "m"
    shutil.copytree(bare_folder, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="safetensors"):
        make_engine(folder).warmup()


def test_another_architecture_is_refused(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path
) -> None:
    """A profile made for Qwen3 does not run on something else; both names are in the message."""
    folder = with_config(bare_folder, tmp_path / "m", model_type="qwen2")
    with pytest.raises(CheckpointError, match=r"'qwen2'.*'qwen3'"):
        make_engine(folder).warmup()


def test_the_embedded_model_is_not_taken_for_e2rank() -> None:
    """all-MiniLM-L6-v2 with the profile of E2Rank is refused before it yields meaningless vectors."""
    mini = E2RankEncoder.embedded(device="cpu")
    with pytest.raises(E2RankError):
        E2RankEncoder(str(mini.checkpoint.folder), device="cpu").encode_queries(["a"])


MARKER = "from pathlib import Path\nPath(__file__).with_name('executed').touch()\n"


@pytest.mark.parametrize("model_type", ["qwen3", "something-new"])
@pytest.mark.parametrize("architecture", ["qwen3", None])
def test_code_in_a_checkpoint_is_never_executed(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path, model_type: str, architecture: str
) -> None:
    """A config that points to Python files of the checkpoint is loaded without them, or refused."""
    auto_map = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoModelForCausalLM": "evil.Model"}
    folder = with_config(bare_folder, tmp_path / "m", model_type=model_type, auto_map=auto_map)
    (folder / "evil.py").write_text(MARKER + "class Config: ...\nclass Model: ...\n")
    (folder / "__init__.py").write_text(MARKER)
    engine = make_engine(folder, architecture=architecture)
    if model_type == "qwen3":
        np.testing.assert_array_equal(engine.encode(ONE).vectors, make_engine().encode(ONE).vectors)
    else:
        with pytest.raises(CheckpointError):
            engine.warmup()
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 4, b"not a safetensors file, though of some length"])
def test_a_damaged_weights_file_is_a_typed_error(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path, content: bytes
) -> None:
    """An interrupted download ends in this package's error, which names the folder."""
    folder = tmp_path / "m"
    shutil.copytree(bare_folder, folder)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=str(folder)):
        make_engine(folder).warmup()


def test_a_weights_file_cut_short_is_a_typed_error(
    make_engine: Callable[..., LocalEngine], bare_folder: Path, tmp_path: Path
) -> None:
    """A sound header over missing data is refused, too."""
    folder = tmp_path / "m"
    shutil.copytree(bare_folder, folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError):
        make_engine(folder).warmup()


def test_weights_are_loaded_in_the_dtype_asked_for(make_engine: Callable[..., LocalEngine], bare_folder: Path) -> None:
    """Every floating weight has it, whatever the file's own."""
    engine = make_engine(dtype="bfloat16")
    engine.warmup()
    assert {parameter.dtype for parameter in engine._forward.model.parameters()} == {torch.bfloat16}
    assert not engine._forward.model.training


def test_loading_prints_nothing_and_leaves_progress_bars_as_they_were(
    capfd: pytest.CaptureFixture[str], make_engine: Callable[..., LocalEngine], bare_folder: Path
) -> None:
    """A library does not draw into its user's terminal, nor decide whether others may."""
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
    make_engine(bare_folder).warmup()
    assert logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


def test_keys_and_values_are_not_kept(make_engine: Callable[..., LocalEngine], bare_folder: Path) -> None:
    """An embedding is one forward: a cache of the past would take memory, and nobody would read it."""
    model = load_model(make_engine(bare_folder).key)
    assert model(input_ids=torch.tensor([[1, 2, 3]])).past_key_values is None
