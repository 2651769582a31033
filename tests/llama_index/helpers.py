"""Nodes, results and handlers for tests of the LlamaIndex side."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.schema import BaseNode, NodeWithScore, TextNode

from tests.support.passages import METADATAS, PASSAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KINDS = ("simple", "chroma")
"""What `make_index` makes."""


def text_nodes(topics: Iterable[str] = ()) -> list[TextNode]:
    """The passages, of some topics or of all, as new nodes whose metadata are not part of the embedded text."""
    wanted = set(topics)
    return [
        TextNode(text=text, id_=id_, metadata=dict(data), excluded_embed_metadata_keys=list(data))
        for (id_, text), data in zip(PASSAGES.items(), METADATAS, strict=True)
        if not wanted or data["topic"] in wanted
    ]


def found_nodes(topics: Iterable[str] = ()) -> list[NodeWithScore]:
    """The same as a retriever returns them: with falling scores."""
    return [NodeWithScore(node=node, score=1 - rank / 100) for rank, node in enumerate(text_nodes(topics))]


def snapshot(found: Iterable[NodeWithScore | BaseNode]) -> list[tuple[Any, ...]]:
    """All of the nodes, copied deeply, with their class."""
    return [_frozen(item) for item in found]


def _frozen(item: NodeWithScore | BaseNode) -> tuple[Any, ...]:
    if isinstance(item, NodeWithScore):
        return (type(item), item.score, _frozen(item.node))
    return (type(item), copy.deepcopy(item.__dict__))


def ids(found: Iterable[NodeWithScore]) -> list[str]:
    return [item.node.node_id for item in found]


def scores(found: Iterable[NodeWithScore]) -> list[float]:
    return [item.score for item in found if item.score is not None]


def expect_alike(found: Sequence[NodeWithScore], expected: Sequence[NodeWithScore]) -> None:
    """The same nodes in the same order; scores may differ by rounding, which other threads do otherwise."""
    assert [_frozen(item.node) for item in found] == [_frozen(item.node) for item in expected]
    assert scores(found) == pytest.approx(scores(expected), abs=1e-5)
