"""The notebooks run as they are committed, and what is committed is what a reader may see.

`python -m tests.cookbook.execute` writes their outputs anew.
"""

from __future__ import annotations

import base64
import getpass
import re
import socket
import sys
from typing import TYPE_CHECKING

import nbformat
import pytest

from tests.cookbook.execute import METADATA, execute_apart, notebooks, read, smaller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbformat import NotebookNode

NOTEBOOKS = notebooks()
MODEL_LINE = 'MODEL = "embedded"  # or "Alibaba-NLP/E2Rank-0.6B"'
MOST_BYTES = 60_000
ABSOLUTE = re.compile(
    r"(?<![\w.:/<>])/(?:home|root|tmp|var|usr|opt|mnt|private|Users|work|srv|data|builds?|workspace)/[\w.-]+"
    r"|\b[A-Za-z]:\\\\?[\w.-]+"
)
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


@each
def test_a_notebook_runs_as_committed(path: Path, tmp_path: Path) -> None:
    """Offline and in an empty folder every cell runs without an error or a warning, and prints and draws what the
    committed file shows: the same cells the same kinds of output."""
    outcome = execute_apart(path, tmp_path)
    assert outcome.process.returncode == 0, outcome.process.stderr[-4000:]
    fresh, committed = read(outcome.written), read(path)
    assert warnings_of(fresh) == []
    assert [cell.source for cell in fresh.cells] == [cell.source for cell in committed.cells]
    assert kinds(fresh) == kinds(committed), "run: python -m tests.cookbook.execute"
    assert leaks(fresh) == []


def test_there_are_notebooks() -> None:
    """An empty folder would pass everything here for nothing."""
    assert len(NOTEBOOKS) >= 4


@each
def test_one_line_switches_the_model(path: Path) -> None:
    """The first code cell is the one line to change: no other names a model."""
    first, *others = code_cells(read(path))
    assert first.source == MODEL_LINE
    assert any("MODEL" in cell.source for cell in others)
    assert [cell.id for cell in others if '"embedded"' in cell.source or "Alibaba-NLP" in cell.source] == []


@each
def test_outputs_are_committed(path: Path) -> None:
    """The docs show the file as it is: every cell was run, in order, in one go, without errors or warnings."""
    notebook = read(path)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert warnings_of(notebook) == []
    assert sum(bool(cell.outputs) for cell in code_cells(notebook)) > len(code_cells(notebook)) / 2


@each
def test_nothing_tells_where_it_ran(path: Path) -> None:
    """No output holds an absolute path, a user's or a machine's name, and the metadata no version or time."""
    notebook = read(path)
    assert leaks(notebook) == []
    assert notebook.metadata == METADATA
    assert [cell.id for cell in notebook.cells if cell.metadata] == []


@each
def test_cells_have_names_and_plots_are_small(path: Path) -> None:
    """A cell's id is a word that stays when the file is written again; a picture does not weigh on the repository."""
    notebook = read(path)
    assert [cell.id for cell in notebook.cells if not re.fullmatch(r"[a-z]+(-[a-z]+)*", cell.id)] == []
    assert [len(data) for data in pictures(notebook) if len(data) > MOST_BYTES] == []


@each
def test_links_between_notebooks_lead_somewhere(path: Path) -> None:
    """A relative link names a file beside the notebook."""
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", prose)
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_kernel_is_this_interpreter_offline_in_an_empty_folder(tmp_path: Path) -> None:
    """Whatever kernels the machine has: the interpreter that runs the tests runs the cells; the hub is off."""
    source = "import os, sys\nprint([sys.executable, os.listdir(), os.environ['HF_HUB_OFFLINE']])"
    outcome = execute_apart(written(tmp_path / "a.ipynb", source), made(tmp_path / "out"))
    assert outcome.process.returncode == 0, outcome.process.stderr
    (cell,) = code_cells(read(outcome.written))
    assert cell.outputs[0].text.strip() == str([sys.executable, [], "1"])


def test_a_failing_cell_fails_the_run(tmp_path: Path) -> None:
    """An error ends the run, is reported, and leaves the file as it was."""
    path = written(tmp_path / "a.ipynb", "1 / 0")
    before = path.read_bytes()
    outcome = execute_apart(path, tmp_path)
    assert outcome.process.returncode != 0
    assert "ZeroDivisionError" in outcome.process.stderr
    assert path.read_bytes() == before


def test_what_must_not_be_shown_is_found() -> None:
    """The checks above see a warning, a path and a missing picture where there is one."""
    noisy = shown(nbformat.v4.new_output("stream", name="stderr", text="UserWarning: mind /home/ann/notes.txt"))
    windows = shown(nbformat.v4.new_output("execute_result", {"text/plain": r"WindowsPath('C:\\Users\\ann')"}))
    clean = shown(
        nbformat.v4.new_output("stream", name="stdout", text="</td> 5 mg/kg/day, and/or, a: 1, http://x.org/tmp")
    )
    assert warnings_of(noisy) == ["a"]
    assert len(leaks(noisy)) == len(leaks(windows)) == 1
    assert leaks(clean) == warnings_of(clean) == []
    assert kinds(noisy) != kinds(clean) != kinds(windows)


def test_a_plot_keeps_its_shape_when_made_smaller() -> None:
    """Fewer colours, the same picture: size and colours of a two-coloured one are exact."""
    from io import BytesIO

    from PIL import Image

    picture = Image.new("RGBA", (40, 30), "#0072B2")
    picture.paste("#D55E00", (0, 0, 10, 10))
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    small = Image.open(BytesIO(base64.b64decode(smaller(base64.b64encode(buffer.getvalue()).decode())))).convert("RGB")
    assert small.size == picture.size
    assert (small.getpixel((5, 5)), small.getpixel((20, 20))) == ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def warnings_of(notebook: NotebookNode) -> list[str]:
    """Ids of cells with an error or anything on stderr."""
    return [
        cell.id
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def kinds(notebook: NotebookNode) -> list[tuple[str, list[tuple[str, ...]]]]:
    """For each cell what it puts out: streams by name, and data by their types."""
    return [(cell.id, [kind(output) for output in cell.outputs]) for cell in code_cells(notebook)]


def kind(output: NotebookNode) -> tuple[str, ...]:
    return (output.output_type, output.get("name", ""), *sorted(output.get("data", ())))


def texts(notebook: NotebookNode) -> Iterator[str]:
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield output.get("text", "")
            yield from (str(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/"))


def pictures(notebook: NotebookNode) -> list[bytes]:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", ())]


def leaks(notebook: NotebookNode) -> list[str]:
    """Places and names that an output tells."""
    names = {re.escape(name) for name in (getpass.getuser(), socket.gethostname()) if len(name) > 4}
    names.add(re.escape(sys.prefix))
    found = re.compile("|".join([ABSOLUTE.pattern, *sorted(names)]))
    return [match.group() for text in texts(notebook) if (match := found.search(text))]


def shown(output: NotebookNode) -> NotebookNode:
    cell = nbformat.v4.new_code_cell("x", id="a", outputs=[output])
    return nbformat.v4.new_notebook(cells=[cell])


def written(path: Path, source: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, id="a")]), path)
    return path


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
