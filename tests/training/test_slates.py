from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2rank_integrations.errors import InputError
from e2rank_integrations.training.slates import TrainingSlate, read_slates, write_slates

ROW = {"query": "Explain gravity", "documents": ["tea", "an apple", "bodies attract"], "ranking": [3, 2, 1]}
SECRET = "my secret text"

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@st.composite
def slates(draw: st.DrawFn) -> TrainingSlate:
    documents = tuple(draw(st.lists(texts, min_size=2, max_size=6).filter(lambda found: len(set(found)) > 1)))
    ranking = tuple(draw(st.permutations(range(len(documents)))))
    positives = draw(st.lists(st.sampled_from(ranking), max_size=len(documents), unique=True))
    query = draw(texts.filter(str.strip))
    return TrainingSlate(query, documents, ranking, tuple(positives), draw(texts))


def write_rows(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@given(written=st.lists(slates(), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, written: list[TrainingSlate]):
    """Every text, position and name comes back, whatever line ends and controls the texts hold."""
    path = tmp_path_factory.mktemp("slates") / "new" / "train.jsonl"
    write_slates(path, iter(written))
    assert read_slates(path) == tuple(written)
    assert [item.name for item in path.parent.iterdir()] == ["train.jsonl"]


def test_a_row_is_the_references(tmp_path: Path):
    """Positions count from 1 in the file and from 0 in memory; the best document alone is relevant by default."""
    (slate,) = read_slates(write_rows(tmp_path / "train.jsonl", {**ROW, "made by": "another tool"}))
    assert slate == TrainingSlate("Explain gravity", ("tea", "an apple", "bodies attract"), (2, 1, 0))
    assert slate.positives == (2,)
    assert slate.source == ""
    write_slates(tmp_path / "again.jsonl", [slate])
    assert json.loads((tmp_path / "again.jsonl").read_text(encoding="utf-8")) == ROW


def test_positives_and_source_are_read_and_written(tmp_path: Path):
    """Several documents may be relevant, and a set keeps its name."""
    row = {**ROW, "positives": [3, 2], "source": "scifact train"}
    (slate,) = read_slates(write_rows(tmp_path / "train.jsonl", row))
    assert (slate.positives, slate.source) == ((2, 1), "scifact train")
    write_slates(tmp_path / "again.jsonl", [slate])
    assert json.loads((tmp_path / "again.jsonl").read_text(encoding="utf-8")) == row


def test_equal_texts_are_one_object(tmp_path: Path):
    """A passage that is in many slates takes its memory once."""
    first, second = read_slates(write_rows(tmp_path / "train.jsonl", ROW, {**ROW, "ranking": [1, 2, 3]}))
    assert all(one is other for one, other in zip(first.documents, second.documents, strict=True))


BAD_ROWS = {
    "not JSON": (f'{{"query": "{SECRET}', "JSON"),
    "no object": (json.dumps([SECRET]), "found list"),
    "nested too deep": ("[" * 100_000, "JSON object"),
    "no query": (json.dumps({key: ROW[key] for key in ("documents", "ranking")}), "'query'"),
    "no ranking": (json.dumps({key: ROW[key] for key in ("documents", "query")}), "'ranking'"),
    "blank query": (json.dumps({**ROW, "query": " \n"}), "blank"),
    "query no string": (json.dumps({**ROW, "query": 7}), "query: expected a string, found int"),
    "lone surrogate": (json.dumps({**ROW, "query": f"{SECRET} \ud800"}), "U+D800"),
    "surrogate in a document": (json.dumps({**ROW, "documents": ["a", "b", f"{SECRET} \udfff"]}), "document 3 of 3"),
    "documents a string": (json.dumps({**ROW, "documents": SECRET}), "documents: expected a list"),
    "document no string": (json.dumps({**ROW, "documents": ["a", None, SECRET]}), "document 2 of 3"),
    "one document": (json.dumps({**ROW, "documents": [SECRET], "ranking": [1]}), "at least 2, found 1"),
    "ranking no list": (json.dumps({**ROW, "ranking": SECRET}), "ranking: expected a list"),
    "ranking of strings": (json.dumps({**ROW, "ranking": [SECRET, 1, 2]}), "whole numbers, found str"),
    "ranking of floats": (json.dumps({**ROW, "ranking": [1.0, 2, 3]}), "whole numbers, found float"),
    "ranking of booleans": (json.dumps({**ROW, "ranking": [True, 2, 3]}), "whole numbers, found bool"),
    "ranking from 0": (json.dumps({**ROW, "ranking": [0, 1, 2]}), "1 of 3 positions are outside"),
    "ranking too short": (json.dumps({**ROW, "ranking": [1, 2]}), "all 3 documents, found 2"),
    "ranking twice": (json.dumps({**ROW, "ranking": [1, 1, 2]}), "1 positions are there a second time"),
    "positives outside": (json.dumps({**ROW, "positives": [4]}), "positives: 1 of 1"),
    "positives twice": (json.dumps({**ROW, "positives": [1, 1]}), "positives: 1 positions"),
    "positives empty": (json.dumps({**ROW, "positives": []}), "positives: expected at least one"),
    "source no string": (json.dumps({**ROW, "source": 1}), "source"),
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_row_is_named_by_line_and_fault_without_its_text(tmp_path: Path, fault: str):
    """Whoever brings a broken file learns where and how it is broken; the log of that gives no text away."""
    line, found = BAD_ROWS[fault]
    path = tmp_path / "train.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n\n{line}\n{json.dumps(ROW)}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_slates(path)
    message = str(caught.value)
    assert "1 of 3 rows cannot be used: line 3: " in message
    assert found in message
    assert SECRET not in message


def test_all_bad_rows_are_in_one_error_the_first_twenty_by_name(tmp_path: Path):
    """One reading finds all faults, and a file broken throughout makes no endless message."""
    path = write_rows(tmp_path / "train.jsonl", ROW, *({"query": ""} for _ in range(23)), ROW)
    with pytest.raises(InputError) as caught:
        read_slates(path)
    message = str(caught.value)
    assert "23 of 25 rows" in message
    assert "and 3 more" in message
    assert [f"line {number}:" in message for number in (1, 2, 21, 22)] == [False, True, True, False]


def test_skipped_rows_are_counted_in_one_record(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Good rows are read in their order, and what is left out is said once, by line."""
    path = write_rows(tmp_path / "train.jsonl", ROW, {}, {**ROW, "query": "second"}, [SECRET])
    with caplog.at_level(logging.WARNING, "e2rank_integrations"):
        kept = read_slates(path, on_bad_rows="skip")
    assert [slate.query for slate in kept] == ["Explain gravity", "second"]
    (record,) = caplog.records
    assert "2 of 4 rows" in record.getMessage()
    assert "line 2: " in record.getMessage()
    assert "line 4: " in record.getMessage()
    assert SECRET not in record.getMessage()


def test_a_file_without_a_usable_row_is_an_error_either_way(tmp_path: Path):
    """Nothing to train on is never a success."""
    with pytest.raises(InputError, match="no usable row"):
        read_slates(write_rows(tmp_path / "empty.jsonl"))
    with pytest.raises(InputError, match="no usable row"):
        read_slates(write_rows(tmp_path / "bad.jsonl", {}), on_bad_rows="skip")
    with pytest.raises(InputError, match="cannot be read"):
        read_slates(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="on_bad_rows"):
        read_slates(tmp_path / "missing.jsonl", on_bad_rows="ignore")  # type: ignore[arg-type]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path):
    """Half a training set would be read as a whole one."""
    path = write_rows(tmp_path / "train.jsonl", ROW)
    before = path.read_bytes()

    def broken():
        yield TrainingSlate("q", ("a", "b"), (0, 1))
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write_slates(path, broken())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"documents": ["a", "b"]}, "found list"),
        ({"ranking": [0, 1]}, "found list"),
        ({"ranking": (-1, 0)}, "1 of 2 positions are outside"),
        ({"positives": (2,)}, "positives"),
    ],
)
def test_a_slate_made_by_hand_is_checked_as_well(changed: dict[str, Any], found: str):
    """A trainer can rely on every slate, wherever it comes from."""
    with pytest.raises(InputError, match=found):
        TrainingSlate(**{"query": "q", "documents": ("a", "b"), "ranking": (0, 1), **changed})
