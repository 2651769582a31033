"""The page of the embedded default's figures: every collection, both first stages, each adapter, the controls."""

from __future__ import annotations

from pathlib import Path

from e2rank_integrations.bundle import EMBEDDED_FOLDER
from e2rank_integrations.evaluation import embedded
from e2rank_integrations.evaluation.embedded import POOLED, REPORTED, main
from tests.support.collections import write_beir
from tests.support.passages import PASSAGES, QUERIES

DOCUMENTS = dict(list(PASSAGES.items())[:6])


def write_collection(folder: Path, split: str) -> None:
    """Six passages, two queries, a run of the first stage beside them."""
    queries = {f"q{place}": text for place, text in enumerate(QUERIES[:2])}
    first, *_, last = DOCUMENTS
    write_beir(folder, DOCUMENTS, queries, {"q0": {first: 1}, "q1": {last: 2}}, split)
    (folder / "runs").mkdir(exist_ok=True)
    lines = [f"{query} Q0 {key} 0 {-place} x\n" for query in queries for place, key in enumerate(DOCUMENTS)]
    (folder / "runs" / "BM25.trec").write_text("".join(lines), encoding="utf-8")


def test_the_page_holds_every_figure(tmp_path: Path) -> None:
    """A collection, an adapter or a control that falls out of the page would be a figure withheld."""
    for name in (*REPORTED, POOLED, "noveleval"):
        write_collection(tmp_path / name, "test")
    write_collection(tmp_path / "nfcorpus", "dev")
    page = tmp_path / "page.md"
    adapters = ["--adapter", str(EMBEDDED_FOLDER), "--adapter", str(EMBEDDED_FOLDER)]
    main(["--data", str(tmp_path), *adapters, "--page", str(page), "--cache", str(tmp_path / "cache")])
    words, own, tuning = page.read_text(encoding="utf-8").split("\n## ")[1:]
    for text, names in ((words, (*REPORTED, POOLED)), (own, REPORTED)):
        head, *rows = (line for line in text.splitlines() if line.startswith("| "))
        assert [f"{name} test" for name in names] == [cell.strip() for cell in head.split("|")[2 : 2 + len(names)]]
        labels = [row.split("|")[1].strip() for row in rows]
        assert labels.count("**listwise, the shipped adapter**") == 1
        assert sum(label.startswith("listwise, the same recipe again") for label in labels) >= 1
        assert sum(label.startswith("control") for label in labels) == 3
        assert "the first search" in labels
    assert POOLED not in own
    assert all(f"{name}, " in tuning for name in ("nfcorpus dev", "noveleval test"))
    assert (tmp_path / "embedded-profile.svg").read_bytes().startswith(b"<?xml")


def test_differences_are_from_plain_cosine() -> None:
    """In points, and the mean over the collections that both rows have."""
    rows = iter([("BM25", [0.1, 0.2]), ("plain cosine", [0.5, 0.25]), ("listwise", [0.51, None])])
    columns = [embedded.Column(name, None, (), 0.0) for name in ("a", "b")]
    *_, first, base, last = embedded._table("nDCG@10", columns, rows)
    assert first == "| BM25 | 0.1000 (-40.00) | 0.2000 (-5.00) | -22.50 |"
    assert base == "| plain cosine | 0.5000 | 0.2500 |  |"
    assert last == "| listwise | 0.5100 (+1.00) | – | +1.00 |"
