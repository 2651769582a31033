"""A ranking in a terminal and in a notebook: readable, safe to log, safe to render."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from e2rank_integrations import Candidate, Ranking, Reranker
from e2rank_integrations.errors import EngineMemoryError
from e2rank_integrations.values import RankedCandidate, Usage

if TYPE_CHECKING:
    from e2rank_integrations import E2RankEncoder

SECRET = "xyzzy-plugh"


def a_ranking(*items: RankedCandidate, **fields: object) -> Ranking:
    return Ranking(items, items, None, Usage(1, 0, 1, 30), 0.25, **fields)


def an_item(position: int, old_position: int | None, text: str = SECRET, **fields: object) -> RankedCandidate:
    candidate = Candidate(text, id=fields.pop("id", f"doc-{position}"))
    return RankedCandidate(candidate, fields.pop("score", 0.5), position, old_position, **fields)


class Table(HTMLParser):
    """Cells of a rendered table, row by row, and every tag that was opened or left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_the_repr_of_a_real_ranking_tells_it_all(qwen_encoder: E2RankEncoder) -> None:
    """Counts, the prompt's size, forwards, tokens, seconds and the drift; a line for each result."""
    reranker = Reranker(qwen_encoder, top_n=2, num_input_docs=2, query_weight=0.5)
    ranking = reranker.rank("query", [Candidate(SECRET, id=f"doc-{i}") for i in range(3)])
    head, *lines = repr(ranking).splitlines()
    for fact in (
        "2 of 3 candidates",
        "2 of 2 listed, 0 cut",
        f"{ranking.plan.tokens} of 32768 prompt tokens",
        "3 forwards",
        f"{ranking.usage.tokens} tokens",
        f"cos(query, prompt) {ranking.query_similarity:.3f}",
    ):
        assert fact in head
    assert len(lines) == 2
    assert all(item.candidate.id in line for item, line in zip(ranking, lines, strict=True))
    assert str(ranking) == repr(ranking)


def test_the_repr_holds_no_text(qwen_encoder: E2RankEncoder) -> None:
    """It may be logged: neither the query nor a document is in it, with or without ids."""
    for ranking in (
        Reranker(qwen_encoder).rank(SECRET, [SECRET, Candidate(SECRET, prompt_text=SECRET, metadata={"k": SECRET})]),
        a_ranking(an_item(0, 1), error=EngineMemoryError("out of memory")),
    ):
        assert SECRET not in repr(ranking)


def test_results_without_an_id_are_called_by_their_old_position() -> None:
    """There is always something to find them by."""
    assert repr(a_ranking(an_item(0, 7, id=None))).endswith("[7]")


@pytest.mark.parametrize(
    ("position", "old_position", "moved"), [(0, 3, "▲3"), (4, 1, "▼3"), (2, 2, "="), (1, None, "new")]
)
def test_moves_are_arrows(position: int, old_position: int | None, moved: str) -> None:
    """Up, down, stayed, or found by the second search, in the terminal and in the notebook."""
    ranking = a_ranking(an_item(position, old_position))
    assert moved in repr(ranking).splitlines()[1].split()
    assert moved in Table(ranking._repr_html_()).rows[1]


@pytest.mark.parametrize(
    ("in_prompt", "truncated", "word"), [(True, False, "yes"), (True, True, "cut"), (False, False, "no")]
)
def test_it_shows_who_was_in_the_prompt_and_cut(in_prompt: bool, truncated: bool, word: str) -> None:
    """One word for each result."""
    ranking = a_ranking(an_item(0, 0, in_prompt=in_prompt, truncated=truncated, vector_source="store"))
    assert word in repr(ranking).splitlines()[1].split()
    assert "store" in repr(ranking)
    assert {word, "store"} <= set(Table(ranking._repr_html_()).rows[1])


def test_an_order_that_was_kept_says_after_what() -> None:
    """The kind of the failure, and a dash for each score."""
    ranking = a_ranking(an_item(0, 0, score=None), error=EngineMemoryError("details"))
    for view in (repr(ranking), ranking._repr_html_()):
        assert "order kept after EngineMemoryError" in view
        assert "–" in view
        assert "None" not in view


def test_an_empty_ranking_is_shown(qwen_encoder: E2RankEncoder) -> None:
    """Nothing came in, nothing went out."""
    ranking = Reranker(qwen_encoder).rank("query", [])
    assert repr(ranking).startswith("Ranking(0 of 0 candidates")
    assert len(Table(ranking._repr_html_()).rows) == 1


@pytest.mark.parametrize("count", [0, 1, 20, 21, 50, 51, 500])
def test_long_rankings_are_cut_with_the_number_left_out(count: int) -> None:
    """Shown lines and the number told add up to the results."""
    ranking = a_ranking(*(an_item(i, i) for i in range(count)))
    shown_in_text = len(re.findall(r"doc-\d+$", repr(ranking), flags=re.MULTILINE))
    shown_in_html = len(Table(ranking._repr_html_()).rows) - 1
    for view, shown in ((repr(ranking), shown_in_text), (ranking._repr_html_(), shown_in_html)):
        assert 0 < shown <= 50 or count == 0
        left_out = re.search(r"… (\d+) more", view)
        assert shown + (int(left_out[1]) if left_out else 0) == count


HOSTILE = "<script>alert('x')</script><img src=x onerror=\"alert(1)\">&amp;</td></table>"


@pytest.mark.parametrize("place", ["text", "id"])
def test_html_in_a_document_stays_text(place: str) -> None:
    """No tag of a text or an id reaches the notebook as a tag; the cell shows what was written."""
    plain = Table(a_ranking(an_item(0, 0, "harmless"))._repr_html_())
    hostile = Table(a_ranking(an_item(0, 0, **{place: HOSTILE}))._repr_html_())
    assert hostile.tags == plain.tags
    assert hostile.open == []
    assert HOSTILE in hostile.rows[1]


def test_the_notebook_shows_the_start_of_a_long_text() -> None:
    """A snippet with an ellipsis, so that a table of long passages stays a table; a short text is whole."""
    html = a_ranking(an_item(0, 0, "a" * 10_000), an_item(1, 1, "short"))._repr_html_()
    assert len(html) < 5_000
    assert "aaa…" in html
    assert "short…" not in html


@pytest.mark.parametrize("place", ["text", "id"])
def test_a_lone_surrogate_can_be_shown(place: str) -> None:
    """What no front end and no terminal can encode does not leave the package."""
    ranking = a_ranking(an_item(0, 0, **{place: "bad \ud800 text"}))
    assert ranking._repr_html_().encode()
    assert repr(ranking).encode()


def test_a_line_break_in_an_id_breaks_no_row() -> None:
    """One line for each result, whatever its id holds."""
    assert len(repr(a_ranking(an_item(0, 0, id="a\nb\r\nc"), an_item(1, 1))).splitlines()) == 3


def test_an_id_that_is_no_string_is_shown() -> None:
    """Stores use numbers, too."""
    ranking = a_ranking(an_item(0, 0, id=42))
    assert repr(ranking).endswith(" 42")
    assert "42" in Table(ranking._repr_html_()).rows[1]
