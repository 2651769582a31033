from __future__ import annotations

from pathlib import Path

import pytest

from e2rank_integrations import E2RankEncoder
from e2rank_integrations.evaluation import figures
from e2rank_integrations.evaluation.methods import COSINE, DENSE, LISTWISE, PRF, RRF, SEARCH_AGAIN
from e2rank_integrations.evaluation.report import Report
from tests.evaluation.conftest import write_collection


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_collection(folder / "small")
    return folder


@pytest.fixture(scope="module")
def report(data: Path, embedded_encoder: E2RankEncoder) -> Report:
    return figures.measure(data / "small", embedded_encoder, data / "cache")


def test_every_query_has_a_list_of_full_length(report: Report):
    """The known figures were made from lists of one length: documents without a common word fill them."""
    assert {len(hits) for hits in report["BM25"].run.hits.values()} == {6}


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
    assert figures.main(["--data", "anywhere"]) == status
    lines = [line for line in capsys.readouterr().out.splitlines() if "expected" in line]
    assert [line.endswith("ok") for line in lines] == [True, True, status == 0]
    assert COSINE in lines[-1]


def test_the_controls_stand_beside_the_listwise_figure(
    data: Path, report: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The whole command on a small collection: a listwise figure is never printed without them."""
    monkeypatch.setattr(figures, "KNOWN", {"small": {}})
    assert figures.main(["--data", str(data), "--cache", str(data / "cache")]) == 0
    printed = capsys.readouterr().out
    for name in ("BM25", DENSE, COSINE, LISTWISE, SEARCH_AGAIN, RRF, PRF):
        assert f"{report[name].scores.mean:.4f}" in next(line for line in printed.splitlines() if name in line)


def test_each_known_collection_has_the_three_figures_that_must_hold():
    """BM25, retrieval by cosine, and BM25's list by cosine, on three collections."""
    assert set(figures.KNOWN) == {"nfcorpus", "scifact", "cranfield"}
    assert all(set(known) == {"BM25", DENSE, COSINE} for known in figures.KNOWN.values())
