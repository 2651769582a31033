"""LlamaIndex's node postprocessor over the core's `Reranker`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts.mixin import PromptMixin
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from pydantic import Field, StrictInt, model_validator

from e2rank_integrations.components import RerankFields, expect_all, with_model_of
from e2rank_integrations.errors import InputError, TransientError
from e2rank_integrations.llama_index.component import Component
from e2rank_integrations.llama_index.embedding import E2RankEmbedding
from e2rank_integrations.llama_index.events import dispatcher, reranking
from e2rank_integrations.llama_index.nodes import candidate_of, in_given_order, results_of, without_score
from e2rank_integrations.llama_index.prompts import prompts_of, reworded
from e2rank_integrations.llama_index.stores import lookup_of, reader
from e2rank_integrations.llama_index.vectors import with_vectors
from e2rank_integrations.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType

    from e2rank_integrations.llama_index.nodes import NodeCandidate
    from e2rank_integrations.values import Ranking

logger = logging.getLogger(__name__)


class E2RankRerank(Component, RerankFields, PromptMixin, BaseNodePostprocessor):
    """Reorders nodes by their cosine to the listwise prompt of the query.

    Each returned `NodeWithScore` is new, with the cosine as its score; the nodes given are not written to. Where a
    failure was absorbed (`on_error="keep_order"`), nodes keep their retrieval scores, and `rerank_error` in their
    metadata names the failure. A node without text cannot be read by the model: such nodes come last, in the order
    given, without a score; with a `score_threshold` they are left out.

    Vectors come, in this order, from the node (`node.embedding`), from `vector_store` or `vector_lookup` by id, or
    are computed. A stored vector is used only for the very text that was stored. A node's own vector says nothing of
    its text: it is dropped where a text hash (`with_text_hash`) or the metadata show a change, and otherwise a few of
    the first list are embedded again, once. So one reranker serves one index.

    A pickled copy has no `vector_store`; it computes vectors.

    Example:
        ```python
        rerank = E2RankRerank(embed_model=embed_model, vector_store=index, top_n=5)
        index.as_query_engine(similarity_top_k=50, node_postprocessors=[rerank])
        ```
    """

    settled: ClassVar[frozenset[str]] = Component.settled | {"embed_model"}

    embed_model: E2RankEmbedding | None = Field(default=None, repr=False, exclude=True)
    """The embedding whose model to use, instead of naming it again."""

    top_n: StrictInt | None = 5
    """Nodes to return, at least 1; None for all."""

    vector_store: Any = Field(default=None, repr=False, exclude=True)
    """Where the nodes' vectors are stored: a `VectorStoreIndex`, a vector store of LlamaIndex, a Chroma collection."""

    vector_lookup: Callable[[list[str]], Any] | None = Field(default=None, repr=False, exclude=True)
    """For a store that cannot be read otherwise: a callable from node ids to a mapping of id to stored vector."""

    use_node_embedding: bool = True
    """Whether to use the vectors that nodes carry (`node.embedding`)."""

    metadata_mode: MetadataMode = MetadataMode.EMBED
    """Which metadata stand in a node's embedded text. LlamaIndex indexes with `EMBED`; with another mode, stored
    vectors are used only where it gives the same text."""

    prompt_metadata_mode: MetadataMode | None = None
    """Which metadata stand in the prompt, if others than in the embedded text."""

    keep_retrieval_score: bool = False
    """Whether to keep the retriever's score under `retrieval_score` in the metadata, out of any model's sight."""

    @model_validator(mode="before")
    @classmethod
    def _model_of_embedding(cls, values: Any) -> Any:  # noqa: ANN401 - whatever pydantic was given
        embed_model = values.get("embed_model") if isinstance(values, dict) else None
        return with_model_of(values, embed_model if isinstance(embed_model, E2RankEmbedding) else None, "embed_model")

    @model_validator(mode="after")
    def _with_known_store(self) -> Self:
        if self.vector_store is not None and lookup_of(self.vector_store) is None:
            reader(self.vector_store, self.vector_lookup)
        return self

    @classmethod
    def class_name(cls) -> str:
        """Its name in serialised form."""
        return "E2RankRerank"

    def rank(self, nodes: Sequence[NodeWithScore], query: str) -> Ranking:
        """The `Ranking` behind `postprocess_nodes`: who moved, what was cut, what it cost.

        Nodes without text are not in it; positions count those that have text.

        Raises:
            InputError: bad input.
            StoreMismatchError: another model made the vectors.
            TransientError: the engine failed, unless `on_error="keep_order"`.
        """
        readable, _ = self._parted(_checked(nodes))
        return self.core.rank(query, self._with_vectors(readable))

    def _parted(self, nodes: Sequence[NodeWithScore]) -> tuple[list[NodeCandidate], list[NodeWithScore]]:
        """Nodes with text as candidates, and the nodes without."""
        candidates = [candidate_of(item, self.metadata_mode, self.prompt_metadata_mode) for item in nodes]
        textless = [candidate.item for candidate in candidates if not candidate.text.strip()]
        if textless:
            fate = "come last" if self.score_threshold is None else "are left out"
            logger.warning("%d of %d nodes have no text; without a score they %s", len(textless), len(nodes), fate)
        return [candidate for candidate in candidates if candidate.text.strip()], textless

    def _with_vectors(self, candidates: list[NodeCandidate]) -> list[NodeCandidate]:
        try:
            return with_vectors(
                candidates,
                self.encoder,
                owner=self,
                store=self.vector_store,
                lookup=self.vector_lookup,
                use_node_embedding=self.use_node_embedding,
            )
        except TransientError:  # of a spot check; the rerank will meet the same engine, and does as on_error says
            if self.on_error == "raise":
                raise
            return candidates

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        nodes, query = _checked(nodes), _expect_query(query_bundle)
        if not nodes:
            return []
        with reranking(self.callback_manager, query, nodes, self.top_n, self.model) as report:
            readable, textless = self._parted(nodes)
            ranking = self.core.rank(query.query_str, self._with_vectors(readable))
            return report(self._results(nodes, textless, ranking), ranking)

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        nodes, query = _checked(nodes), _expect_query(query_bundle)
        if not nodes:
            return []
        with reranking(self.callback_manager, query, nodes, self.top_n, self.model) as report:
            readable, textless = await in_thread(self._parted, nodes)
            ranking = await self.core.arank(query.query_str, await in_thread(self._with_vectors, readable))
            return report(self._results(nodes, textless, ranking), ranking)

    def _results(
        self, nodes: Sequence[NodeWithScore], textless: Sequence[NodeWithScore], ranking: Ranking
    ) -> list[NodeWithScore]:
        if ranking.error is not None:
            return in_given_order(nodes, ranking.error)[: self.top_n]
        results = results_of(ranking, keep_retrieval_score=self.keep_retrieval_score)
        if self.score_threshold is None:
            results += [without_score(item) for item in textless]
        return results[: self.top_n]

    def _to_pickle(self) -> Self:
        return self.model_copy(update={"vector_store": None})

    def _get_prompts(self) -> PromptDictType:
        return prompts_of(self.encoder.profile)

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        encoder = replace(self.encoder, profile=reworded(self.encoder.profile, prompts_dict))
        _ = encoder.writer  # which refuses words that cannot be encoded
        self.__dict__.update(rerank_instruction=None, template=None)  # they are in the profile now
        self._settle(encoder)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {}


def _checked(nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
    return expect_all(nodes, NodeWithScore, "node", "NodeWithScore")


def _expect_query(query_bundle: QueryBundle | None) -> QueryBundle:
    if query_bundle is None:
        raise InputError("query: missing; give query_bundle or query_str, since nodes are reordered for a query")
    if not isinstance(query_bundle, QueryBundle):
        kind = type(query_bundle).__name__
        raise InputError(f"query_bundle: expected a QueryBundle, found {kind}; give a text as query_str=")
    return query_bundle
