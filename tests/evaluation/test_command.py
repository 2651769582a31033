"""`e2rank evaluate` from its options to its files, on a collection of six documents."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from e2rank_integrations import E2RankEncoder, Reranker, cli
from e2rank_integrations.evaluation.collection import load_collection
from e2rank_integrations.evaluation.compare import compare
from e2rank_integrations.evaluation.first_stage import BM25, DENSE
from e2rank_integrations.evaluation.methods import COSINE, LISTWISE, PRF, RRF, SEARCH_AGAIN
from e2rank_integrations.evaluation.runs import read_trec_run
from tests.evaluation.conftest import DOCUMENTS, QRELS

RUN = "".join(f"{query} Q0 {key} 1 {-rank} x\n" for query in QRELS for rank, key in enumerate(list(DOCUMENTS)[:3]))


@pytest.fixture
def evaluate(folder: Path, qwen_folder: Path, tmp_path: Path):
    """Runs the command on the collection; its status and the JSON that it wrote."""

    def run(*options: str) -> tuple[int, dict]:
        target = tmp_path / "report.json"
        model = [
            "--model",
            str(qwen_folder),
            "--device",
            "cpu",
            "--dtype",
            "float32",
            "--cache",
            str(tmp_path / "cache"),
        ]
        status = cli.main(["evaluate", str(folder), *model, "--json", str(target), *options])
        return status, json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}

    return run


def names(report: dict) -> list[str]:
    return [row["name"] for row in report["rows"]]


def test_figures_are_those_of_compare_and_are_printed(
    evaluate, folder: Path, qwen_encoder: E2RankEncoder, capsys: pytest.CaptureFixture[str]
):
    """All methods, three measures, costs and differences, on screen and as JSON; figures as from Python."""
    status, report = evaluate("--depth", "4", "--query-weight", "0.5", "--num-input-docs", "2")
    assert status == 0
    expected = compare(
        load_collection(folder), Reranker(qwen_encoder, query_weight=0.5, num_input_docs=2), depth=4, progress=False
    )
    assert names(report) == [row.name for row in expected.rows]
    for row, known in zip(report["rows"], expected.rows, strict=True):
        assert [row[name] for name in ("nDCG@10", "RR@10", "R@100")] == [scores.mean for scores in known.measures]
        assert (row["forwards"], row["tokens"]) == (known.cost.forwards, known.cost.tokens)
    printed = capsys.readouterr().out
    for row in expected.rows:
        assert f"{row.scores.mean:.4f}" in next(line for line in printed.splitlines() if row.name in line)
    assert report["rows"][2] == {**report["rows"][2], "name": COSINE, "difference": None}
    assert set(report["rows"][3]["difference"]) == {"mean", "low", "high", "p", "p_holm"}


def test_every_methods_run_is_written_in_its_order(evaluate, tmp_path: Path, folder: Path, qwen_encoder: E2RankEncoder):
    """One file a method; read back, it has the same documents in the same order."""
    evaluate("--depth", "4", "--runs", str(tmp_path / "runs"))
    report = compare(load_collection(folder), Reranker(qwen_encoder), depth=4, progress=False)
    files = {"BM25", "dense-retrieval", "plain-cosine", "listwise", "search-again", "control-RRF", "control-vector-PRF"}
    assert {path.stem for path in (tmp_path / "runs").iterdir()} == files
    again = read_trec_run(tmp_path / "runs" / "search-again.trec")
    for key in QRELS:
        assert [hit.id for hit in again[key]] == [hit.id for hit in report[SEARCH_AGAIN].run[key]]


def test_a_run_file_of_a_pool_needs_no_corpus_search(evaluate, tmp_path: Path):
    """Only the run's documents are embedded, and no search over them is shown."""
    (tmp_path / "own.trec").write_text(RUN, encoding="utf-8")
    _, report = evaluate("--first-stage", str(tmp_path / "own.trec"), "--pool", "--depth", "2")
    assert names(report) == ["own", COSINE, LISTWISE, RRF, PRF]
    assert report["documents"] == 2
    _, report = evaluate("--first-stage", str(tmp_path / "own.trec"))
    assert names(report) == ["own", DENSE, COSINE, LISTWISE, SEARCH_AGAIN, RRF, PRF]
    assert report["documents"] == len(DOCUMENTS)


