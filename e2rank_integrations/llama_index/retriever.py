"""A LlamaIndex retriever that takes stored vectors out of the index and reranks with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import MetadataMode, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from e2rank_integrations.checks import expect_positive
from e2rank_integrations.errors import InputError, ProfileError
from e2rank_integrations.llama_index.embedding import E2RankEmbedding
from e2rank_integrations.llama_index.events import dispatcher, reranking
from e2rank_integrations.llama_index.nodes import in_given_order, item_of, results_of
from e2rank_integrations.llama_index.rerank import E2RankRerank
from e2rank_integrations.llama_index.stores import reader
from e2rank_integrations.search import Searcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.prompts.mixin import PromptDictType, PromptMixinType
    from llama_index.core.schema import IndexNode, NodeWithScore

    from e2rank_integrations.llama_index.stores import VectorLookup
    from e2rank_integrations.search import Retrieved
    from e2rank_integrations.values import Ranking

_OWN = {"query", "k", "fetch_k", "query_vector", "filters", "node_ids", "doc_ids"}


class E2RankRetriever(BaseRetriever):
    """Retrieves from a vector store and reranks what it finds, embedding no stored node again.

    Args:
        index: A `VectorStoreIndex`, a vector store of LlamaIndex that keeps texts, or a Chroma collection. It is
            searched by its sync method, in a thread where the caller is async.
        reranker: Its encoder must be the one that made the index; by default made of the index's own
            `E2RankEmbedding`. Its `top_n` and its store are not used.
        similarity_top_k: Nodes to return, at least 1.
        fetch_k: Candidates to take from the store, for each search.
        search_again: Search the store a second time with the vector of the listwise prompt.
        filters: Metadata filters for each search.
        node_ids: Ids of nodes to search among.
        doc_ids: Ids of source documents to search among.
        vector_lookup: For a store that cannot be read otherwise: a callable from node ids to their stored vectors.
        vector_store_kwargs: The store's own search arguments.
        callback_manager: As of every retriever of LlamaIndex, and so are the following.
        object_map: Objects by the ids of index nodes.
        objects: Index nodes with their objects.
        verbose: Whether to print which objects are entered.

    Raises:
        InputError: an option out of its range, or no reranker to be had.

    Example:
        ```python
        retriever = E2RankRetriever(index, similarity_top_k=4, fetch_k=50)
        RetrieverQueryEngine.from_args(retriever, llm=llm)
        ```
    """

    def __init__(
        self,
        index: object,
        reranker: E2RankRerank | None = None,
        *,
        similarity_top_k: int = 4,
        fetch_k: int = 50,
        search_again: bool = False,
        filters: MetadataFilters | None = None,
        node_ids: Sequence[str] | None = None,
        doc_ids: Sequence[str] | None = None,
        vector_lookup: VectorLookup | None = None,
        vector_store_kwargs: Mapping[str, Any] | None = None,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: list[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        _expect_arguments(similarity_top_k, filters, vector_lookup, vector_store_kwargs)
        _expect_lists(node_ids=node_ids, doc_ids=doc_ids)
        self.index = index
        self.vector_lookup = vector_lookup
        reader(index, vector_lookup)  # before a reranker is looked for in what may be no index at all
        self.reranker = _checked(reranker) or _reranker_of(index)
        self.similarity_top_k = similarity_top_k
        self.fetch_k = fetch_k
        self.search_again = search_again
        named = {"filters": filters, "node_ids": node_ids, "doc_ids": doc_ids}
        self.search_options: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
        self.search_options.update(vector_store_kwargs or {})
        _ = self.searcher  # its options are checked now rather than at the first query
        if object_map is None and objects is None:  # as the index's own retriever
            object_map = getattr(index, "_object_map", None)
        callback_manager = callback_manager or getattr(index, "_callback_manager", None)
        super().__init__(callback_manager, object_map, objects, verbose)
        self._embed_model = _embed_model_of(index, self.reranker)

    @property
    def searcher(self) -> Searcher:
        """The framework-free search that does the work, with the options and the collection as they are now."""
        store = reader(self.index, self.vector_lookup)
        return Searcher(store, self.reranker.core, fetch_k=self.fetch_k, search_again=self.search_again)

    def save_fingerprint(self) -> None:
        """Keep the embedding's fingerprint with the collection, so that another model is refused at once.

        Raises:
            StoreMismatchError: the stored vectors are not this model's.
            StoreError: the store has no place for it.
        """
        self.searcher.save_fingerprint()

    def rank(self, query: str) -> Ranking:
        """The `Ranking` behind `retrieve`: who moved, what was cut, what it cost."""
        searcher, bundle = self.searcher, QueryBundle(query)
        return searcher.rerank(self._retrieved(searcher, bundle), self.similarity_top_k)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        searcher, k = self.searcher, self.similarity_top_k
        retrieved = self._retrieved(searcher, query_bundle)
        if not retrieved.candidates:
            return []
        with reranking(self.callback_manager, query_bundle, _items(retrieved), k, self.reranker.model) as report:
            ranking = searcher.rerank(retrieved, k)
            return report(_results(ranking, retrieved), ranking)

    @dispatcher.span
    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        searcher, k = self.searcher, self.similarity_top_k
        vector = await self._aquery_vector(query_bundle)
        found = await searcher.aretrieve(query_bundle.query_str, k, query_vector=vector, **self.search_options)
        retrieved = self._prompted(found)
        if not retrieved.candidates:
            return []
        with reranking(self.callback_manager, query_bundle, _items(retrieved), k, self.reranker.model) as report:
            ranking = await searcher.arerank(retrieved, k)
            return report(_results(ranking, retrieved), ranking)

    def _retrieved(self, searcher: Searcher, query: QueryBundle) -> Retrieved:
        vector, k = self._query_vector(query), self.similarity_top_k
        return self._prompted(searcher.retrieve(query.query_str, k, query_vector=vector, **self.search_options))

    def _query_vector(self, query: QueryBundle) -> list[float] | None:
        """The vector that the caller brings, or that of the strings it would rather have embedded (HyDE)."""
        if query.embedding is not None or not query.custom_embedding_strs:
            return query.embedding
        return self._embed_model.get_agg_embedding_from_queries(query.custom_embedding_strs)

    async def _aquery_vector(self, query: QueryBundle) -> list[float] | None:
        if query.embedding is not None or not query.custom_embedding_strs:
            return query.embedding
        return await self._embed_model.aget_agg_embedding_from_queries(query.custom_embedding_strs)

    def _prompted(self, retrieved: Retrieved) -> Retrieved:
        """The candidates with the text that the prompt lists, where it is another than the embedded one."""
        mode = self.reranker.prompt_metadata_mode
        if mode is None:
            return retrieved
        listed = [item_of(candidate).node.get_content(metadata_mode=mode) for candidate in retrieved.candidates]
        pairs = zip(retrieved.candidates, listed, strict=True)
        return replace(retrieved, candidates=tuple(replace(candidate, prompt_text=text) for candidate, text in pairs))

    def _get_prompts(self) -> PromptDictType:
        return {}

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        own = sorted(name for name in prompts_dict if ":" not in name)
        if own:
            raise ProfileError(f"no prompt is named {own[0]!r}; those of the reranker are named 'reranker:…'")

    def _get_prompt_modules(self) -> PromptMixinType:
        return {"reranker": self.reranker}


def _items(retrieved: Retrieved) -> list[NodeWithScore]:
    return [item_of(candidate) for candidate in retrieved.candidates]


def _results(ranking: Ranking, retrieved: Retrieved) -> list[NodeWithScore]:
    if ranking.error is None:
        return results_of(ranking)
    pairs = zip(_items(retrieved), retrieved.scores, strict=True)
    found = [item.model_copy(update={"score": score}) for item, score in pairs]
    return in_given_order(found[: len(ranking)], ranking.error)


def _expect_arguments(
    similarity_top_k: object, filters: object, vector_lookup: object, vector_store_kwargs: object
) -> None:
    expect_positive("similarity_top_k", similarity_top_k)
    if filters is not None and not isinstance(filters, MetadataFilters):
        raise InputError(f"filters: expected MetadataFilters, found {type(filters).__name__}")
    if vector_lookup is not None and not callable(vector_lookup):
        raise InputError(f"vector_lookup: expected a callable, found {type(vector_lookup).__name__}")
    if vector_store_kwargs is not None and not isinstance(vector_store_kwargs, Mapping):
        raise InputError(f"vector_store_kwargs: expected a mapping, found {type(vector_store_kwargs).__name__}")
    for name in sorted(_OWN & set(vector_store_kwargs or ())):
        raise InputError(f"vector_store_kwargs: {name} is the retriever's own argument, not the store's")


def _expect_lists(**arguments: object) -> None:
    for name, value in arguments.items():
        if isinstance(value, str):
            raise InputError(f"{name}: expected a list of ids, found one string; put it into a list")


def _checked(reranker: E2RankRerank | None) -> E2RankRerank | None:
    if reranker is not None and not isinstance(reranker, E2RankRerank):
        raise InputError(f"reranker: expected an E2RankRerank, found {type(reranker).__name__}")
    if reranker is not None and reranker.metadata_mode != MetadataMode.EMBED:
        raise InputError("reranker: its metadata_mode is not that of the index; set prompt_metadata_mode instead")
    if reranker is not None and reranker.keep_retrieval_score:
        raise InputError("reranker: keep_retrieval_score has nothing to keep here; this retriever has but one score")
    return reranker


def _embed_model_of(index: object, reranker: E2RankRerank) -> E2RankEmbedding:
    """The index's own, with its cache and its callbacks, if it is the reranker's model."""
    own = getattr(index, "_embed_model", None)
    if isinstance(own, E2RankEmbedding) and own.encoder == reranker.encoder:
        return own
    return E2RankEmbedding(encoder=reranker.encoder)


def _reranker_of(index: object) -> E2RankRerank:
    embed_model = getattr(index, "_embed_model", None)
    if not isinstance(embed_model, E2RankEmbedding):
        kind = type(index).__name__
        raise InputError(f"reranker: give one, E2RankRerank(…), since {kind} has no E2RankEmbedding to take it from")
    return E2RankRerank(embed_model=embed_model)
