from __future__ import annotations

from pathlib import Path

import pytest

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.runs import Hit, read_trec_run


def write(folder: Path, text: str) -> Path:
    path = folder / "BM25.trec"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_run_is_ordered_by_score_and_ties_as_trec_eval_breaks_them(tmp_path: Path):
    """The score decides, whatever rank the file states; equal scores go by document id, last to first."""
    run = read_trec_run(write(tmp_path, "q Q0 low 1 1.5 x\nq\tQ0\ta 2 2.5 x\nq Q0 b 3 2.5 x\n\np Q0 a 1 -1e-3 x\n"))
    assert run["q"] == (Hit("b", 2.5), Hit("a", 2.5), Hit("low", 1.5))
    assert run["p"] == (Hit("a", -0.001),)
    assert run["absent"] == ()
    assert run.name == "BM25"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("q Q0 d 1 1.0", "found 5"),
        ("q Q0 d 1 high x", "finite number"),
        ("q Q0 d 1 nan x", "finite number"),
        ("q Q0 d 1 inf x", "finite number"),
        ("q Q0 first 2 0.5 x", "'first' a second time"),
    ],
)
def test_a_bad_line_is_an_error_with_file_and_line(tmp_path: Path, line: str, found: str):
    """A score that is no number cannot be ordered, and a document twice would count twice."""
    path = write(tmp_path, f"q Q0 first 1 1.0 x\n{line}\n")
    with pytest.raises(InputError) as caught:
        read_trec_run(path)
    assert f"{path}, line 2" in str(caught.value)
    assert found in str(caught.value)