def test_the_models_own_retrieval_excluded_documents_and_other_measures(evaluate, tmp_path: Path):
    """`dense`, a file of exclusions, and measures by ir-measures' names, each query's among the figures."""
    (tmp_path / "exclude.json").write_text(json.dumps({"q1": ["beijing"]}), encoding="utf-8")
    excluding = ["--exclude", str(tmp_path / "exclude.json"), "--per-query", "--measures", "RR(rel=2)@10", "R@3"]
    _, report = evaluate("--first-stage", "dense", *excluding)
    assert names(report)[:2] == [DENSE, "BM25"]
    assert all(row["per_query"]["RR(rel=2)@10"]["q1"] == 0.0 for row in report["rows"])
    assert any(row["R@3"] > 0 for row in report["rows"])


def test_settings_of_the_prompt_arrive_in_the_model(evaluate):
    """What decides the figures is recorded beside them."""
    _, report = evaluate(
        *("--profile", "e2rank-small", "--task", "scifact", "--template", "training", "--reproduce"),
        *("--prompt-tokens", "300", "--document-tokens", "40", "--window", "2", "--order", "reversed"),
        *("--listwise-adapter", "none"),
    )
    settings = report["settings"]
    assert settings["template"]["name"] == "training"
    assert "scientific claim" in settings["tasks"]["query"].lower()
    assert settings["embedding"]["document_words"] == 1024
    assert settings["embedding"]["document_cap"] == 40
    assert (settings["caps"]["prompt"], settings["caps"]["listed"]) == (300, 128)
    assert (settings["window"], settings["order"]) == (2, "reversed")
    assert settings["listwise_adapter"] is None


def test_a_sweep_over_listed_documents_is_drawn_with_the_controls(
    evaluate, tmp_path: Path, folder: Path, qwen_encoder: E2RankEncoder
):
    """A point for each k, equal to a comparison with that k; the picture is the same each time."""
    for name in ("a.svg", "b.svg"):
        _, report = evaluate("--sweep-k", "3,1", "--plot", str(tmp_path / name), "--fill")
    assert [point["num_input_docs"] for point in report["sweep"]] == [1, 3]
    assert [point["documents_used"] for point in report["sweep"]] == [1.0, 3.0]
    collection = load_collection(folder)
    first_stage = BM25(collection.documents, fill=True)
    known = compare(collection, Reranker(qwen_encoder, num_input_docs=3), first_stage=first_stage, progress=False)
    assert report["sweep"][1]["score"] == pytest.approx(known[LISTWISE].scores.mean)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for name in ("BM25", DENSE, COSINE, RRF, PRF, LISTWISE):
        assert name in text


def test_scores_are_drawn_for_the_plain_query_and_the_prompt(evaluate, tmp_path: Path):
    """Two panels, with relevant and other candidates in each."""
    evaluate("--scores", str(tmp_path / "scores.svg"))
    text = (tmp_path / "scores.svg").read_text(encoding="utf-8")
    assert f"small test, {COSINE}" in text
    assert f"small test, {LISTWISE}" in text
    assert len(re.findall(r">relevant: mean", text)) == len(re.findall(r">not relevant: mean", text)) == 2


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--pool"], "--first-stage"),
        (["--first-stage", "dense", "--pool"], "--first-stage"),
        (["--first-stage", "nowhere.trec"], "cannot be read"),
        (["--measures", "nDCG@10", "unheard of"], "unheard of"),
        (["--query-weight", "1.5"], "query_weight"),
        (["--template", "nobody's"], "no template"),
        (["--task", "nobody's"], "no task"),
        (["--split", "dev"], "dev.tsv"),
        (["--exclude", "nowhere.json"], "cannot be read"),
        (["--scores", "never-written.svg", "--window", "2"], "sliding window"),
        (["--runs", "corpus.jsonl"], "cannot be written"),
        (["--passes", "0"], "passes"),
    ],
)
def test_a_bad_option_is_one_line_on_stderr_and_status_2(
    evaluate,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    found: str,
):
    """No traceback, nothing written, nothing printed as if it were a figure."""
    placed = [str(folder / option) if option == "corpus.jsonl" else option for option in options]
    status, report = evaluate(*placed)
    printed = capsys.readouterr()
    assert (status, report, printed.out) == (2, {}, "")
    assert printed.err.startswith("error: ")
    assert found in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", ""])
def test_counts_are_refused_by_the_parser(evaluate, value: str, capsys: pytest.CaptureFixture[str]):
    """As argparse refuses, with the option's name."""
    for option in ("--depth", "--num-input-docs", "--sweep-k"):
        with pytest.raises(SystemExit):
            evaluate(f"{option}={value}")
        assert option in capsys.readouterr().err
