"""The published figures of the real E2Rank-0.6B: `make test-hub`.

Downloads 1.2 GB on the first run. The figures are those of the model card, made with Transformers in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from e2rank_integrations import E2RankEncoder, Reranker
from e2rank_integrations.encoder import DEFAULT_MODEL
from e2rank_integrations.errors import CheckpointError
from e2rank_integrations.profiles import E2RANK

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.hub

DOCUMENTS = [
    "The capital of China is Beijing.",
    (
        "Gravity is a force that attracts two bodies towards each other. It gives weight to physical objects and is "
        "responsible for the movement of planets around the sun."
    ),
]
QUERIES = ["What is the capital of China?", "Explain gravity"]
PLAIN = [[0.5950675, 0.0304177], [0.0619704, 0.5626913]]
LISTWISE = [[0.8513513, 0.2426849], [0.3315467, 0.7923379]]
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-3}


@pytest.fixture(scope="module", params=TOLERANCE)
def encoder(request: pytest.FixtureRequest) -> Iterator[E2RankEncoder]:
    """The real weights with the card's template, on the best device there is."""
    if "hub" not in request.config.getoption("-m"):
        pytest.skip("needs 1.2 GB of weights from the hub; run it with: make test-hub")
    real = E2RankEncoder(DEFAULT_MODEL, E2RANK.with_template("readme"), dtype=request.param)
    try:
        _ = real.checkpoint
    except CheckpointError as error:
        pytest.skip(f"the real weights cannot be had: {error}")
    yield real
    real.close()


def compare(what: str, encoder: E2RankEncoder, found: np.ndarray, published: list[list[float]]) -> None:
    """Print each difference, then hold it against the tolerance of the dtype."""
    differences = found - np.array(published)
    print(f"\n{what} in {encoder.dtype} on {encoder.engine.key.device}, found minus published:\n{differences}")
    np.testing.assert_allclose(found, published, rtol=0, atol=TOLERANCE[encoder.dtype])


def test_plain_queries_score_as_published(encoder: E2RankEncoder) -> None:
    """Cosines of the two queries with the two documents."""
    found = encoder.encode_queries(QUERIES) @ encoder.encode_documents(DOCUMENTS).T
    compare("plain query", encoder, found, PLAIN)


def test_listwise_prompts_score_as_published(encoder: E2RankEncoder) -> None:
    """Cosines of the two prompts, each of which lists both documents, with the two documents."""
    prompts = np.concatenate([encoder.encode_listwise(query, DOCUMENTS)[0] for query in QUERIES])
    compare("listwise prompt", encoder, prompts @ encoder.encode_documents(DOCUMENTS).T, LISTWISE)


def test_reranking_scores_as_published(encoder: E2RankEncoder) -> None:
    """`rank_many` gives those same scores, best first."""
    rankings = Reranker(encoder).rank_many([(query, DOCUMENTS) for query in QUERIES])
    in_place = [[item.score for item in sorted(r.ranked, key=lambda item: item.old_position)] for r in rankings]
    compare("rerank", encoder, np.array(in_place), LISTWISE)
    assert [ranking[0].old_position for ranking in rankings] == [0, 1]
    assert [ranking.usage.prompts for ranking in rankings] == [1, 1]
