"""An adapter that is switched on for listwise prompts alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.engines.local import LocalEngine
from e2rank_integrations.engines.registry import EngineKey, local_engine
from e2rank_integrations.errors import CheckpointError, MissingExtraError
from e2rank_integrations.values import TokenInput
from tests.engines.test_adapter import (
    base_model,
    deeper,
    missing,
    pickled,
    save_adapter,
    wider,
    without_config,
    without_weights,
)  # fmt: skip
from tests.support.models import reference_embed

peft = pytest.importorskip("peft", reason="the adapter extra is not installed")
pytestmark = [
    # The tests call peft themselves, which still asks transformers for an attribute under its old name.
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning"),
]

PLAIN = [TokenInput((1, 2, 3), "document"), TokenInput((9, 8, 7, 6, 5), "query"), TokenInput((4, 4), "document")]
PROMPTS = [TokenInput((1, 2, 3), "listwise"), TokenInput((5, 4, 3, 2, 9, 8), "listwise")]
MIXED = [PROMPTS[0], PLAIN[0], PLAIN[1], PROMPTS[1], PLAIN[2]]

Make = Callable[..., LocalEngine]


@pytest.fixture(scope="module")
def adapter(bare_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(base_model(bare_folder), tmp_path_factory.mktemp("adapter"))


def merged(folder: Path, *adapters: Path) -> torch.nn.Module:
    """As peft itself merges adapters into a model, one after the other."""
    model = base_model(folder)
    for path in adapters:
        model = peft.PeftModel.from_pretrained(model, str(path)).merge_and_unload()
    return model.eval()


def reference(model: torch.nn.Module, inputs: list[TokenInput]) -> np.ndarray:
    return reference_embed(model, [item.ids for item in inputs], "left", pad=0).numpy()


def test_prompts_are_what_pefts_merged_model_computes(make_engine: Make, bare_folder: Path, adapter: Path) -> None:
    """To 1e-5, and far from the base model's."""
    found = make_engine(listwise_adapter=str(adapter)).encode(PROMPTS).vectors
    np.testing.assert_allclose(found, reference(merged(bare_folder, adapter), PROMPTS), rtol=0, atol=1e-5)
    assert np.abs(found - make_engine().encode(PROMPTS).vectors).max() > 0.01


def test_queries_and_documents_are_the_base_models_to_the_bit(make_engine: Make, adapter: Path) -> None:
    """Alone or in one call with prompts of the same ids; each role gets its own."""
    engine, base = make_engine(listwise_adapter=str(adapter)), make_engine()
    plain = base.encode(PLAIN).vectors
    np.testing.assert_array_equal(engine.encode(PLAIN).vectors, plain)
    mixed = engine.encode(MIXED).vectors
    np.testing.assert_array_equal(mixed[[1, 2, 4]], plain)
    np.testing.assert_array_equal(mixed[[0, 3]], engine.encode(PROMPTS).vectors)
    np.testing.assert_array_equal(engine.encode(PLAIN).vectors, plain)


def test_threads_do_not_switch_the_adapter_for_one_another(make_engine: Make, adapter: Path) -> None:
    """Calls of different roles at once give what they give one after the other."""
    engine = make_engine(listwise_adapter=str(adapter))
    calls = [PLAIN, PROMPTS, MIXED] * 20
    expected = [engine.encode(call).vectors for call in calls]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda call: engine.encode(call).vectors, calls))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_failed_call_leaves_the_adapter_as_it_was(make_engine: Make, adapter: Path) -> None:
    """Also when a forward of documents, for which it is off, does not come back."""
    engine = make_engine(listwise_adapter=str(adapter))
    expected = engine.encode(MIXED).vectors
    with pytest.raises(IndexError):
        engine.encode([TokenInput((10**6,), "document")])
    np.testing.assert_array_equal(engine.encode(MIXED).vectors, expected)


