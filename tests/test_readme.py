"""Every Python example of README.md and docs/ runs, with the embedded default where it names the real weights.

A new example needs nothing but its fence; `tests/packaging/examples.py` says what may stand on it. Examples name
their model, since the default one would have to be downloaded.
"""

from __future__ import annotations

import asyncio
import linecache
import re
import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.packaging.examples import ROOT, Example, blocks, documents, examples
from tests.packaging.outputs import outputs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLES = [example for path in documents() for example in examples(path)]


OUTPUTS = {name: printed for path in documents() for name, printed in outputs(path).items()}


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Collections in memory, and an event loop that LlamaIndex leaves open, would reach the next example."""
    if "chromadb" in sys.modules:
        from chromadb.api.client import SharedSystemClient

        SharedSystemClient.clear_system_cache()
    yield
    with suppress(RuntimeError), warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        asyncio.get_event_loop().close()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each example is a program of its own: fresh names, an empty folder, no warning; it prints what is shown."""
    if example.skip:
        pytest.skip(example.skip)
    monkeypatch.chdir(tmp_path)
    run(example)
    printed = capsys.readouterr().out
    assert printed == OUTPUTS.get(example.name, printed)


def run(example: Example) -> None:
    """Run an example; its failure names the document and the line."""
    source, file = example.offline(), str(example.path)
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    try:
        exec(compile(source, file, "exec"), {"__name__": "__main__"})
    except Exception as error:
        line = failing_line(error, file) or example.blocks[0].line
        pytest.fail(f"{example.path.relative_to(ROOT)}:{line}: {type(error).__name__}: {error}")


def failing_line(error: BaseException, file: str) -> int | None:
    """The last line of the file that the error passed through."""
    if isinstance(error, SyntaxError):
        return error.lineno
    trace, line = error.__traceback__, None
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == file else line
        trace = trace.tb_next
    return line


def test_the_readme_has_examples() -> None:
    """A README without a Python block would pass the test above for nothing."""
    assert examples(ROOT / "README.md")


def test_outputs_that_are_shown_are_found() -> None:
    """A slip in a fence would leave its page untested."""
    pages = {name.partition(":")[0] for name in OUTPUTS}
    assert {"architecture.md", "budgets.md", "errors.md", "hardware.md", "stores.md"} <= pages
    assert OUTPUTS.keys() <= {example.name for example in EXAMPLES}


def test_a_failing_example_names_its_file_and_line() -> None:
    """The report leads to the line of the document, also in a block that goes on from another."""
    markdown = "# Title\n```python\nx = 1\n```\nwords\n```python continue\nassert x == 1\nraise KeyError(x)\n```\n"
    example = Example(ROOT / "README.md", tuple(blocks(markdown)))
    with pytest.raises(pytest.fail.Exception, match=r"README\.md:8: KeyError: 1"):
        run(example)


def test_only_the_real_weights_and_the_gpu_are_replaced() -> None:
    """What is run is what is printed, but for the model's name and the device."""
    (example,) = examples_of('```python\nE2RankEncoder("Alibaba-NLP/E2Rank-0.6B", device="cuda")  # keep\n```\n')
    assert example.offline().strip() == 'E2RankEncoder("embedded", device="cpu")  # keep'


def test_indented_fences_and_other_languages() -> None:
    """A fence within a list is read without its indent; fences of other languages, and what they hold, are not."""
    markdown = "- a\n  ```python\n  if 1:\n      x = 2\n  ```\n````text\n```python\nno\n```\n````\n```bash\npip\n```\n"
    assert [(block.code, block.line) for block in blocks(markdown)] == [("if 1:\n    x = 2", 3)]


@pytest.mark.parametrize(
    ("fence", "complaint"),
    [
        ("```py", "write ```python"),
        ("```python3", "write ```python"),
        ("```python skip", "expected nothing"),
        ("```python skip=", "expected nothing"),
        ("```python noqa", "expected nothing"),
    ],
)
def test_no_example_escapes_by_its_fence(fence: str, complaint: str) -> None:
    """Another name for Python, a skip without a reason or an unknown word is an error, not an example not run."""
    with pytest.raises(ValueError, match=complaint):
        blocks(f"{fence}\nx = 1\n```\n")


def test_a_fence_must_close() -> None:
    """An open fence would swallow the examples after it."""
    with pytest.raises(ValueError, match="never closed"):
        blocks("```python\nx = 1\n")


def test_a_skip_gives_its_reason() -> None:
    """The reason reaches the report."""
    (example,) = examples_of("```python skip=needs two GPUs\nx\n```\n")
    assert example.skip == "needs two GPUs"


def examples_of(markdown: str) -> list[Example]:
    return [Example(ROOT / "README.md", (block,)) for block in blocks(markdown)]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    """A link within the repository names a file that is there."""
    targets = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []
