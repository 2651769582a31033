"""LoRA factors: where they are put, and the file that they are written to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, BertConfig, BertModel, Qwen3Model

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.errors import InputError, MissingExtraError
from e2rank_integrations.training.lora import save_lora, targets, with_lora
from tests.support.models import qwen3_config

pytest.importorskip("peft", reason="the train extra is not installed")

QWEN_MAPS = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
}  # fmt: skip


def qwen(layers: int = 3) -> Qwen3Model:
    return Qwen3Model(qwen3_config(layers=layers, width=16, vocabulary=32))


def learning(model: torch.nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_the_factors_are_on_every_linear_map_of_the_last_layers() -> None:
    """All seven of a Qwen3's layer, in as many of the last layers as was asked for, in all by default."""
    assert set(targets(qwen(), 1)) == {f"layers.2.{name}" for name in QWEN_MAPS}
    assert set(targets(qwen())) == {f"layers.{layer}.{name}" for layer in range(3) for name in QWEN_MAPS}


def test_what_stands_behind_the_hidden_states_gets_none() -> None:
    """BERT's pooler is not among the vectors' makers."""
    bert = BertModel(
        BertConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    )
    found = targets(bert)
    assert len(found) == 2 * 6
    assert all(name.startswith("encoder.layer.") for name in found)


def test_more_layers_than_there_are_is_an_error() -> None:
    with pytest.raises(InputError, match="at most the model's 3, found 4"):
        targets(qwen(), 4)


def test_only_factors_learn_and_at_first_they_change_nothing() -> None:
    """The model starts where the base model is; alpha is twice the rank."""
    base = qwen().eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        before = base(input_ids=ids).last_hidden_state
        model = with_lora(base, 4, 2).eval()
        assert torch.equal(model(input_ids=ids).last_hidden_state, before)
    assert len(learning(model)) == 2 * 7 * 2
    assert all("lora_" in name for name in learning(model))
    (config,) = model.peft_config.values()
    assert (config.r, config.lora_alpha, config.lora_dropout) == (4, 8, 0.0)


def test_the_seed_decides_the_first_values_and_nothing_else() -> None:
    """The same seed the same factors, wherever torch's own stream stands; and that is not moved."""

    def factors(seed: int) -> dict[str, torch.Tensor]:
        model = with_lora(qwen(), 2, seed=seed)
        return {name: value for name, value in model.state_dict().items() if "lora_A" in name}

    one, model = factors(0), qwen()
    state = torch.random.get_rng_state()
    with_lora(model, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    two, other = factors(0), factors(1)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_the_file_is_half_precision_and_silent_on_this_machine(tmp_path: Path) -> None:
    """Float16 tensors, and no file that names a folder of this machine."""
    home = tmp_path / "somebodys" / "models"
    qwen().save_pretrained(home)
    model = with_lora(AutoModel.from_pretrained(home), 2)
    save_lora(model, tmp_path / "adapter", "models")
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert len(stored) == 3 * 7 * 2
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == ("models", 2)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    for path in (tmp_path / "adapter").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_without_peft_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to install."""
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError) as caught:
        with_lora(qwen(), 2)
    assert caught.value.extra == "train"


def test_the_packaged_model_can_be_adapted(embedded_encoder: E2RankEncoder) -> None:
    """All six linear maps of each of its six layers; at rank 8 less than 5 MB in float16."""
    model = with_lora(AutoModel.from_pretrained(embedded_encoder.checkpoint.folder), 8)
    numbers = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert len(learning(model)) == 6 * 6 * 2
    assert 2 * numbers < 5e6
