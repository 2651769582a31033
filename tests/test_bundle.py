"""What a model's name stands for, and the file by which a trained folder says so."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3Model

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.bundle import EMBEDDED_FOLDER, FILE, bundle_of, read_bundle, write_bundle
from e2rank_integrations.errors import CheckpointError
from e2rank_integrations.profiles import (
    E2RANK,
    E2RANK_SMALL,
    EMBEDDED,
    TEMPLATES,
    ListwiseTemplate,
    Profile,
    TaskInstructions,
)  # fmt: skip
from tests.support.models import save_qwen3

PROFILES = [
    E2RANK,
    E2RANK_SMALL,
    EMBEDDED,
    E2RANK.for_task("scifact"),
    E2RANK.for_reproduction(),
    *(E2RANK.with_template(name) for name in TEMPLATES if name != "paper"),
    replace(
        E2RANK,
        name="własny “own”",
        template=ListwiseTemplate(name="own", head="{task} 文書\n", tail="→ {query}"),
        tasks=TaskInstructions(query="Zażółć", listwise="“rank”", noun="文書"),
        query_weight=0.3,
        architecture=None,
    ),
]


def ids(profile: Profile) -> str:
    return f"{PROFILES.index(profile)}-{profile.template.name}"


@pytest.mark.parametrize("profile", PROFILES, ids=ids)
def test_a_profile_comes_back_as_it_was_written(profile: Profile, tmp_path: Path) -> None:
    """Equal in every field, so that the same ids are made of the same texts."""
    write_bundle(tmp_path, profile)
    assert bundle_of(str(tmp_path)) == read_bundle(tmp_path)
    found = read_bundle(tmp_path)
    assert found.profile == profile
    assert (found.base_model, found.base_weights, found.listwise_adapter) == (None, None, None)


def test_a_bundle_with_a_base_model_is_an_adapter(tmp_path: Path) -> None:
    """The folder itself is the adapter's, links resolved."""
    write_bundle(tmp_path, EMBEDDED, base_model="embedded", base_weights="abc")
    found = read_bundle(tmp_path)
    assert (found.base_model, found.base_weights) == ("embedded", "abc")
    assert found.listwise_adapter == str(tmp_path.resolve())


def test_other_names_have_the_profiles_of_the_package(tmp_path: Path) -> None:
    """`embedded` its own; a hub name and a folder without the file E2Rank's."""
    assert bundle_of("embedded").profile is EMBEDDED
    for name in ("some/checkpoint", str(tmp_path), str(tmp_path / "nowhere")):
        found = bundle_of(name)
        assert (found.profile, found.base_model, found.listwise_adapter) == (E2RANK, None, None)


def good() -> dict:
    return {"base_model": None, "base_weights": None, "profile": asdict(E2RANK)}


def without(key: str) -> dict:
    return {name: value for name, value in good().items() if name != key}


def profiled(**changes) -> dict:
    return {**good(), "profile": {**asdict(E2RANK), **changes}}