def test_a_merged_and_a_listwise_adapter_go_together(make_engine: Make, bare_folder: Path, tmp_path: Path) -> None:
    """One is part of every vector, the other is put on top of it for prompts."""
    first = save_adapter(base_model(bare_folder), tmp_path / "first")
    torch.manual_seed(2)
    config = peft.LoraConfig(r=2, target_modules=["k_proj", "o_proj"], init_lora_weights=False)
    peft.get_peft_model(base_model(bare_folder), config).save_pretrained(tmp_path / "second")
    engine = make_engine(adapter=str(first), listwise_adapter=str(tmp_path / "second"))
    mixed = engine.encode(MIXED).vectors
    np.testing.assert_array_equal(mixed[[1, 2, 4]], make_engine(adapter=str(first)).encode(PLAIN).vectors)
    expected = reference(merged(bare_folder, first, tmp_path / "second"), PROMPTS)
    np.testing.assert_allclose(mixed[[0, 3]], expected, rtol=0, atol=1e-5)


def test_a_half_precision_adapter_works_in_every_dtype(
    make_engine: Make, bare_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    """As training writes it: in float32 as exact as its file, in bfloat16 close to that."""
    from safetensors.torch import load_file, save_file

    half = tmp_path / "half"
    half.mkdir()
    (half / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: tensor.half() for name, tensor in weights.items()}, half / "adapter_model.safetensors")
    exact = make_engine(listwise_adapter=str(half)).encode(PROMPTS).vectors
    np.testing.assert_allclose(exact, reference(merged(bare_folder, half), PROMPTS), rtol=0, atol=1e-5)
    coarse = make_engine(listwise_adapter=str(half), dtype="bfloat16").encode(PROMPTS).vectors
    assert (coarse * exact).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("broken", [deeper, wider, without_weights, without_config, pickled, missing])
def test_an_adapter_that_does_not_fit_is_refused(
    make_engine: Make, bare_folder: Path, tmp_path: Path, broken: Callable[[Path, Path], Path]
) -> None:
    """Of another depth or width, incomplete, pickled or absent: an error, never the base model's prompts."""
    engine = make_engine(listwise_adapter=str(broken(tmp_path, bare_folder)))
    with pytest.raises(CheckpointError):
        engine.warmup()
    assert not engine.loaded


def test_without_peft_the_error_names_the_extra(
    make_engine: Make, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to install, in one line; engines without an adapter do not need it."""
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"e2rank-integrations\[adapter\]"):
        make_engine(listwise_adapter=str(adapter)).warmup()
    make_engine().warmup()


def test_loading_one_warns_of_nothing(make_engine: Make, adapter: Path, recwarn: pytest.WarningsRecorder) -> None:
    """A user's log stays empty."""
    recwarn.clear()
    make_engine(listwise_adapter=str(adapter)).encode(MIXED)
    assert [str(warning.message) for warning in recwarn] == []


def test_with_and_without_are_two_engines_and_one_index(qwen_folder: Path, tmp_path: Path) -> None:
    """Both live beside each other; the fingerprint of documents is the same, so either may search the index."""
    adapter = save_adapter(base_model(qwen_folder), tmp_path / "adapter")
    base, adapted = (
        E2RankEncoder(str(qwen_folder), listwise_adapter=path, device="cpu", dtype="float32")
        for path in ("auto", str(adapter))
    )
    assert adapted.engine is not base.engine
    assert adapted.fingerprint == base.fingerprint
    texts = ["one text", "another text"]
    before = base.encode_listwise("query", texts)[0]
    np.testing.assert_array_equal(adapted.encode_documents(texts), base.encode_documents(texts))
    np.testing.assert_array_equal(adapted.encode_queries(texts), base.encode_queries(texts))
    assert np.abs(adapted.encode_listwise("query", texts)[0] - before).max() > 0.01
    np.testing.assert_array_equal(base.encode_listwise("query", texts)[0], before)


def test_engines_are_told_apart_by_their_listwise_adapter(bare_folder: Path) -> None:
    """The registry keys on it."""
    keys = [EngineKey(bare_folder, "qwen3", "last", listwise_adapter=name, device="cpu") for name in (None, "/a", "/b")]
    assert len({id(local_engine(key)) for key in keys}) == 3
