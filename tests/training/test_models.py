"""What a step computes: the batch that is made of slates, and the objective over it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.errors import InputError
from e2rank_integrations.training.batches import FrozenDocuments, JointBatches, ListwiseBatches
from e2rank_integrations.training.frozen import Corpus, frozen_documents, query_vectors
from e2rank_integrations.training.models import JointModel, ListwiseModel
from e2rank_integrations.training.schedule import Draw
from e2rank_integrations.training.settings import TrainSettings
from e2rank_integrations.training.slates import TrainingSlate
from e2rank_integrations.training.trainable import prepared

JOINT = TrainSettings(objective="joint")
LISTWISE = TrainSettings(objective="listwise", lora_rank=2, blend=0.6, infonce_weight=0.5, ranknet_weight=1.5)


def whole(*places: int) -> list[Draw]:
    """Prompts that list the first three of four documents."""
    return [Draw(place, (0, 1, 2)) for place in places]


def minus_log_share(logits: list[float], chosen: list[int]) -> float:
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    return math.log(sum(powers) / sum(powers[place] for place in chosen))


def pair_losses(cosines: list[float], temperature: float) -> list[float]:
    """Of cosines that should fall."""
    return [
        math.log1p(math.exp((cosines[worse] - cosines[better]) / temperature))
        for better, worse in combinations(range(len(cosines)), 2)
    ]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def prompt_vectors(encoder: E2RankEncoder, slates: list[TrainingSlate], draws: list[Draw]) -> list[np.ndarray]:
    return [
        encoder.encode_listwise(
            slates[draw.slate].query, [slates[draw.slate].documents[place] for place in draw.listed]
        )[0][0]
        for draw in draws
    ]


def slow_joint(encoder: E2RankEncoder, slates: list[TrainingSlate], draws: list[Draw]) -> tuple[float, float]:
    """InfoNCE and RankNet of a batch, from the vectors that an encoder gives."""
    chosen = [slates[draw.slate] for draw in draws]
    texts = sorted({text for slate in chosen for text in slate.documents})
    vectors = dict(zip(texts, encoder.encode_documents(texts).astype(np.float64), strict=True))
    queries = encoder.encode_queries([slate.query for slate in chosen]).astype(np.float64)
    info, ranks = [], []
    for slate, query, prompt in zip(chosen, queries, prompt_vectors(encoder, slates, draws), strict=True):
        logits = [float(vectors[text] @ query) / 0.03 for text in texts]
        info.append(minus_log_share(logits, [texts.index(slate.documents[slate.ranking[0]])]))
        cosines = [float(vectors[slate.documents[place]] @ prompt) for place in slate.ranking]
        ranks += pair_losses(cosines, 0.1)
    return mean(info), mean(ranks)


def joint_parts(encoder: E2RankEncoder, slates: list[TrainingSlate], draws: list[Draw], **changes) -> dict[str, float]:
    settings = replace(JOINT, **changes)
    model, batches = prepared(slates, encoder, settings, {}, progress=False)
    return {name: float(value.detach()) for name, value in model(**batches(draws)).items()}


def test_the_joint_loss_is_the_papers_over_the_encoders_vectors(
    tiny: E2RankEncoder, slates: list[TrainingSlate]
) -> None:
    """InfoNCE + 2·RankNet on the vectors that the trained encoder gives for query, documents and listwise prompt."""
    draws = whole(0, 3, 5)
    info, ranks = slow_joint(tiny, slates, draws)
    found = joint_parts(tiny, slates, draws)
    assert found == pytest.approx({"loss": info + 2 * ranks, "infonce": info, "ranknet": ranks}, rel=1e-4, abs=1e-4)


def test_stage_one_is_infonce_alone(tiny: E2RankEncoder, slates: list[TrainingSlate]) -> None:
    """No prompt is made and no RankNet computed."""
    draws = whole(0, 3)
    info, _ = slow_joint(tiny, slates, draws)
    assert "prompts" not in JointBatches(slates, tiny, prompts=False)(draws)
    assert joint_parts(tiny, slates, draws, objective="retrieval") == pytest.approx(
        {"loss": info, "infonce": info}, rel=1e-4
    )


def test_the_weights_of_both_parts_are_the_settings(tiny: E2RankEncoder, slates: list[TrainingSlate]) -> None:
    """Either part alone, or neither as the default weighs it."""
    found = joint_parts(tiny, slates, whole(1, 2), infonce_weight=0.5, ranknet_weight=3)
    assert found["loss"] == pytest.approx(0.5 * found["infonce"] + 3 * found["ranknet"])


def test_a_text_that_slates_share_is_one_document(tiny: E2RankEncoder) -> None:
    """Else the shared text would be its own negative."""
    slates = [
        TrainingSlate("first", ("a", "b", "c"), (0, 1, 2)),
        TrainingSlate("second", ("c", "a", "d"), (1, 0, 2)),
    ]
    batch = JointBatches(slates, tiny, prompts=False)([Draw(0, (0,)), Draw(1, (0,))])
    assert len(batch["documents"]["ids"]) == 4
    assert batch["members"].tolist() == [[0, 1, 2], [0, 2, 3]]


def test_a_text_twice_in_a_slate_counts_once_at_its_better_place(tiny: E2RankEncoder) -> None:
    """No pair of a document with itself, in either model's batches, and no positive counted double."""
    slates = [
        TrainingSlate("query", ("a", "b", "a", "c"), (1, 2, 3, 0), positives=(0, 2), source="s"),
        TrainingSlate("other", ("d", "e", "f", "g"), (0, 1, 2, 3), source="s"),
    ]
    draws = [Draw(0, (0, 1)), Draw(1, (0, 1))]
    assert JointBatches(slates, tiny, prompts=False)(draws)["members"].tolist() == [[1, 0, 2, -1], [3, 4, 5, 6]]
    documents = FrozenDocuments.of(frozen_documents(slates, tiny, {}, progress=False))
    batch = ListwiseBatches(slates, tiny, documents)(draws)
    assert batch["members"].tolist() == [[1, 0, 2, -1], [3, 4, 5, 6]]
    assert batch["positives"].tolist() == [[0], [3]]


