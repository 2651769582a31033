"""LlamaIndex's metadata filters in Chroma's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilters

from e2rank_integrations.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.vector_stores.types import MetadataFilter

_OPERATORS = {
    FilterOperator.EQ: "$eq",
    FilterOperator.NE: "$ne",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.IN: "$in",
    FilterOperator.NIN: "$nin",
}
_CONDITIONS = {FilterCondition.AND: "$and", FilterCondition.OR: "$or"}


def chroma_where(filters: MetadataFilters | None, doc_ids: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Filters as Chroma's `where`; None for no condition.

    Args:
        filters: They may be nested.
        doc_ids: Ids of source documents, of which a node's must be one.

    Raises:
        StoreError: Chroma has no such operator or condition.
    """
    given = [] if filters is None else [_where(filters)]
    sources = [] if doc_ids is None else [{"document_id": {"$in": list(doc_ids)}}]
    return joined([*given, *sources])


def joined(conditions: Sequence[dict[str, Any] | None], word: str = "$and") -> dict[str, Any] | None:
    """One condition of several; Chroma refuses to join fewer than two."""
    real = [condition for condition in conditions if condition]
    return {word: real} if len(real) > 1 else real[0] if real else None


def _where(filters: MetadataFilters) -> dict[str, Any] | None:
    word = _CONDITIONS.get(filters.condition or FilterCondition.AND)
    if word is None:
        raise StoreError(f"Chroma cannot join filters by {filters.condition!r}; it has 'and' and 'or'")
    parts = [_where(part) if isinstance(part, MetadataFilters) else _compared(part) for part in filters.filters]
    return joined(parts, word)


def _compared(part: MetadataFilter) -> dict[str, Any]:
    if part.operator not in _OPERATORS:
        known = ", ".join(repr(operator.value) for operator in _OPERATORS)
        raise StoreError(f"Chroma has no filter operator {part.operator.value!r}; it has {known}")
    return {part.key: {_OPERATORS[part.operator]: part.value}}
