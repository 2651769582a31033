"""What the documentation site needs beyond its configuration; `.mkdocs.yml` names this file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mkdocs.structure.pages import Page
    from mkdocs.structure.toc import AnchorLink

# The tests read `continue` and `skip=reason` after the word python; Markdown would take such a fence for a paragraph.
_FOR_THE_TESTS = re.compile(r"^( *```python) (?:continue|skip=.*)$", re.MULTILINE)
# nbconvert puts MathJax and Mermaid, both from a network, into each notebook. None of ours has a formula or a diagram.
_FROM_A_NETWORK = re.compile(r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->", re.DOTALL)
_MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid(?:(?!</script>).)*</script>', re.DOTALL)
# A notebook's links lead to files of the repository, so that they work there, too.
_TO_A_PAGE = re.compile(r'href="\.\./docs/([\w/-]+)\.md(#[^"]*)?"')
_TO_A_NOTEBOOK = re.compile(r'href="([\w-]+)\.ipynb(#[^"]*)?"')
_HEADING = re.compile(r'<h[123] id="([^"]+)">(.*?)<a class="anchor-link"', re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Take from the fences what is for the tests."""
    return _FOR_THE_TESTS.sub(r"\1", markdown)


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Make a notebook a page of the site: nothing from a network, and links from page to page."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html
    for entry, (anchor, title) in zip(_flat(page.toc), _HEADING.findall(html), strict=True):
        # mkdocs-jupyter's own table of contents leaves out what a heading sets as code.
        entry.id, entry.title = anchor, re.sub("<[^>]+>", "", title)
    html = _MERMAID.sub("", _FROM_A_NETWORK.sub("", html))
    html = _TO_A_PAGE.sub(r'href="../\1.html\2"', html)
    return _TO_A_NOTEBOOK.sub(r'href="\1.html\2"', html)


def _flat(entries: Iterable[AnchorLink]) -> Iterator[AnchorLink]:
    for entry in entries:
        yield entry
        yield from _flat(entry.children)