def test_prompts_are_those_of_inference(tiny: E2RankEncoder, slates: list[TrainingSlate]) -> None:
    """The drawn documents in the drawn order, in the very ids that reranking them would embed."""
    draw = Draw(2, (3, 0))
    batch = JointBatches(slates, tiny, prompts=True)([draw])
    documents = [slates[2].documents[place] for place in draw.listed]
    expected = tiny.listwise_input(slates[2].query, documents, 2)[0].ids
    assert batch["prompts"]["ids"][0].tolist() == list(expected)


def test_a_step_lowers_the_loss_of_a_toy_slate(tiny: E2RankEncoder) -> None:
    """Labelled in the reverse of its cosines' order, the slate's loss falls, and the best one gains on the worst."""
    texts = ("one", "two", "three")
    prompt, _ = tiny.encode_listwise("query", texts)
    upwards = np.argsort(tiny.encode_documents(texts) @ prompt[0]).tolist()
    slates = [TrainingSlate("query", texts, tuple(upwards))]
    model, batches = prepared(slates, tiny, replace(JOINT, infonce_weight=0), {}, progress=False)
    batch = batches([Draw(0, (0, 1, 2))])
    before, cosines = model(**batch)["loss"], cosines_of(model, batch)
    before.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-4 * parameter.grad)
        moved = cosines_of(model, batch) - cosines
        assert float(model(**batch)["loss"].detach()) < float(before.detach())
    assert moved[0] > moved[-1]


def cosines_of(model: JointModel, batch: dict) -> torch.Tensor:
    """Of the one slate's documents to its prompt, in the label's order."""
    with torch.no_grad():
        return (model.embed(batch["documents"]) @ model.embed(batch["prompts"])[0])[batch["members"][0]]


# Only the listwise side learns


@pytest.fixture(scope="module")
def frozen(tiny: E2RankEncoder, slates: list[TrainingSlate]) -> tuple[ListwiseModel, ListwiseBatches]:
    model, batches = prepared(slates, tiny, LISTWISE, {}, progress=False)
    assert isinstance(model, ListwiseModel)
    return model, batches


