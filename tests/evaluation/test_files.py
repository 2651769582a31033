from __future__ import annotations

from pathlib import Path

import pytest

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.files import expect_writable, written_whole


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    """A failure while writing leaves what was there before, and nothing beside it."""
    path = tmp_path / "new" / "result.json"
    with written_whole(path) as part:
        part.write_text("first", encoding="utf-8")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), written_whole(path) as part:
        part.write_text(f"second, half wr{1 / 0}", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path):
    """Both when it is tried before the work, and when it is written."""
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "result.json"
    with pytest.raises(InputError, match=r"result\.json: cannot be written"):
        expect_writable(inside)
    with pytest.raises(InputError, match=r"result\.json: cannot be written"), written_whole(inside):
        pass
    with pytest.raises(InputError, match="found a folder"):
        expect_writable(tmp_path)


def test_trying_a_place_leaves_nothing_but_its_folder(tmp_path: Path):
    """No empty file that looks like a result; one that is there stays."""
    expect_writable(tmp_path / "new" / "result.json")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old.json").write_text("kept", encoding="utf-8")
    expect_writable(tmp_path / "old.json")
    assert (tmp_path / "old.json").read_text(encoding="utf-8") == "kept"
