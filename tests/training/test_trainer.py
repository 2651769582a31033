"""Training on a tiny model: what comes out, that it can be killed, and that the seed decides it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.bundle import FILE
from e2rank_integrations.errors import InputError, MissingExtraError, NonFiniteError, PromptBudgetError
from e2rank_integrations.profiles import SMALL_CAPS
from e2rank_integrations.training import loss_plot, result, trainer
from e2rank_integrations.training.settings import TrainSettings
from e2rank_integrations.training.slates import TrainingSlate
from e2rank_integrations.training.trainer import Training, train
from tests.support.engines import Recording

pytest.importorskip("accelerate", reason="the train extra is not installed")

TEXTS = ["This cat is number 0.", "a longer text, of other words"]
JOINT = TrainSettings(objective="joint", batch_size=3, learning_rate=1e-2, epochs=4)
LISTWISE = replace(JOINT, objective="listwise", lora_rank=2, epochs=1)
LORA = replace(JOINT, lora_rank=2, learning_rate=5e-2)
RETRIEVAL = replace(JOINT, objective="retrieval")


def trained(slates: list[TrainingSlate], tiny: E2RankEncoder, out: Path, settings: TrainSettings, **how) -> Training:
    return train(slates, tiny, out, settings, progress=False, **how)


def opened(folder: Path) -> E2RankEncoder:
    return E2RankEncoder(str(folder), device="cpu", dtype="float32")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit."""
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def prompt(encoder: E2RankEncoder) -> np.ndarray:
    return encoder.encode_listwise("Which is the cat?", TEXTS)[0]


# What comes out


@pytest.mark.parametrize("settings", [RETRIEVAL, JOINT, LORA], ids=["retrieval", "joint", "joint by LoRA"])
def test_the_loss_falls_and_the_result_is_another_model(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path, settings: TrainSettings
) -> None:
    """Four epochs of four batches; the folder loads by path, and its vectors are not the base model's."""
    done = trained(slates, tiny, tmp_path, settings)
    assert (done.folder, done.steps, done.slates, done.main) == (tmp_path, 16, 48, True)
    losses = [row["loss"] for row in done.log]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    assert all(("ranknet" in row) == (settings.objective == "joint") for row in done.log)
    found = opened(tmp_path)
    assert (found.profile, found.engine_key.listwise_adapter) == (tiny.profile, None)
    assert np.abs(found.encode_documents(TEXTS) - tiny.encode_documents(TEXTS)).max() > 0.01
    assert found.fingerprint.differences(tiny.fingerprint) == ["weights"]


