"""The packaged judged passages and their vectors, and a tiny model with slates to train it on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.demo import demo_collection
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.first_stage import VectorIndex
from e2rank_integrations.training.slates import TrainingSlate
from tests.support.models import save_qwen3


@pytest.fixture(scope="session")
def claims() -> Collection:
    """20 claims, their judged abstracts and some others: so few that embedding them takes seconds."""
    whole = demo_collection()
    queries = dict(list(whole.queries.items())[:20])
    qrels = {query: whole.qrels[query] for query in queries}
    judged = {key for grades in qrels.values() for key in grades}
    chosen = list(dict.fromkeys([*sorted(judged), *whole.documents]))[:100]
    documents = {key: whole.documents[key] for key in chosen}
    return replace(whole, queries=queries, qrels=qrels, documents=documents)


@pytest.fixture(scope="session")
def claims_index(claims: Collection, embedded_encoder: E2RankEncoder) -> VectorIndex:
    """The abstracts' vectors by the embedded default."""
    return embed_documents(claims, embedded_encoder)


ANIMALS = ("cat", "dog", "owl", "fox", "bee", "elk")
METALS = ("tin", "iron", "lead", "gold", "zinc", "brass")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> E2RankEncoder:
    """A Qwen3 so narrow that a step takes milliseconds, in float32 on the CPU."""
    folder = save_qwen3(tmp_path_factory.mktemp("tiny"), layers=2, width=16)
    return E2RankEncoder(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def slates() -> list[TrainingSlate]:
    """Six slates of each of two sources: which of four words is meant, the first or the second listed."""
    return [
        TrainingSlate(
            f"Which is the {words[place]}?",
            tuple(f"This {words[(place + step) % 6]} is number {step}." for step in range(4)),
            ranking=(0, 2, 1, 3) if place % 2 else (1, 0, 3, 2),
            source=source,
        )
        for source, words in (("animals", ANIMALS), ("metals", METALS))
        for place in range(6)
    ]
