"""Chroma as LlamaIndex's users know it: nodes in its metadata, filters of LlamaIndex."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from e2rank_integrations.errors import StoreError
from e2rank_integrations.llama_index.filters import chroma_where, joined
from e2rank_integrations.llama_index.nodes import candidate_of
from e2rank_integrations.stores.chroma import ChromaStore

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores.types import MetadataFilters

    from e2rank_integrations.values import Candidate, Vector


class LlamaIndexChroma(ChromaStore):
    """A Chroma collection of nodes. Texts are as LlamaIndex embeds them, with the metadata that a node shows."""

    @property
    def identity(self) -> Hashable:
        """The collection as this class reads it: a check of other texts proves nothing for these."""
        return "nodes", super().identity

    def search(
        self,
        vector: Vector,
        k: int,
        *,
        filters: MetadataFilters | None = None,
        doc_ids: Sequence[str] | None = None,
        node_ids: Sequence[str] | None = None,
        **options: Any,
    ) -> list[Candidate]:
        """As `ChromaStore.search`, with LlamaIndex's filters beside Chroma's `where`."""
        if doc_ids is not None and not doc_ids:  # which Chroma refuses
            return []
        where = joined([chroma_where(filters, doc_ids), options.pop("where", None)])
        if node_ids is not None and "ids" in options:
            raise StoreError("ids and node_ids are two names of one argument; give one of them")
        ids = None if node_ids is None else self.existing(node_ids)  # Chroma refuses ids that it lacks
        if ids == []:
            return []
        given = {name: value for name, value in (("where", where), ("ids", ids)) if value is not None}
        return super().search(vector, k, **given, **options)

    def record(self, id_: str, text: str | None, metadata: Mapping[str, Any] | None, vector: Vector) -> Candidate:
        """A stored row as the node that it was, if it was one."""
        if not metadata or "_node_content" not in metadata:  # not written by LlamaIndex
            return super().record(id_, text, metadata, vector)
        node = NodeWithScore(node=_node(id_, text, metadata))
        return replace(candidate_of(node), id=id_, vector=vector, vector_source="store")


def _node(id_: str, text: str | None, metadata: Mapping[str, Any]) -> BaseNode:
    try:
        return metadata_dict_to_node(dict(metadata), text=text)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"record {id_!r}: its node cannot be read back ({type(error).__name__}); index it anew"
        ) from error
