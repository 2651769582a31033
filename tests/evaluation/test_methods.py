"""First stages other than BM25's, exclusions and pools."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e2rank_integrations import E2RankEncoder, Reranker
from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.compare import compare
from e2rank_integrations.evaluation.controls import reciprocal_rank_fusion
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.first_stage import BM25, DENSE, VectorIndex
from e2rank_integrations.evaluation.methods import COSINE, LISTWISE, PRF, RRF, SEARCH_AGAIN
from e2rank_integrations.evaluation.report import Report
from e2rank_integrations.evaluation.runs import Hit, Hits, Run
from e2rank_integrations.evaluation.settings import PromptSettings
from tests.support.engines import Recording


@pytest.fixture(scope="module")
def index(collection: Collection, qwen_encoder: E2RankEncoder) -> VectorIndex:
    return embed_documents(collection, qwen_encoder)


@pytest.fixture(scope="module")
def own(collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex) -> Report:
    """The model's own retrieval as the first stage."""
    return compare(collection, Reranker(qwen_encoder, query_weight=0.5), index=index, first_stage=index, depth=3)


def ids(hits: Hits) -> list[str]:
    return [hit.id for hit in hits]


def test_the_models_own_retrieval_may_be_the_first_stage(own: Report, collection: Collection, index: VectorIndex):
    """Its candidates are the nearest documents, which plain cosine leaves as they are; BM25 stands beside it."""
    assert [row.name for row in own.rows] == [DENSE, "BM25", COSINE, LISTWISE, SEARCH_AGAIN, RRF, PRF]
    for key in collection.queries:
        assert ids(own[DENSE].run[key]) == ids(own[COSINE].run[key])
        assert set(ids(own[LISTWISE].run[key])) == set(ids(own[DENSE].run[key]))
        assert len(own[DENSE].run[key]) == 3


def test_fusion_is_lexical_also_for_the_models_own_retrieval(own: Report, collection: Collection):
    """BM25's list and the dense one; a list fused with itself would be no control."""
    bm25 = BM25(collection.documents)
    for key, text in collection.queries.items():
        expected = reciprocal_rank_fusion([bm25.search(text, 3), own[DENSE].run[key]])
        assert ids(own[RRF].run[key]) == ids(expected)
    assert own[RRF].run.hits != own[COSINE].run.hits


def test_the_plain_query_is_embedded_once_for_retrieval_and_blend(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex, own: Report
):
    """Forwards and tokens are what the engine saw: one query and one prompt a query, the warm-up aside."""
    engine = Recording(qwen_encoder.engine)
    reranker = Reranker(replace(qwen_encoder, custom_engine=engine), query_weight=0.5)
    report = compare(collection, reranker, index=index, first_stage=index, depth=3)
    assert report[LISTWISE].cost.forwards == 6
    warm_up = len(qwen_encoder.query_inputs(["warm up"])[0].ids)
    assert report[LISTWISE].cost.tokens == engine.usage.tokens - warm_up
    assert report[DENSE].cost.tokens == sum(
        len(item.ids) for item in qwen_encoder.query_inputs([*collection.queries.values()])
    )
    assert [row.cost.tokens for row in report.rows] == [row.cost.tokens for row in own.rows]
    assert report["BM25"].cost.tokens == 0


@pytest.mark.parametrize("stage", ["words", "own", "run"])
def test_excluded_documents_are_no_candidates_of_any_method(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex, stage: str
):
    """For the query that excludes them; the lists keep their length, and other queries their documents."""
    excluded = {"q1": {"beijing", "tea"}}
    searches = {"words": BM25(collection.documents, fill=True), "own": index}
    run = Run({key: tuple(Hit(name, 1.0) for name in collection.documents) for key in collection.queries}, "run")
    stages = {"first_stage": searches.get(stage, run), "index": index, "depth": 4}
    report = compare(replace(collection, excluded=excluded), Reranker(qwen_encoder), **stages)
    for row in report.rows:
        found = ids(row.run["q1"])
        assert not excluded["q1"] & set(found), row.name
        assert len(found) == 4 or (stage, row.name) == ("own", "BM25"), row.name
    assert report.rows[0].run["q2"] == compare(collection, Reranker(qwen_encoder), **stages).rows[0].run["q2"]


def test_a_pool_shows_no_search_over_it(collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex):
    """Among a run's documents alone, every search would look better than it is."""
    pool = replace(collection, pool=True)
    run = Run({key: (Hit("tea", 2.0), Hit("paris", 1.0)) for key in collection.queries}, "own run")
    report = compare(pool, Reranker(qwen_encoder), index=index, first_stage=run)
    assert [row.name for row in report.rows] == ["own run", COSINE, LISTWISE, RRF, PRF]
    for stage in (None, index):
        with pytest.raises(InputError, match="must be a run"):
            compare(pool, Reranker(qwen_encoder), index=index, first_stage=stage)


def test_a_run_called_as_a_method_keeps_a_row_of_its_own(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex
):
    """The runs that this package writes may be read again as first stages."""
    run = Run({"q1": (Hit("tea", 2.0), Hit("paris", 1.0))}, LISTWISE)
    report = compare(collection, Reranker(qwen_encoder), index=index, first_stage=run)
    assert report.rows[0].name == "listwise (first stage)"
    assert ids(report.rows[0].run["q1"]) == ["tea", "paris"]
    assert report[LISTWISE].cost.forwards == 1


def test_a_sliding_window_is_measured_without_a_second_search(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex
):
    """No one prompt saw all candidates, so there is no vector to search with; the order is measured as it is."""
    settings = PromptSettings(window=2, step=1)
    report = compare(collection, Reranker(qwen_encoder), index=index, first_stage=index, settings=settings, depth=4)
    assert SEARCH_AGAIN not in [row.name for row in report.rows]
    assert report[LISTWISE].cost.forwards >= 3 * 3
    for key in collection.queries:
        hits = report[LISTWISE].run[key]
        assert set(ids(hits)) == set(ids(report[DENSE].run[key]))
        assert [hit.score for hit in hits] == [0.0, -1.0, -2.0, -3.0]
    assert "window 2/1" in report.model


@pytest.mark.parametrize("depth", [0, -1, 1.5])
def test_a_depth_that_is_no_number_of_candidates_is_an_error(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex, depth: float
):
    """A negative one would quietly cut lists from their end."""
    with pytest.raises(InputError, match="depth"):
        compare(collection, Reranker(qwen_encoder), index=index, depth=depth)


def test_each_method_is_compared_with_plain_cosine(own: Report):
    """But plain cosine itself; the difference is that of the means, and its own duplicate differs by nothing."""
    assert own[COSINE].difference is None
    for row in own.rows:
        if row.name != COSINE:
            assert row.difference.mean == pytest.approx(row.scores.mean - own[COSINE].scores.mean)
    assert (own[DENSE].difference.mean, own[DENSE].difference.p) == (0.0, 1.0)
