"""Nodes as candidates, and candidates as nodes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.node_parser.text.sentence_window import DEFAULT_OG_TEXT_METADATA_KEY
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TextNode, TransformComponent

from e2rank_integrations.errors import InputError
from e2rank_integrations.stores.base import TEXT_HASH_KEY, is_stale, text_hash
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from e2rank_integrations.values import Ranking, VectorSource

    AnyNode = TypeVar("AnyNode", bound=BaseNode)

RETRIEVAL_SCORE_KEY = "retrieval_score"
ERROR_KEY = "rerank_error"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodeCandidate(Candidate):
    """A candidate that remembers its node, the score with which it was retrieved, and the text that is embedded.

    Attributes:
        item: The node as it was given, with its score.
        embedded: What LlamaIndex embeds of the node.
    """

    item: NodeWithScore
    embedded: str

    @property
    def node(self) -> BaseNode:
        """The node as it was given."""
        return self.item.node


def candidate_of(
    item: NodeWithScore, mode: MetadataMode = MetadataMode.EMBED, prompt_mode: MetadataMode | None = None
) -> NodeCandidate:
    """A node as a candidate without a vector.

    Args:
        item: It is not written to.
        mode: Which metadata stand in the embedded text; LlamaIndex embeds `MetadataMode.EMBED`.
        prompt_mode: Which metadata stand in the prompt, if others.
    """
    node = item.node
    embedded = node.get_content(metadata_mode=MetadataMode.EMBED)
    return NodeCandidate(
        text=embedded if mode is MetadataMode.EMBED else node.get_content(metadata_mode=mode),
        id=node.node_id,
        prompt_text=None if prompt_mode is None else node.get_content(metadata_mode=prompt_mode),
        metadata=node.metadata,
        retrieval_score=item.score,
        item=item,
        embedded=embedded,
    )


def item_of(candidate: Candidate) -> NodeWithScore:
    """The node of a candidate; one that came from elsewhere becomes a node whose text alone is embedded."""
    return candidate.item if isinstance(candidate, NodeCandidate) else NodeWithScore(node=text_node(candidate))


def text_node(candidate: Candidate) -> TextNode:
    """A node of a record that LlamaIndex did not write."""
    metadata = dict(candidate.metadata)
    named = {} if candidate.id is None else {"id_": candidate.id}
    return TextNode(text=candidate.text, metadata=metadata, excluded_embed_metadata_keys=list(metadata), **named)


def with_believed_vector(candidate: NodeCandidate, vector: npt.ArrayLike | None, source: VectorSource) -> NodeCandidate:
    """The candidate with a vector of which nobody says which text it embeds, unless the text was evidently changed."""
    if vector is None or is_stale(candidate) or _was_replaced(candidate):
        return candidate
    return replace(candidate, vector=vector, vector_source=source)


def _was_replaced(candidate: NodeCandidate) -> bool:
    """Whether the text is not the one that was embedded: it came out of the metadata, or shows other metadata."""
    node = candidate.node
    if candidate.text != candidate.embedded:
        return True
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    if TEXT_HASH_KEY in node.metadata or text == node.metadata.get(DEFAULT_OG_TEXT_METADATA_KEY):
        return False
    return text in [value for value in node.metadata.values() if isinstance(value, str)]


class TextHash(TransformComponent):
    """`with_text_hash` as a step of an ingestion pipeline; it belongs after the splitter."""

    @classmethod
    def class_name(cls) -> str:
        """Its name in serialised form."""
        return "TextHash"

    def __call__(self, nodes: Sequence[BaseNode], **_: Any) -> Sequence[BaseNode]:
        """Copies of nodes that carry the hash of their embedded text."""
        return with_text_hash(nodes)


def with_text_hash(nodes: Iterable[AnyNode]) -> list[AnyNode]:
    """Copies of nodes that carry the hash of their embedded text, by which stale vectors are found later.

    The hash reaches neither the embedded text nor an LLM.
    """
    return [_noted(node, {TEXT_HASH_KEY: text_hash(_embedded(node, place))}) for place, node in enumerate(nodes)]


def _embedded(node: BaseNode, place: int) -> str:
    if not isinstance(node, BaseNode):
        raise InputError(f"node {place}: expected a node of LlamaIndex, found {type(node).__name__}")
    return node.get_content(metadata_mode=MetadataMode.EMBED)


def results_of(ranking: Ranking, *, keep_retrieval_score: bool = False) -> list[NodeWithScore]:
    """Copies of the ranked nodes; notes go into the metadata of a copied node, where no model reads them."""
    return [_scored(item_of(item.candidate), item.score, keep_retrieval_score) for item in ranking]


def in_given_order(items: Iterable[NodeWithScore], error: Exception) -> list[NodeWithScore]:
    """Copies of nodes whose order and scores are the retriever's, marked with the failure that left them so."""
    return [_copied(item, item.score, {ERROR_KEY: type(error).__name__}) for item in items]


def without_score(item: NodeWithScore) -> NodeWithScore:
    """A copy of a node that was not scored."""
    return _copied(item, None, {})


def _scored(item: NodeWithScore, score: float | None, keep_retrieval_score: bool) -> NodeWithScore:
    if not keep_retrieval_score or item.score is None:
        return _copied(item, score, {})
    return _copied(item, score, {RETRIEVAL_SCORE_KEY: float(item.score)})


def _copied(item: NodeWithScore, score: float | None, notes: Mapping[str, Any]) -> NodeWithScore:
    return item.model_copy(update={"node": _noted(_without_notes(item.node), notes), "score": score})


def _noted(node: AnyNode, notes: Mapping[str, Any]) -> AnyNode:
    if not notes:
        return node
    return node.model_copy(
        update={
            "metadata": {**node.metadata, **notes},
            "excluded_embed_metadata_keys": _united(node.excluded_embed_metadata_keys, notes),
            "excluded_llm_metadata_keys": _united(node.excluded_llm_metadata_keys, notes),
        }
    )


def _without_notes(node: AnyNode) -> AnyNode:
    """The node without what an earlier rerank noted, which is no longer true."""
    hidden = set(node.excluded_embed_metadata_keys) & set(node.excluded_llm_metadata_keys)  # as notes always are
    stale = {RETRIEVAL_SCORE_KEY, ERROR_KEY} & set(node.metadata) & hidden
    if not stale:
        return node
    return node.model_copy(update={"metadata": {key: v for key, v in node.metadata.items() if key not in stale}})


def _united(keys: Iterable[str], more: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*keys, *more]))