DAMAGED = {
    "empty": b"",
    "cut": json.dumps(good()).encode()[:-20],
    "no-utf-8": b'{"profile": "\xff"}',
    "deep": b"[" * 100_000,
    **{
        name: json.dumps(row).encode()
        for name, row in {
            "list": [],
            "null": None,
            "text": "profile",
            "no-profile": without("profile"),
            "no-base-model": without("base_model"),
            "no-base-weights": without("base_weights"),
            "base-model-a-number": {**good(), "base_model": 5},
            "base-weights-a-list": {**good(), "base_weights": []},
            "profile-a-list": {**good(), "profile": []},
            "unknown-field": profiled(newer=1),
            "caps-a-number": profiled(caps=3),
            "caps-too-small": profiled(caps={**asdict(E2RANK.caps), "prompt": 1}),
            "unknown-cap": profiled(caps={"most": 3}),
            "template-a-name": profiled(template="paper"),
            "template-without-query": profiled(template={**asdict(E2RANK.template), "tail": "no field"}),
            "weight": profiled(query_weight=2),
            "pooling": profiled(pooling=["last"]),
            "format": profiled(document_format="no field"),
        }.items()
    },
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_an_error_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    """Named with its path, when the encoder is made; never another profile in its place."""
    (tmp_path / FILE).write_bytes(DAMAGED[name])
    with pytest.raises(CheckpointError, match=FILE) as caught:
        E2RankEncoder(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


# Adapters and their base models


@pytest.fixture(scope="module")
def adapter(qwen_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained folder: random factors for the tiny Qwen3, and what they were trained on."""
    peft = pytest.importorskip("peft", reason="the adapter extra is not installed")
    from e2rank_integrations.engines.loading import without_peft_warning

    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with without_peft_warning():
        peft.get_peft_model(Qwen3Model.from_pretrained(qwen_folder), config).save_pretrained(folder)
    base = E2RankEncoder(str(qwen_folder))
    write_bundle(folder, E2RANK_SMALL, base_model=str(qwen_folder), base_weights=base.checkpoint.digest)
    return folder


def opened(folder: Path, **options) -> E2RankEncoder:
    return E2RankEncoder(str(folder), device="cpu", dtype="float32", **options)


def test_a_trained_folder_is_its_base_model_with_the_adapter(
    adapter: Path, qwen_folder: Path, qwen_encoder: E2RankEncoder, tmp_path: Path
) -> None:
    """The profile, the base model's files and the adapter, wherever the folder is moved to."""
    import shutil

    moved = shutil.copytree(adapter, tmp_path / "elsewhere")
    found = opened(moved)
    assert found.profile == E2RANK_SMALL
    assert found.checkpoint.folder == qwen_folder.resolve()
    assert found.engine_key.listwise_adapter == str(moved.resolve())
    np.testing.assert_array_equal(found.encode_queries(["a query"]), qwen_encoder.encode_queries(["a query"]))
    prompts = [encoder.encode_listwise("a query", ["one", "two"])[0] for encoder in (found, opened(adapter))]
    np.testing.assert_array_equal(*prompts)
    assert not np.allclose(prompts[0], qwen_encoder.encode_listwise("a query", ["one", "two"])[0])


def test_the_adapter_can_be_left_out_or_replaced(adapter: Path, qwen_folder: Path, qwen_encoder: E2RankEncoder) -> None:
    """None is the base model alone, on its very engine; a folder stands for another adapter."""
    assert opened(adapter, listwise_adapter=None).engine is qwen_encoder.engine
    assert opened(qwen_folder, listwise_adapter=str(adapter)).engine is opened(adapter).engine
    assert opened(adapter, listwise_adapter="/elsewhere").engine_key.listwise_adapter == "/elsewhere"


def test_an_adapter_for_other_weights_is_refused(adapter: Path, qwen_folder: Path, tmp_path: Path) -> None:
    """A base model of the same name and shape with other weights would run, and rank at random."""
    other = save_qwen3(tmp_path / "other", seed=1)
    base = E2RankEncoder(str(qwen_folder))
    write_bundle(tmp_path, E2RANK_SMALL, base_model=str(other), base_weights=base.checkpoint.digest)
    with pytest.raises(CheckpointError, match="other weights") as caught:
        opened(tmp_path).encode_queries(["a query"])
    assert str(other) in str(caught.value)


def test_without_a_digest_any_weights_are_taken(adapter: Path, qwen_folder: Path, tmp_path: Path) -> None:
    """A folder that names none leaves the choice to who wrote it."""
    write_bundle(tmp_path, E2RANK_SMALL, base_model=str(qwen_folder))
    assert opened(tmp_path).checkpoint.folder == qwen_folder.resolve()


def test_a_base_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The trained folder holds no weights of its own."""
    write_bundle(tmp_path, E2RANK_SMALL, base_model=str(tmp_path / "gone"))
    with pytest.raises(CheckpointError, match="gone"):
        _ = opened(tmp_path).checkpoint


def test_an_encoder_of_a_trained_folder_is_a_value(adapter: Path) -> None:
    """It pickles, compares and hashes as any other."""
    import pickle

    encoder = opened(adapter)
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy == encoder
    assert hash(copy) == hash(encoder)
    assert copy.engine is encoder.engine


def test_components_take_a_trained_folder_by_its_path(adapter: Path) -> None:
    """Its profile is the model's own and so not part of a dump; leaving the adapter out is."""
    from e2rank_integrations.components import ModelFields

    component = ModelFields(model=str(adapter), device="cpu", dtype="float32")
    assert component.encoder == opened(adapter)
    assert component.profile is None
    bare = ModelFields(model=str(adapter), listwise_adapter=None, device="cpu", dtype="float32")
    assert bare.encoder.engine_key.listwise_adapter is None
    assert bare.model_dump()["listwise_adapter"] is None
    assert ModelFields(**bare.model_dump()).encoder == bare.encoder
    assert ModelFields(encoder=opened(adapter, listwise_adapter=None)).listwise_adapter is None


def test_the_shipped_adapter_says_what_it_is(embedded_encoder: E2RankEncoder) -> None:
    """Its file names the profile that users get and the weights that it was trained on; its card, where it is from."""
    bundle = read_bundle(EMBEDDED_FOLDER)
    assert (bundle.profile, bundle.base_model) == (EMBEDDED, "embedded")
    assert bundle.base_weights == embedded_encoder.checkpoint.digest
    assert sum(path.stat().st_size for path in EMBEDDED_FOLDER.iterdir()) < 5 * 2**20
    card = (EMBEDDED_FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(section in card for section in ("license:", "## Data", "## Settings", "## Figures"))


def test_the_shipped_adapter_moves_prompts_alone(embedded_encoder: E2RankEncoder) -> None:
    """Every index of all-MiniLM-L6-v2 keeps working: its vectors, bit for bit; and the adapter is not idle."""
    base, texts = replace(embedded_encoder, listwise_adapter=None), ["Apples fall from trees.", "Tea is hot."]
    assert (embedded_encoder.encode_documents(texts) == base.encode_documents(texts)).all()
    assert (embedded_encoder.encode_queries(texts) == base.encode_queries(texts)).all()
    adapted, plain = (each.encode_listwise("Why?", texts)[0][0] for each in (embedded_encoder, base))
    assert float(adapted @ plain) < 0.999
    assert embedded_encoder.fingerprint == base.fingerprint
