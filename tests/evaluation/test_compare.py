from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from e2rank_integrations import Candidate, E2RankEncoder, Reranker
from e2rank_integrations.errors import EngineMemoryError, InputError
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.compare import compare
from e2rank_integrations.evaluation.controls import reciprocal_rank_fusion
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.first_stage import BM25, DENSE, VectorIndex
from e2rank_integrations.evaluation.methods import COSINE, LISTWISE, PRF, RRF, SEARCH_AGAIN
from e2rank_integrations.evaluation.report import Report
from e2rank_integrations.evaluation.runs import Hit, Hits, Run
from tests.support.engines import Failing, Recording


@pytest.fixture(scope="module")
def index(collection: Collection, qwen_encoder: E2RankEncoder) -> VectorIndex:
    return embed_documents(collection, qwen_encoder)


@pytest.fixture(scope="module")
def report(collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex) -> Report:
    return compare(collection, Reranker(qwen_encoder, query_weight=0.5), index=index, depth=3)


def ids(hits: Hits) -> list[str]:
    return [hit.id for hit in hits]


def test_each_method_has_its_row_with_every_query(report: Report, collection: Collection):
    """One row a method, the first stage first; each judged query is in each."""
    assert [row.name for row in report.rows] == ["BM25", DENSE, COSINE, LISTWISE, SEARCH_AGAIN, RRF, PRF]
    for row in report.rows:
        assert set(row.run.hits) == set(collection.queries)
        assert set(row.scores.per_query) == set(collection.queries)
        assert row.scores.mean == pytest.approx(sum(row.scores.per_query.values()) / 3)
    assert report["BM25"].run["q1"] == BM25(collection.documents).search(collection.queries["q1"], 3)


def test_listwise_is_what_the_reranker_gives_for_texts_alone(
    report: Report, collection: Collection, qwen_encoder: E2RankEncoder
):
    """The stored vectors change nothing: the order equals that of a rerank which embeds the documents itself."""
    reranker = Reranker(qwen_encoder, query_weight=0.5)
    for key, query in collection.queries.items():
        candidates = [Candidate(collection.document(hit.id), id=hit.id) for hit in report["BM25"].run[key]]
        expected = [item.candidate.id for item in reranker.rank(query, candidates)]
        assert ids(report[LISTWISE].run[key]) == expected


def test_methods_over_candidates_only_reorder_them(report: Report, collection: Collection):
    """Neither reranker nor control loses a candidate or brings one in, except by searching again."""
    for key in collection.queries:
        candidates = set(ids(report["BM25"].run[key]))
        for name in (COSINE, LISTWISE, RRF, PRF):
            assert set(ids(report[name].run[key])) == candidates
        assert ids(report[RRF].run[key]) == ids(
            reciprocal_rank_fusion([report["BM25"].run[key], report[COSINE].run[key]])
        )


def test_searching_again_adds_what_the_first_stage_missed_in_the_order_of_one_vector(
    report: Report, collection: Collection, index: VectorIndex, qwen_encoder: E2RankEncoder
):
    """Old and new candidates, each once, by their cosine to the listwise ranking's own vector."""
    reranker = Reranker(qwen_encoder, query_weight=0.5)
    added = 0
    for key, query in collection.queries.items():
        first, again = ids(report["BM25"].run[key]), ids(report[SEARCH_AGAIN].run[key])
        vector = reranker.rank(query, [Candidate(collection.document(found), id=found) for found in first]).query_vector
        wanted = set(first) | set(ids(index.search(vector, 3)))
        assert again == [hit.id for hit in index.search(vector, len(index.ids)) if hit.id in wanted]
        added += len(set(again) - set(first))
    assert added, "the collection is too easy: the second search found nothing new"


def test_no_document_is_embedded_and_forwards_are_counted_as_the_engine_saw_them(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex
):
    """At weight 0 a listwise answer costs one forward pass, with a weight two; the controls cost the plain query."""
    for weight, forwards in ((0.0, 1), (0.5, 2)):
        engine = Recording(qwen_encoder.engine)
        reranker = Reranker(replace(qwen_encoder, custom_engine=engine), query_weight=weight)
        report = compare(collection, reranker, index=index)
        costs = {row.name: row.cost.forwards for row in report.rows}
        assert costs == {
            "BM25": 0,
            DENSE: 3,
            COSINE: 3,
            LISTWISE: 3 * forwards,
            SEARCH_AGAIN: 3 * forwards,
            RRF: 3,
            PRF: 3,
        }
        assert engine.usage.documents == 0
        assert engine.usage.prompts == 3


