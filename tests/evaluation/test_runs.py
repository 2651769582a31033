from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.runs import Hit, Run, read_trec_run, run_tag, without, write_trec_run


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


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.permutations([f"d{number}" for number in range(12)]),
    st.lists(st.sampled_from([0.5, 0.5 + 1e-12, 0.25, 0.0, -1.0, 1e-40, 1e30]), min_size=12, max_size=12),
)
def test_a_written_run_is_read_back_in_the_same_order(tmp_path: Path, order: list[str], scores: list[float]):
    """Whatever the scores: equal, rising, or equal in the single precision in which trec_eval sorts them."""
    run = Run({"q": tuple(map(Hit, order, scores)), "empty": ()}, "control: RRF")
    write_trec_run(run, tmp_path / "run.trec")
    again = read_trec_run(tmp_path / "run.trec")
    assert [hit.id for hit in again["q"]] == order
    lines = (tmp_path / "run.trec").read_text(encoding="utf-8").splitlines()
    single = [np.float32(line.split()[4]) for line in lines]
    assert all(left > right for left, right in pairwise(single))
    assert [line.split()[3] for line in lines] == [str(rank) for rank in range(1, 13)]
    assert {line.split()[5] for line in lines} == {"control-RRF"}


def test_scores_that_fall_are_written_as_they_are(tmp_path: Path):
    """In single precision; only what would change the order is moved."""
    run = Run({"q": (Hit("a", 0.75), Hit("b", 0.1))})
    write_trec_run(run, tmp_path / "run.trec")
    assert [hit.score for hit in read_trec_run(tmp_path / "run.trec")["q"]] == [0.75, 0.1]


@pytest.mark.parametrize(("query", "document"), [("a query", "d"), ("q", "a document"), ("q", "")])
def test_an_id_that_the_format_cannot_hold_is_an_error(tmp_path: Path, query: str, document: str):
    """White space parts the columns; and no half of a file is left."""
    with pytest.raises(InputError, match="white space"):
        write_trec_run(Run({"first": (Hit("d", 1.0),), query: (Hit(document, 1.0),)}), tmp_path / "run.trec")
    assert list(tmp_path.iterdir()) == []


def test_excluded_documents_make_room_for_the_next_ones():
    """They are taken out before the list is cut, so that it keeps its length."""
    hits = tuple(Hit(key, 1.0) for key in "abcd")
    assert [hit.id for hit in without(hits, {"a", "c"}, 2)] == ["b", "d"]
    assert without(hits, frozenset(), 3) == hits[:3]


@pytest.mark.parametrize(
    ("name", "tag"), [("control: RRF", "control-RRF"), ("a/b\\c", "a-b-c"), ("../x", "x"), ("…", "run")]
)
def test_a_tag_is_one_word_and_a_safe_file_name(name: str, tag: str):
    """A run's name may come from anywhere."""
    assert run_tag(name) == tag
