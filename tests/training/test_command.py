"""`e2rank train` from its options to the folder that it writes."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from e2rank_integrations import E2RankEncoder, cli
from e2rank_integrations.evaluation.demo import DEMO_FOLDER
from e2rank_integrations.evaluation.methods import COSINE, LISTWISE
from e2rank_integrations.training.card import CARD
from e2rank_integrations.training.options import bounds
from e2rank_integrations.training.slates import TrainingSlate, write_slates

pytest.importorskip("accelerate", reason="the train extra is not installed")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, slates: list[TrainingSlate]) -> Path:
    """A file of slates, one of documents, and a judged collection of twelve abstracts and two claims."""
    folder = tmp_path_factory.mktemp("sources")
    write_slates(folder / "slates.jsonl", slates[:3])
    with (DEMO_FOLDER / "corpus.jsonl").open(encoding="utf-8") as file:
        lines = list(islice(file, 12))
    (folder / "plain").mkdir()
    (folder / "plain" / "corpus.jsonl").write_text("".join(lines), encoding="utf-8")
    judged = folder / "judged"
    (judged / "qrels").mkdir(parents=True)
    (judged / "corpus.jsonl").write_text("".join(lines), encoding="utf-8")
    rows = [json.loads(line) for line in lines[:2]]
    queries = [json.dumps({"_id": f"q{place}", "text": row["title"]}) for place, row in enumerate(rows)]
    (judged / "queries.jsonl").write_text("\n".join(queries) + "\n", encoding="utf-8")
    judgements = [f"q{place}\t{row['_id']}\t1\n" for place, row in enumerate(rows)]
    (judged / "qrels" / "test.tsv").write_text("".join(judgements), encoding="utf-8")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """As from a shell."""
    monkeypatch.setattr(sys, "argv", ["e2rank", "train", *options])
    return cli.main()


@pytest.fixture
def base(tiny: E2RankEncoder) -> list[str]:
    return ["--model", str(tiny.checkpoint.folder), "--device", "cpu"]


def test_an_adapter_from_all_three_kinds_of_data(
    *,
    tiny: E2RankEncoder,
    base: list[str],
    sources: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Mined, written and made of documents alone; the folder loads by path, and its card says how it came to be."""
    out = tmp_path / "result"
    status = run(
        monkeypatch, *base, "--out", str(out),
        "--data", f"{DEMO_FOLDER}:test", "--documents", str(sources / "plain" / "corpus.jsonl"),
        "--slates", str(sources / "slates.jsonl"), "--limit", "2", "--slate-size", "4",
        "--cache", str(tmp_path / "cache"),
        "--objective", "listwise", "--lora-rank", "2", "--learning-rate", "0.01", "--batch-size", "4",
        "--num-input-docs", "2-3", "--rerank-docs", "3", "--query-weight", "0.4", "--prompt-tokens", "512",
        "--licence", "cc-by-4.0", "--data-licence", "SciFact: CC BY 4.0 and ODC-By 1.0",
        "--evaluate", f"{sources / 'judged'}:test",
    )  # fmt: skip
    assert status == 0
    assert str(out) in capsys.readouterr().out.splitlines()[-1]
    encoder = E2RankEncoder(str(out), device="cpu")
    assert (encoder.profile.num_input_docs, encoder.profile.query_weight) == (3, 0.4)
    assert encoder.profile.caps.prompt == encoder.profile.caps.listed == 512
    documents = ["one text", "another text"]
    own = E2RankEncoder(str(tiny.checkpoint.folder), encoder.profile, device="cpu")
    np.testing.assert_array_equal(encoder.encode_documents(documents), own.encode_documents(documents))
    assert not np.allclose(encoder.encode_listwise("q", documents)[0], own.encode_listwise("q", documents)[0])
    card = (out / CARD).read_text(encoding="utf-8")
    assert 'license: "cc-by-4.0"' in card
    assert "- SciFact: CC BY 4.0 and ODC-By 1.0" in card
    assert "| scifact_subset test | 4 |" in card  # two queries, in both orders
    assert "| plain/corpus.jsonl | 4 |" in card
    assert "| animals | 3 |" in card
    assert "| objective | listwise |" in card
    assert "e2rank train --model" in card
    assert "--lora-rank 2" in card
    assert "judged test" in card
    assert f"| {LISTWISE} | " in card
    assert f"| {COSINE} | " in card


def test_all_weights_from_slates_alone(
    base: list[str], sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The defaults but for the batch: the paper's stage II."""
    out = tmp_path / "result"
    slates = ["--slates", str(sources / "slates.jsonl")]
    assert run(monkeypatch, *base, *slates, "--out", str(out), "--batch-size", "3") == 0
    assert E2RankEncoder(str(out), device="cpu").engine_key.listwise_adapter is None
    assert "| objective | joint |" in (out / CARD).read_text()
    assert len(json.loads((out / "training_log.json").read_text())) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing to learn from"),
        (["--objective", "listwise"], "lora_rank"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--slates", "{sources}/bad.jsonl"], "1 of 2 rows cannot be used"),
        (["--slates", "{sources}/slates.jsonl", "--resume"], "no saved state"),
        (["--slates", "{sources}/slates.jsonl", "--out", "{sources}"], "expected an empty folder"),
        (["--slates", "{sources}/slates.jsonl", "--evaluate", "{sources}/judged:dev"], "dev.tsv"),
        (["--slates", "{sources}/slates.jsonl", "--template", "other"], "no template named"),
        (["--data", "{sources}/judged:test", "--data", "{sources}/judged:test"], "two sources"),
    ],
    ids=["no-data", "no-rank", "no-folder", "bad-row", "no-state", "not-empty", "no-split", "template", "twice"],
)
def test_an_error_is_one_line_and_status_two(
    *,
    base: list[str],
    sources: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    """What is wrong, before any work; no traceback, and no folder that looks like a result."""
    good = (sources / "slates.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (sources / "bad.jsonl").write_text(f'{good}\n{{"query": "q", "documents": []}}\n', encoding="utf-8")
    out = tmp_path / "result"
    given = [option.format(sources=sources) for option in options]
    assert run(monkeypatch, *base, "--out", str(out), *given) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert not out.exists()


def test_bad_rows_are_left_out_on_request_alone(
    base: list[str], sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And then one log record names them."""
    rows = (sources / "slates.jsonl").read_text(encoding="utf-8")
    (tmp_path / "some.jsonl").write_text(f"{rows}not json\n", encoding="utf-8")
    some = ["--slates", str(tmp_path / "some.jsonl"), "--out", str(tmp_path / "result")]
    assert run(monkeypatch, *base, *some, "--batch-size", "3", "--skip-bad-rows") == 0
    assert "1 of 4 rows" in caplog.text


def test_bounds_are_one_number_or_two() -> None:
    """`3` is from 3 to 3."""
    assert bounds("3") == (3, 3)
    assert bounds("2-4") == (2, 4)


@pytest.mark.parametrize("text", ["2-3-4", "-3", "two", "0-3", ""])
def test_other_bounds_are_refused_by_the_parser(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "--out", "x", f"--num-input-docs={text}")
    assert caught.value.code == 2
    assert "--num-input-docs" in capsys.readouterr().err


def test_help_names_every_setting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each field of the settings is an option; no default is told otherwise than the settings have it."""
    from dataclasses import fields

    from e2rank_integrations.training.settings import TrainSettings

    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "--help")
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for entry in fields(TrainSettings):
        assert f"--{entry.name.replace('_', '-')}" in printed