def test_the_listwise_loss_is_over_the_blend_and_the_source(
    tiny: E2RankEncoder, slates: list[TrainingSlate], frozen: tuple[ListwiseModel, ListwiseBatches]
) -> None:
    """normalise(w·e_q + (1−w)·e_q̂) against all documents of the slate's own source, and against its slate's order."""
    draws = whole(1, 8)
    info, ranks = [], []
    for draw, prompt in zip(draws, prompt_vectors(tiny, slates, draws), strict=True):
        slate = slates[draw.slate]
        texts = sorted({text for other in slates if other.source == slate.source for text in other.documents})
        vectors = dict(zip(texts, tiny.encode_documents(texts).astype(np.float64), strict=True))
        blend = 0.6 * tiny.encode_queries([slate.query])[0] + 0.4 * prompt
        blend = blend / np.linalg.norm(blend)
        logits = [float(vectors[text] @ blend) / 0.03 for text in texts]
        info.append(minus_log_share(logits, [texts.index(slate.documents[place]) for place in slate.positives]))
        ranks += pair_losses([float(vectors[slate.documents[place]] @ blend) for place in slate.ranking], 0.1)
    model, batches = frozen
    found = {name: float(value.detach()) for name, value in model(**batches(draws)).items()}
    expected = {"loss": 0.5 * mean(info) + 1.5 * mean(ranks), "infonce": mean(info), "ranknet": mean(ranks)}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_corpus_adds_negatives(tiny: E2RankEncoder, slates: list[TrainingSlate]) -> None:
    """With other documents in the corpus InfoNCE is higher; RankNet sees the slate alone."""
    some = [slate for slate in slates if slate.source == "animals"]
    texts = list(dict.fromkeys(text for slate in some for text in slate.documents))
    more = [*texts, *(f"A stone, number {number}." for number in range(20)), texts[0]]  # a text may be there twice
    parts = []
    for given in (texts, more):
        corpora = {"animals": Corpus(given, tiny.encode_documents(given))}
        model, batches = prepared(some, tiny, LISTWISE, corpora, progress=False)
        parts.append({name: float(value.detach()) for name, value in model(**batches(whole(0, 1))).items()})
    assert parts[1]["infonce"] > parts[0]["infonce"]
    assert parts[1]["ranknet"] == pytest.approx(parts[0]["ranknet"], rel=1e-5)


def test_a_corpus_that_lacks_a_slates_document_is_refused(tiny: E2RankEncoder, slates: list[TrainingSlate]) -> None:
    """By the source's name and the number that is missing."""
    corpus = Corpus(slates[0].documents[:3], tiny.encode_documents(slates[0].documents[:3]))
    with pytest.raises(InputError, match=r"corpora: source 'animals' lacks 1 "):
        frozen_documents(slates[:1], tiny, {"animals": corpus}, progress=False)


def test_query_vectors_stand_in_the_order_of_the_slates(tiny: E2RankEncoder, slates: list[TrainingSlate]) -> None:
    """A row for each slate, equal queries included, though each is embedded once and by length."""
    some = [slates[3], replace(slates[0], query="x " * 40), slates[3], slates[1]]
    expected = np.concatenate([tiny.encode_queries([slate.query]) for slate in some])
    np.testing.assert_allclose(query_vectors(some, tiny, progress=False), expected, atol=1e-5)


def test_only_the_factors_learn(frozen: tuple[ListwiseModel, ListwiseBatches]) -> None:
    """Every gradient is that of a LoRA factor; the vectors are constants and not part of a saved state."""
    model, batches = frozen
    model.zero_grad()
    model(**batches(whole(0, 7)))["loss"].backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning
    assert all("lora_" in name for name in learning)
    assert not {"documents", "queries"} & model.state_dict().keys()


def test_losses_are_computed_in_float32_under_bfloat16(
    frozen: tuple[ListwiseModel, ListwiseBatches], slates: list[TrainingSlate], tiny: E2RankEncoder
) -> None:
    """Given the same vectors, autocast changes nothing: a cosine in bfloat16 is .004 off, .13 over a temperature."""
    for model, batches in (frozen, prepared(slates, tiny, JOINT, {}, progress=False)):
        batch = batches(whole(0, 1))
        model.embed = fixed_rows
        expected = model(**batch)["loss"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(**batch)["loss"] == expected
        del model.embed


def fixed_rows(tokens: dict) -> torch.Tensor:
    """Unit rows that depend on the shape of the tokens alone."""
    random = torch.Generator().manual_seed(tokens["ids"].numel())
    return normalize(torch.randn(len(tokens["ids"]), 16, generator=random), dim=-1)


@pytest.mark.parametrize("settings", [JOINT, LISTWISE], ids=lambda settings: settings.objective)
def test_a_model_in_training_computes_the_encoders_vectors(settings: TrainSettings) -> None:
    """Without dropout, of the hidden states and of the attention alike: BERT's config has .1 of both."""
    encoder = E2RankEncoder("embedded", listwise_adapter=None, device="cpu", dtype="float32")
    slates = [TrainingSlate("a query", ("one document", "another one"), (0, 1))]
    model, batches = prepared(slates, encoder, settings, {}, progress=False)
    with torch.no_grad():
        found = model.train().embed(batches([Draw(0, (0,))])["prompts"])
    expected, _ = encoder.encode_listwise("a query", ["one document"])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