def test_the_listwise_objective_leaves_every_other_vector_alone(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """Documents and queries are bit for bit the base model's, so an index goes on working; prompts are not."""
    trained(slates, tiny, tmp_path / "adapter", LISTWISE)
    found = opened((tmp_path / "adapter").rename(tmp_path / "moved"))
    np.testing.assert_array_equal(found.encode_documents(TEXTS), tiny.encode_documents(TEXTS))
    np.testing.assert_array_equal(found.encode_queries(TEXTS), tiny.encode_queries(TEXTS))
    assert found.fingerprint.differences(tiny.fingerprint) == []
    assert np.abs(prompt(found) - prompt(tiny)).max() > 1e-3
    np.testing.assert_array_equal(prompt(replace(found, listwise_adapter=None)), prompt(tiny))


def test_an_adapter_is_trained_from_its_base_model(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """Training from a folder that holds an adapter gives an adapter for the model below it, not for the folder."""
    trained(slates, tiny, tmp_path / "first", LISTWISE)
    trained(slates, opened(tmp_path / "first"), tmp_path / "second", LISTWISE)
    assert_same_weights(tmp_path / "second", tmp_path / "first")
    np.testing.assert_array_equal(prompt(opened(tmp_path / "second")), prompt(opened(tmp_path / "first")))


def test_what_the_listwise_loss_falls_to_is_what_the_prompts_do(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """After some epochs the loaded encoder's prompts put more pairs of the slates in their order than before."""
    settings = replace(LISTWISE, epochs=8, learning_rate=5e-2)
    done = trained(slates, tiny, tmp_path, settings)
    assert done.log[-1]["ranknet"] < 0.8 * done.log[0]["ranknet"]

    def in_order(encoder: E2RankEncoder) -> float:
        shares = []
        for slate in slates:
            cosines = (
                tiny.encode_documents(slate.documents) @ encoder.encode_listwise(slate.query, slate.documents)[0][0]
            )
            ranked = cosines[list(slate.ranking)]
            shares.append(np.mean([ranked[i] > ranked[j] for i in range(4) for j in range(i + 1, 4)]))
        return float(np.mean(shares))

    assert in_order(opened(tmp_path)) > in_order(tiny) + 0.1


def test_the_folder_holds_the_result_its_log_and_nothing_else(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """No saved state is left, no optimizer, no card that nobody filled in."""
    done = trained(slates, tiny, tmp_path / "adapter", replace(LISTWISE, save_steps=1))
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "e2rank.json", result.LOG, result.PLOT}
    assert json.loads((tmp_path / "adapter" / result.LOG).read_text()) == [dict(row) for row in done.log]
    assert [row["step"] for row in done.log] == [1, 2, 3, 4]
    assert all(row.keys() == {"step", "loss", "infonce", "ranknet", "learning_rate"} for row in done.log)
    trained(slates, tiny, tmp_path / "whole", replace(RETRIEVAL, epochs=1))
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "e2rank.json", result.LOG, result.PLOT}


def test_the_loss_is_drawn_where_matplotlib_is(tiny: E2RankEncoder, tmp_path: Path, monkeypatch) -> None:
    """Loss and both parts over the steps; without the library the log is written all the same."""
    log = [{"step": 1, "loss": 3.0, "infonce": 1.0, "ranknet": 1.0}, {"step": 2, "loss": 2.0, "infonce": 0.5}]
    (axes,) = loss_plot.draw_losses(log).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {"loss": [[1, 3], [2, 2]], "InfoNCE": [[1, 1], [2, 0.5]], "RankNet": [[1, 1]]}
    result.save_log(tmp_path, log)
    assert "<svg" in (tmp_path / result.PLOT).read_text()
    (tmp_path / result.PLOT).unlink()

    def absent(log: object) -> None:
        raise MissingExtraError("matplotlib", "evaluation")

    monkeypatch.setattr(result, "draw_losses", absent)
    result.save_log(tmp_path, [])
    assert json.loads((tmp_path / result.LOG).read_text()) == []
    assert not (tmp_path / result.PLOT).exists()


def test_training_is_silent_where_no_bar_is_asked_for(
    tiny: E2RankEncoder,
    slates: list[TrainingSlate],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither transformers' printed rows, nor a bar, nor a log record."""
    trained(slates, tiny, tmp_path, LISTWISE)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_base_model_is_as_it_was(tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path) -> None:
    """Training works on weights of its own: the encoder that it was given computes what it did."""
    before = prompt(tiny), tiny.encode_documents(TEXTS)
    trained(slates, tiny, tmp_path, replace(JOINT, epochs=1))
    np.testing.assert_array_equal(prompt(tiny), before[0])
    np.testing.assert_array_equal(tiny.encode_documents(TEXTS), before[1])


# The same again


@pytest.mark.parametrize("settings", [replace(JOINT, epochs=1), LISTWISE], ids=["joint", "listwise"])
def test_the_seed_decides_the_result(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path, settings: TrainSettings
) -> None:
    """Two trainings by one seed give the same bits, whatever was drawn before; another seed gives others."""
    trained(slates, tiny, tmp_path / "one", settings)
    torch.rand(7)
    trained(slates, tiny, tmp_path / "two", settings)
    assert_same_weights(tmp_path / "two", tmp_path / "one")
    trained(slates, tiny, tmp_path / "three", replace(settings, seed=1))
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "three", tmp_path / "one")


class KilledError(Exception):
    """Stands for the end of the process."""


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Have the forward of a step fail."""
    compute_loss = trainer._Trainer.compute_loss

    def failing(self, *rest, **options):
        if self.state.global_step == step:
            raise KilledError
        return compute_loss(self, *rest, **options)

    monkeypatch.setattr(trainer._Trainer, "compute_loss", failing)
    return monkeypatch


@pytest.mark.parametrize(
    "settings",
    [
        replace(JOINT, epochs=2, shuffle=0.5, num_input_docs=(2, 4), save_steps=3),
        replace(LISTWISE, epochs=2, save_steps=3, gradient_accumulation=2, batch_size=2),
    ],
    ids=["joint", "listwise, accumulated"],
)
def test_a_killed_training_goes_on_to_the_same_result(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path, settings: TrainSettings
) -> None:
    """Killed between two saved states and resumed, it ends with the bits of one that ran through."""
    through = trained(slates, tiny, tmp_path / "through", settings)
    with pytest.MonkeyPatch.context() as patch:
        killed_at(5, patch)
        with pytest.raises(KilledError):
            trained(slates, tiny, tmp_path / "killed", settings)
    assert [path.name for path in (tmp_path / "killed" / "states").glob("checkpoint-*")] == ["checkpoint-3"]
    torch.rand(7)
    done = trained(slates, tiny, tmp_path / "killed", settings, resume=True)
    assert_same_weights(tmp_path / "killed", tmp_path / "through")
    assert done.steps == through.steps
    assert [row["step"] for row in done.log] == [row["step"] for row in through.log]
    assert done.log[-1] == pytest.approx(through.log[-1], rel=1e-5)
    assert not (tmp_path / "killed" / "states").exists()


@pytest.fixture
def interrupted(tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path) -> Path:
    """A folder whose training was killed after two of its four steps."""
    with pytest.MonkeyPatch.context() as patch:
        killed_at(2, patch)
        with pytest.raises(KilledError):
            trained(slates, tiny, tmp_path, replace(LISTWISE, save_steps=1))
    return tmp_path


def test_a_state_that_was_not_written_to_its_end_is_passed_over(
    tiny: E2RankEncoder, slates: list[TrainingSlate], interrupted: Path
) -> None:
    """Killed while it saved a state, a training goes on from the one before."""
    half = interrupted / "states" / "checkpoint-3"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    done = trained(slates, tiny, interrupted, replace(LISTWISE, save_steps=1), resume=True)
    assert done.steps == 4


def test_only_the_same_training_is_resumed(tiny: E2RankEncoder, slates: list[TrainingSlate], interrupted: Path) -> None:
    """With another setting or other slates the error names what differs; how often to save may change."""
    for name, given, settings in (
        ("learning_rate", slates, replace(LISTWISE, learning_rate=1.0)),
        ("slates", slates[:-1], LISTWISE),
    ):
        with pytest.raises(InputError, match=rf"with other {name};"):
            trained(given, tiny, interrupted, settings, resume=True)
    other = replace(tiny, profile=replace(tiny.profile, caps=SMALL_CAPS))
    with pytest.raises(InputError, match="with other profile;"):
        trained(slates, other, interrupted, LISTWISE, resume=True)
    assert trained(slates, tiny, interrupted, replace(LISTWISE, save_steps=100), resume=True).steps == 4


def test_states_that_nobody_owns_are_refused(
    tiny: E2RankEncoder, slates: list[TrainingSlate], interrupted: Path
) -> None:
    """Without the note of whose they are, no training can be known to be the same."""
    (interrupted / "states" / "training.json").unlink()
    with pytest.raises(InputError, match="whose the saved states are"):
        trained(slates, tiny, interrupted, LISTWISE, resume=True)


def test_a_training_killed_before_its_first_state_may_start_again(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """Its folder holds nothing to lose; and there is nothing to resume."""
    with pytest.MonkeyPatch.context() as patch:
        killed_at(2, patch)
        with pytest.raises(KilledError):
            trained(slates, tiny, tmp_path, LISTWISE)
    with pytest.raises(InputError, match="no saved state"):
        trained(slates, tiny, tmp_path, LISTWISE, resume=True)
    assert trained(slates, tiny, tmp_path, LISTWISE).steps == 4


# Ways to compute the same


@pytest.mark.parametrize(
    "change", [{"gradient_checkpointing": True}, {"bf16": True}], ids=lambda change: next(iter(change))
)
@pytest.mark.parametrize("settings", [replace(JOINT, epochs=1), LISTWISE], ids=["joint", "listwise"])
def test_less_memory_gives_a_close_result(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path, settings: TrainSettings, change: dict[str, bool]
) -> None:
    """Recomputed activations give the same losses, bfloat16 those to a hundredth; weights stay float32."""
    settings = replace(settings, learning_rate=1e-3)
    plain = trained(slates, tiny, tmp_path / "plain", settings)
    other = trained(slates, tiny, tmp_path / "other", replace(settings, **change))
    tolerance = 1e-4 if "gradient_checkpointing" in change else 0.05
    for found, expected in zip(other.log, plain.log, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=tolerance)
    expected_type = torch.float16 if settings.objective == "listwise" else torch.float32
    assert {tensor.dtype for tensor in weights(tmp_path / "other").values()} == {expected_type}


def test_bfloat16_is_not_left_to_later_trainings(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """A training in float32 gives the same bits before and after one in bfloat16."""
    for name, bf16 in (("before", False), ("between", True), ("after", False)):
        trained(slates, tiny, tmp_path / name, replace(LISTWISE, bf16=bf16))
    assert_same_weights(tmp_path / "after", tmp_path / "before")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "between", tmp_path / "before")


def test_recomputing_recomputes(tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path, monkeypatch) -> None:
    """With the option each layer runs twice a step, else once."""
    from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

    calls = []
    forward = Qwen3MLP.forward
    monkeypatch.setattr(Qwen3MLP, "forward", lambda self, x: calls.append(self.training) or forward(self, x))
    counts = []
    for name, recompute in (("plain", False), ("again", True)):
        calls.clear()
        settings = replace(RETRIEVAL, epochs=1, gradient_checkpointing=recompute)
        trained(slates, tiny, tmp_path / name, settings)
        counts.append(sum(calls))
    assert counts[1] == 2 * counts[0]


def test_accumulated_batches_are_one_large_batch(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """Four batches of three slates step as one of twelve, where no slate is another's negative."""
    one = [replace(slate, source="one") for slate in slates]
    large = trained(one, tiny, tmp_path / "large", replace(LISTWISE, warmup=0.0, batch_size=12))
    small = trained(one, tiny, tmp_path / "small", replace(LISTWISE, warmup=0.0, batch_size=3, gradient_accumulation=4))
    assert large.steps == small.steps == 1
    assert small.log[0] == pytest.approx(large.log[0], rel=1e-4)
    for name, tensor in weights(tmp_path / "large").items():
        torch.testing.assert_close(weights(tmp_path / "small")[name], tensor, rtol=0.02, atol=1e-4)


# What is refused


def test_no_slates_are_refused(tiny: E2RankEncoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="slates: expected at least one"):
        trained([], tiny, tmp_path, JOINT)


def test_a_folder_that_holds_something_is_refused(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """Whatever it is, and it is left alone; a file is no folder."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="expected an empty folder"):
        trained(slates, tiny, tmp_path, JOINT)
    with pytest.raises(InputError, match="found a file"):
        trained(slates, tiny, tmp_path / "notes.txt", JOINT)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_begun_training_is_not_overwritten(
    tiny: E2RankEncoder, slates: list[TrainingSlate], interrupted: Path
) -> None:
    """Its states are hours of work: without `resume` it is an error, and they stay."""
    with pytest.raises(InputError, match="resume the training"):
        trained(slates, tiny, interrupted, LISTWISE)
    assert list((interrupted / "states").glob("checkpoint-*"))


def test_nothing_to_resume_is_an_error(tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no saved state to resume"):
        trained(slates, tiny, tmp_path / "nowhere", JOINT, resume=True)


def test_an_encoder_that_is_not_the_models_own_is_refused(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """What another engine computes, or a merged adapter, is not what the weights are."""
    for encoder in (replace(tiny, custom_engine=Recording(tiny.engine)), replace(tiny, adapter="somewhere")):
        with pytest.raises(InputError, match="custom_engine and adapter"):
            trained(slates, encoder, tmp_path, JOINT)


def test_without_accelerate_the_error_names_the_extra(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path, monkeypatch
) -> None:
    """What to install, in one line, instead of transformers' own."""
    monkeypatch.setattr("transformers.training_args.is_accelerate_available", lambda *version: False)
    with pytest.raises(MissingExtraError) as caught:
        trained(slates, tiny, tmp_path, JOINT)
    assert (caught.value.name, caught.value.extra) == ("accelerate", "train")


def test_more_layers_than_the_model_has_are_refused(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="lora_layers: expected at most the model's 2, found 3"):
        trained(slates, tiny, tmp_path, replace(LISTWISE, lora_layers=3))


def test_a_query_without_room_in_its_prompt_is_found_before_the_first_step(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path, monkeypatch
) -> None:
    """Not after hours of training; the slate is named by its position, its text is not."""
    caps = replace(SMALL_CAPS, prompt=256)
    narrow = replace(tiny, profile=replace(tiny.profile, caps=caps))
    steps = []
    monkeypatch.setattr(trainer._Trainer, "compute_loss", lambda *rest, **options: steps.append(rest))
    long = replace(slates[4], query="secret " * 400)
    with pytest.raises(PromptBudgetError, match="slate 5 of 12") as caught:
        trained([*slates[:4], long, *slates[5:]], narrow, tmp_path, JOINT)
    assert not steps
    assert "secret" not in str(caught.value)


def test_a_training_that_diverges_is_no_result(
    tiny: E2RankEncoder, slates: list[TrainingSlate], tmp_path: Path
) -> None:
    """A loss that is no number ends it with an error: no folder that loads, and no log in which it reads as 0."""
    wild = replace(LISTWISE, learning_rate=1e30, warmup=0.0, epochs=3)
    with pytest.raises(NonFiniteError, match="learning rate"):
        trained(slates, tiny, tmp_path, wild)
    assert not (tmp_path / FILE).exists()
