"""How a `Ranking` looks in a terminal and in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2rank_integrations.values import RankedCandidate, Ranking

_TEXT_ROWS = 20
_HTML_ROWS = 50
_SNIPPET_CHARS = 120
_COLUMNS = ("#", "moved", "score", "id", "in prompt", "vector", "text")


def as_text(ranking: Ranking) -> str:
    """A table of the results without their texts, so that it may be logged."""
    rows = [_text_row(item) for item in ranking.results[:_TEXT_ROWS]]
    hidden = len(ranking.results) - len(rows)
    if hidden:
        rows.append(f"  … {hidden} more")
    return "\n".join([f"Ranking({_summary(ranking)})", *rows])


def as_html(ranking: Ranking) -> str:
    """A table of the results with the start of each text and an arrow for each move."""
    head = "".join(f"<th style='text-align:left'>{name}</th>" for name in _COLUMNS)
    rows = "".join(_html_row(item) for item in ranking.results[:_HTML_ROWS])
    hidden = len(ranking.results) - _HTML_ROWS
    more = f"<p>… {hidden} more</p>" if hidden > 0 else ""
    return (
        f"<div><p><b>Ranking</b> {escape(_summary(ranking))}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}</div>"
    )


def _summary(ranking: Ranking) -> str:
    facts = [f"{len(ranking.results)} of {len(ranking.ranked)} candidates"]
    if ranking.kept_order:
        facts.append(f"order kept after {type(ranking.error).__name__}")
    if ranking.plan is not None:
        plan = ranking.plan
        listed = f"{plan.documents_used} of {plan.documents_asked} listed"
        facts.append(f"{listed}, {plan.documents_truncated} cut, {plan.tokens} of {plan.max_tokens} prompt tokens")
    facts.append(f"{ranking.usage.forwards} forwards, {ranking.usage.tokens} tokens, {ranking.seconds:.3f} s")
    if ranking.query_similarity is not None:
        facts.append(f"cos(query, prompt) {ranking.query_similarity:.3f}")
    return "; ".join(facts)


def _text_row(item: RankedCandidate) -> str:
    label = f"[{item.old_position}]" if item.candidate.id is None else _one_line(item.candidate.id)
    score = "   –   " if item.score is None else f"{item.score:+.4f}"
    return f"  {item.position:>3} {_moved(item):>5}  {score}  {_listed(item):<6} {item.vector_source or '–':<9} {label}"


def _one_line(value: object) -> str:
    # An id may hold line breaks, or a lone surrogate, which no terminal can encode.
    return " ".join(str(value).encode("utf-8", "replace").decode().split())


def _html_row(item: RankedCandidate) -> str:
    score = None if item.score is None else f"{item.score:.4f}"
    text = item.candidate.text
    snippet = text[:_SNIPPET_CHARS] + ("…" if len(text) > _SNIPPET_CHARS else "")
    moved = f"<span style='color:{_color(item)}'>{_moved(item)}</span>"
    facts = (score, item.candidate.id, _listed(item), item.vector_source)
    cells = [str(item.position), moved, *map(_cell, facts)]
    narrow = "".join(f"<td style='text-align:left;white-space:nowrap'>{cell}</td>" for cell in cells)
    return f"<tr>{narrow}<td style='text-align:left'>{_cell(snippet)}</td></tr>"


def _cell(value: object) -> str:
    # A text may hold a lone surrogate, which no notebook front end can encode.
    return "–" if value is None else escape(str(value).encode("utf-8", "replace").decode())


def _color(item: RankedCandidate) -> str:
    if item.old_position is None:
        return "#3b82f6"
    return (
        "#2e9e4f" if item.old_position > item.position else "#e0443c" if item.old_position < item.position else "gray"
    )


def _moved(item: RankedCandidate) -> str:
    if item.old_position is None:
        return "new"
    move = item.old_position - item.position
    return f"▲{move}" if move > 0 else f"▼{-move}" if move < 0 else "="


def _listed(item: RankedCandidate) -> str:
    if not item.in_prompt:
        return "no"
    return "cut" if item.truncated else "yes"
