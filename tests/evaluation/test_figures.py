from __future__ import annotations

from pathlib import Path

import pytest

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.evaluation import figures
from e2rank_integrations.evaluation.first_stage import DENSE
from e2rank_integrations.evaluation.methods import COSINE, LISTWISE, PRF, RRF, SEARCH_AGAIN
from e2rank_integrations.evaluation.report import Report
from tests.evaluation.conftest import DOCUMENTS, QRELS, write_collection


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_collection(folder / "small")
    pooled = write_collection(folder / figures.POOLED)
    (pooled / "runs").mkdir()
    rows = [f"{query} Q0 {key} 1 {-rank} x\n" for query in QRELS for rank, key in enumerate(list(DOCUMENTS)[:4])]
    (pooled / "runs" / "BM25.trec").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(data: Path, embedded_encoder: E2RankEncoder) -> Report:
    return figures.measure(data / "small", embedded_encoder, data / "cache")


def test_every_query_has_a_list_of_full_length(report: Report):
    """The known figures were made from lists of one length: documents without a common word fill them."""
    assert {len(hits) for hits in report["BM25"].run.hits.values()} == {6}


def test_the_pooled_collection_is_its_run_and_no_corpus(data: Path, embedded_encoder: E2RankEncoder):
    """The run is the first stage, its documents are all that is embedded, and no search over them is shown."""
    report = figures.measure(data / figures.POOLED, embedded_encoder, data / "cache")
    assert report.documents == 4
    assert [row.name for row in report.rows] == ["BM25", COSINE, LISTWISE, RRF, PRF]


@pytest.mark.parametrize(("shift", "status"), [(0.0, 0), (0.004, 0), (-0.004, 0), (0.006, 1), (-0.006, 1)])
def test_a_figure_out_of_tolerance_is_a_failure(
    report: Report,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    shift: float,
    status: int,
):
    """Within .005 in either direction the command succeeds; beyond it fails, and names the figure."""
    means = {name: report[name].scores.mean for name in ("BM25", DENSE, COSINE)}
    monkeypatch.setattr(figures, "KNOWN", {"small": {**means, COSINE: means[COSINE] + shift}})
    monkeypatch.setattr(figures, "measure", lambda *_: report)
    monkeypatch.setattr(figures, "measure_untrained", lambda *_: {})
    assert figures.main(["--data", "anywhere"]) == status
    lines = [line for line in capsys.readouterr().out.splitlines() if "expected" in line]
    assert [line.endswith("ok") for line in lines] == [True, True, status == 0]
    assert COSINE in lines[-1]


def test_everything_found_is_printed_also_where_nothing_is_known(
    data: Path, report: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The whole command on a small collection: a listwise figure is never printed without the controls."""
    monkeypatch.setattr(figures, "KNOWN", {"small": {}})
    assert figures.main(["--data", str(data), "--cache", str(data / "cache")]) == 0
    printed = capsys.readouterr().out
    for name in ("BM25", DENSE, COSINE, LISTWISE, SEARCH_AGAIN, RRF, PRF):
        assert f"{report[name].scores.mean:.4f}" in next(line for line in printed.splitlines() if name in line)
    for name in figures.UNTRAINED:
        assert f"small      {name}" in printed


def test_the_known_figures_are_the_three_that_must_hold_and_the_controls():
    """BM25, retrieval by cosine, BM25's list by cosine, on three collections; the pool has no retrieval."""
    assert set(figures.KNOWN) == {"nfcorpus", "scifact", "cranfield", figures.POOLED}
    for name, known in figures.KNOWN.items():
        assert set(known) >= {"BM25", COSINE, RRF} | (set() if name == figures.POOLED else {DENSE, PRF})


def test_untrained_rows_take_no_part_in_what_the_default_becomes():
    """Each setting that could change with the shipped profile is written out."""
    for profile in figures.UNTRAINED.values():
        assert profile.template.name == "paper"
        assert profile.pooling == "mean"
    assert [profile.num_input_docs for profile in figures.UNTRAINED.values()] == [20, 3]
    assert [profile.query_weight for profile in figures.UNTRAINED.values()] == [0.0, 0.5]
    assert [profile.caps.prompt for profile in figures.UNTRAINED.values()] == [512, 256]