def test_costs_include_what_a_method_builds_upon(report: Report):
    """A reranker's time contains its first stage's, and searching again contains the listwise rerank."""
    seconds = {row.name: row.cost.seconds for row in report.rows}
    assert 0 < seconds["BM25"] < min(seconds[COSINE], seconds[LISTWISE])
    assert seconds[LISTWISE] < seconds[SEARCH_AGAIN]
    assert seconds[COSINE] < seconds[RRF]


def test_limits_on_results_do_not_hide_candidates_from_the_measure(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex, report: Report
):
    """`top_n` and a threshold are for answers, not for figures."""
    limited = Reranker(qwen_encoder, query_weight=0.5, top_n=1, score_threshold=0.99)
    found = compare(collection, limited, index=index, depth=3)
    assert found[LISTWISE].run.hits == report[LISTWISE].run.hits
    assert found[SEARCH_AGAIN].run.hits == report[SEARCH_AGAIN].run.hits


def test_a_failure_is_an_error_and_not_a_figure(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex
):
    """An order that was kept after a failure would be measured as if the model had made it."""
    engine = Failing(qwen_encoder.engine, EngineMemoryError("no room"), lambda item: item.role == "listwise")
    reranker = Reranker(replace(qwen_encoder, custom_engine=engine), on_error="keep_order")
    with pytest.raises(EngineMemoryError):
        compare(collection, reranker, index=index)


def test_a_given_run_is_the_first_stage_cut_to_the_depth(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex
):
    """Any first stage may be brought; a query that it leaves out has no candidates and is measured as 0."""
    run = Run({"q1": (Hit("tea", 3.0), Hit("beijing", 2.0), Hit("paris", 1.0)), "q2": ()}, name="own")
    report = compare(collection, Reranker(qwen_encoder), index=index, first_stage=run, depth=2)
    assert report.rows[0].name == "own"
    assert ids(report["own"].run["q1"]) == ["tea", "beijing"]
    for name in ("own", COSINE, LISTWISE, SEARCH_AGAIN, RRF, PRF):
        assert report[name].run["q2"] == report[name].run["q3"] == ()
        assert report[name].scores.per_query["q3"] == 0.0
    assert report[LISTWISE].cost.forwards == 1


def test_a_run_with_documents_of_another_collection_is_an_error(
    collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex
):
    """It names the document by its id."""
    with pytest.raises(InputError, match="'elsewhere'"):
        compare(collection, Reranker(qwen_encoder), index=index, first_stage=Run({"q1": (Hit("elsewhere", 1.0),)}))


def test_vectors_are_computed_where_none_are_given(collection: Collection, qwen_encoder: E2RankEncoder, report: Report):
    """With the same figures as from given ones."""
    found = compare(collection, Reranker(qwen_encoder, query_weight=0.5), depth=3, progress=False)
    assert [row.scores.mean for row in found.rows] == pytest.approx([row.scores.mean for row in report.rows])


def test_a_report_as_json_holds_figures_and_no_text(report: Report, collection: Collection):
    """Ids, numbers and names alone, so that it may be published or logged."""
    text = report.to_json(per_query=True)
    facts = json.loads(text)
    assert facts["queries"] == 3
    assert [row["name"] for row in facts["rows"]] == [row.name for row in report.rows]
    assert facts["rows"][0]["nDCG@10"] == report["BM25"].scores.mean
    assert facts["rows"][0]["per_query"]["nDCG@10"] == dict(report["BM25"].scores.per_query)
    assert "per_query" not in json.loads(report.to_json())["rows"][0]
    assert not any(secret in text for secret in (*collection.documents.values(), *collection.queries.values()))


def test_a_report_as_table_shows_every_row(report: Report):
    """Name, measure, forwards and seconds; the settings below."""
    console = Console(width=120, file=StringIO())
    console.print(report.table())
    text = console.file.getvalue()
    for row in report.rows:
        assert f"{row.scores.mean:.4f}" in next(line for line in text.splitlines() if row.name in line)
    assert "nDCG@10" in text
    assert "3 queries, 6 documents" in text
    assert "20 documents listed, query weight 0.5" in " ".join(text.split())
    with pytest.raises(KeyError):
        report["no such method"]


def test_another_measure_may_be_asked_for(collection: Collection, qwen_encoder: E2RankEncoder, index: VectorIndex):
    """It heads the column in place of nDCG@10."""
    found = compare(collection, Reranker(qwen_encoder), index=index, measures=["R@2"])
    assert all(row.scores.measure == "R@2" for row in found.rows)
    assert '"R@2"' in found.to_json()
