from __future__ import annotations

import pytest

from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.demo import DEMO_FOLDER, demo_collection
from e2rank_integrations.evaluation.first_stage import BM25
from e2rank_integrations.evaluation.measures import score
from e2rank_integrations.evaluation.runs import Run
from e2rank_integrations.evaluation.subset import chosen_queries


@pytest.fixture(scope="module")
def subset() -> Collection:
    return demo_collection()


def test_the_subset_is_small_whole_and_called_a_subset(subset: Collection):
    """500 abstracts, 100 claims, each claim's judged abstracts among them, under 1.5 MB."""
    assert (len(subset.documents), len(subset.queries)) == (500, 100)
    assert all(document in subset.documents for judged in subset.qrels.values() for document in judged)
    assert subset.name == "SciFact subset"
    assert sum(path.stat().st_size for path in DEMO_FOLDER.rglob("*") if path.is_file()) < 1_500_000


def test_the_licences_lie_beside_the_data():
    """Both ask for attribution wherever the data goes."""
    text = (DEMO_FOLDER / "README.md").read_text(encoding="utf-8")
    for needed in ("CC BY 4.0", "ODC-By 1.0", "Wadden", "S2ORC", "subset", "unaltered"):
        assert needed in text


def test_the_claims_are_those_that_the_hash_draws(subset: Collection):
    """Drawn by rule: drawing from the hundred themselves gives them back, in their order."""
    assert chosen_queries(subset, 100) == list(subset.queries)
    fewer = chosen_queries(subset, 10)
    assert len(fewer) == 10
    assert fewer == [query for query in subset.queries if query in fewer]


def test_bm25_on_the_subset_is_as_measured(subset: Collection):
    """The data, the tokenisation and the measure together: a change of any of them shows."""
    bm25 = BM25(subset.documents)
    run = Run({query: bm25.search(text) for query, text in subset.queries.items()})
    assert score(run, subset.qrels).mean == pytest.approx(0.6864, abs=5e-4)
