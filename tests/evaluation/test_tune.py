from __future__ import annotations

from pathlib import Path

import pytest

from e2rank_integrations import Candidate, E2RankEncoder, Reranker
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.controls import cosine_rerank
from e2rank_integrations.evaluation.curve import as_markdown, write_svg
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.measures import score
from e2rank_integrations.evaluation.runs import Hit, Run
from e2rank_integrations.evaluation.tune import Curve, Point, Sweep


@pytest.fixture(scope="module")
def sweep(collection: Collection, qwen_encoder: E2RankEncoder) -> Sweep:
    return Sweep.of(collection, qwen_encoder, embed_documents(collection, qwen_encoder))


def reranked(sweep: Sweep, first_stage: Run, listed: int, weight: float) -> float:
    """nDCG@10 of the reranker itself with these settings."""
    reranker = Reranker(sweep.encoder, num_input_docs=listed, query_weight=weight)
    texts, hits = sweep.collection.documents, {}
    for key, query in sweep.collection.queries.items():
        ranking = reranker.rank(query, [Candidate(texts[hit.id], id=hit.id) for hit in first_stage[key]])
        hits[key] = tuple(Hit(item.candidate.id, item.score) for item in ranking)
    return score(Run(hits), sweep.collection.qrels).mean


def test_a_point_is_what_the_reranker_scores_with_those_settings(sweep: Sweep):
    """The shortcut, one prompt for all weights, changes no figure."""
    for first_stage in sweep.first_stages():
        curve = sweep.curve(first_stage, (1, 3), (0.0, 0.4))
        assert curve.first_stage == first_stage.name
        assert curve.listed == [1, 3]
        for point in curve.points:
            assert point.ndcg == pytest.approx(reranked(sweep, first_stage, point.listed, point.weight))


def test_the_line_to_beat_is_plain_cosine(sweep: Sweep):
    """Weight 1 is the control of that name."""
    bm25, dense = sweep.first_stages()
    run = Run({key: cosine_rerank(bm25[key], sweep.queries[key], sweep.index) for key in sweep.queries})
    assert sweep.curve(bm25, ()).plain == pytest.approx(score(run, sweep.collection.qrels).mean)
    assert sweep.curve(dense, ()).plain == pytest.approx(score(dense, sweep.collection.qrels).mean)


def test_a_query_without_candidates_is_no_obstacle(sweep: Sweep):
    """It has no prompt, and counts 0."""
    run = Run({"q1": (Hit("beijing", 1.0), Hit("tea", 0.5))}, "own")
    (point,) = sweep.curve(run, (2,), (0.5,)).points
    assert point.ndcg == pytest.approx(reranked(sweep, Run({**run.hits, "q2": (), "q3": ()}), 2, 0.5))


def test_the_curve_is_a_markdown_table():
    """A row for each number of listed documents, a column for each weight, the control last."""
    points = tuple(Point(listed, weight, listed / 10 + weight / 100) for listed in (3, 1) for weight in (0.5, 0.0))
    assert as_markdown(Curve("c", "x", 0.4321, points)).splitlines() == [
        "| listed | w = 0 | w = 0.5 | w = 1 (plain cosine) |",
        "|---|---|---|---|",
        "| 1 | 0.1000 | 0.1050 | 0.4321 |",
        "| 3 | 0.3000 | 0.3050 | 0.4321 |",
    ]


def test_the_picture_has_every_line_and_is_the_same_each_time(tmp_path: Path):
    """A panel for each first stage, a line for each number of listed documents, and no date in it."""
    pytest.importorskip("matplotlib.figure", reason="matplotlib draws the curve; only the `docs` group installs it")
    points = tuple(Point(listed, weight, listed / 10) for listed in (1, 3) for weight in (0.0, 0.5))
    curves = [Curve("c", "BM25", 0.2, points), Curve("c", "dense retrieval", 0.3, points)]
    for name in ("a.svg", "b.svg"):
        write_svg(curves, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
