"""The documentation site builds without a warning, hangs together, and needs no network to be read."""

from __future__ import annotations

import inspect
import os
import re
import struct
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from e2rank_integrations import errors
from tests.packaging.examples import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("mkdocs", reason="the docs group is not installed")

CONFIG = ROOT / ".mkdocs.yml"
DOCS = ROOT / "docs"
PUBLIC = ("e2rank_integrations", "e2rank_integrations.langchain", "e2rank_integrations.llama_index")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}


@dataclass
class Page(HTMLParser):
    """What a built page refers to, and what may be referred to in it."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if LOADED.get(tag) in values:
            self.loaded.append(values[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it, into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(CONFIG), "--site-dir", folder]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, capture_output=True, text=True, env=quiet, cwd=folder, check=False)
    assert built.returncode == 0, built.stderr[-4000:]
    assert "WARNING" not in built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Every page of the site, read."""
    return {path: read(path) for path in site.rglob("*.html") if path.name != "404.html"}


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def in_nav(entry: object) -> Iterator[str]:
    """The files that a navigation names."""
    if isinstance(entry, str):
        yield entry
    for part in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
        yield from in_nav(part)


def test_the_navigation_lists_every_page_once_and_no_other() -> None:
    """A page that nobody can find, or an entry that leads nowhere, is a fault."""
    from mkdocs.utils import yaml_load

    listed = sorted(in_nav(yaml_load(CONFIG.read_text(encoding="utf-8"))["nav"]))
    there = [*DOCS.glob("*.md"), *DOCS.glob("api/*.md"), *DOCS.glob("cookbook/*.ipynb")]
    assert listed == sorted(path.relative_to(DOCS).as_posix() for path in there)


def test_every_link_within_the_site_leads_somewhere(pages: dict[Path, Page]) -> None:
    """Pages, files and anchors, those of notebooks and of the API reference included."""
    broken = [f"{path.name}: {link}" for path, page in pages.items() for link in dead_links(path, page, pages)]
    assert broken == []


def dead_links(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    for link in {*page.links, *page.loaded}:
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        anchors = pages[target].anchors if target in pages else set()
        if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in anchors):
            yield link


def test_a_page_loads_nothing_from_a_network(site: Path, pages: dict[Path, Page]) -> None:
    """Scripts, styles, fonts and pictures are the site's own, or written into the page."""
    loaded = {f"{path.name}: {link}" for path, page in pages.items() for link in page.loaded if not is_own(link)}
    assert loaded == set()
    fetch = re.compile(r"""(?:@import|url\(|import\(|importScripts\()\s*['"]?\s*(?:https?:)?//[^'")]*""")
    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    assert {found for path in files for found in fetch.findall(path.read_text(encoding="utf-8"))} == set()


def is_own(link: str) -> bool:
    return urlsplit(link).scheme in {"", "data"} and not link.startswith("//") and link != ""


def test_no_page_needs_mermaid(site: Path) -> None:
    """The theme would fetch it from a network as soon as a page had such a diagram."""
    assert [path.name for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text(encoding="utf-8")] == []


def test_fences_for_the_tests_are_code_on_the_page(site: Path) -> None:
    """`continue` and `skip=` after the word python do not turn an example into running text."""
    assert [path.name for path in site.rglob("*.html") if "```" in prose(path)] == []
    assert "reranker.plan" not in prose(site / "architecture.html")


def prose(path: Path) -> str:
    """A page's text without its code."""
    return re.sub(r"<(code|pre|script|style)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_reference_has_every_public_name(pages: dict[Path, Page]) -> None:
    """What can be imported from the package and its adapters is in the API reference."""
    reference = [page for path, page in pages.items() if path.parent.name == "api"]
    found = {anchor.rpartition(".")[2] for page in reference for anchor in page.anchors}
    public = {name for module in PUBLIC for name in import_module(module).__all__} - {"__version__"}
    assert public - found == set()


def test_the_error_page_draws_the_tree_as_it_is() -> None:
    """Every error is drawn under the class that it derives from."""
    tree = (DOCS / "errors.md").read_text(encoding="utf-8").partition("```text\n")[2].partition("```")[0]
    drawn = [(match.start(), match[0]) for match in map(re.compile(r"\w+Error").search, tree.splitlines()) if match]
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]
    assert dict(parents(drawn)) == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds}


def parents(drawn: list[tuple[int, str]]) -> Iterator[tuple[str, str]]:
    """Each name with the last one before it that stands further to the left."""
    for place, (column, name) in enumerate(drawn):
        yield name, next((up for at, up in reversed(drawn[:place]) if at < column), "Exception")


def test_the_layers_on_the_page_are_those_that_are_enforced() -> None:
    """The drawing cannot drift from import-linter's contract."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    shown = page.partition('```text title="layers"\n')[2].partition("\n```")[0].splitlines()
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    contracts = tools["importlinter"]["contracts"]
    assert shown == next(contract["layers"] for contract in contracts if contract["type"] == "layers")


def test_the_screenshot_is_crisp_and_described() -> None:
    """The picture of a ranking is there, made for a fine screen, and has a text for whoever cannot see it."""
    header = (DOCS / "images" / "ranking.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", header[16:])
    assert width >= 1500
    assert 500 <= height <= width
    assert re.search(r"!\[[^\]]{60,}\]\(images/ranking\.png\)", (DOCS / "index.md").read_text(encoding="utf-8"))


def test_headings_go_down_one_level_at_a_time() -> None:
    """A page begins with its title, and no heading skips a level: its table of contents is its outline."""
    for path in DOCS.glob("*.md"):
        text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
        assert levels[0] == 1, path.name
        assert levels.count(1) == 1, path.name
        assert all(after <= before + 1 for before, after in pairwise(levels)), path.name
