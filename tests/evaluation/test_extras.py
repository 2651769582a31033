from __future__ import annotations

import io
import subprocess
import sys

import pytest

from e2rank_integrations.errors import MissingExtraError
from e2rank_integrations.evaluation.collection import Collection
from e2rank_integrations.evaluation.extras import require
from e2rank_integrations.evaluation.first_stage import BM25
from e2rank_integrations.evaluation.measures import score
from e2rank_integrations.evaluation.plots import figure_of
from e2rank_integrations.evaluation.progress import tracked
from e2rank_integrations.evaluation.report import Report
from e2rank_integrations.evaluation.runs import Hit, Run

USES = {
    "bm25s": lambda: BM25({"a": "text"}),
    "Stemmer": lambda: BM25({"a": "text"}),
    "ir_measures": lambda: score(Run({"q": (Hit("a", 1.0),)}), {"q": {"a": 1}}),
    "matplotlib": figure_of,
    "rich": lambda: Report("c", 1, 1, "m", ()).table(),
}


@pytest.mark.parametrize("module", USES)
def test_a_missing_library_names_the_pip_command(module: str, monkeypatch: pytest.MonkeyPatch):
    """Each of the extra's libraries, where it is used."""
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'e2rank-integrations\[evaluation\]'"):
        USES[module]()


def test_an_error_inside_a_library_is_not_called_a_missing_extra(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Installing the extra would not help against it."""
    (tmp_path / "broken_library.py").write_text("import not_there_at_all\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError) as caught:
        require("broken_library")
    assert not isinstance(caught.value, MissingExtraError)


def test_importing_the_evaluation_loads_neither_torch_nor_its_own_extra():
    """So that a command line may offer it before anything is needed."""
    heavy = (
        "torch",
        "transformers",
        "bm25s",
        "Stemmer",
        "ir_measures",
        "matplotlib",
        "rich",
        "langchain_core",
        "chromadb",
    )
    code = (
        "import sys; from e2rank_integrations.evaluation import command, compare, figures, tune, subset, demo;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_bars_are_drawn_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch, collection: Collection):
    """On a terminal's stderr a bar with its label; elsewhere, or when not asked for, not a byte."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    for stream, show, drawn in ((Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(tracked([1, 2, 3], "embedding", show=show)) == [1, 2, 3]
        assert ("embedding" in stream.getvalue()) == drawn
