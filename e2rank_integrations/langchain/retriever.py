"""A LangChain retriever that takes stored vectors out of the index and reranks with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, StrictBool, StrictInt, model_validator

from e2rank_integrations.errors import InputError
from e2rank_integrations.langchain.embeddings import E2RankEmbeddings
from e2rank_integrations.langchain.reranker import E2RankReranker, reranked
from e2rank_integrations.langchain.stores import reader
from e2rank_integrations.langchain.tracing import atraced, traced
from e2rank_integrations.search import Searcher

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun

    from e2rank_integrations.values import Ranking


class E2RankRetriever(BaseRetriever):
    """Retrieves from a vector store and reranks what it finds, embedding no stored document again.

    Example:
        ```python
        store = Chroma(embedding_function=E2RankEmbeddings(model="embedded"))
        retriever = E2RankRetriever(vectorstore=store, k=4, fetch_k=50)
        retriever.invoke("…", filter={"source": "manual"})
        ```
    """

    vectorstore: Any = Field(repr=False, exclude=True)
    """A LangChain vector store (Chroma, or in memory, give their vectors back), or a Chroma collection."""

    reranker: E2RankReranker = Field(default=None)  # type: ignore[assignment]  # set by the validator
    """Its encoder must be the one that made the index; by default made of the store's own `E2RankEmbeddings`."""

    k: StrictInt = Field(default=4, ge=1)
    """Documents to return; the reranker's `top_n` is not used."""

    fetch_k: StrictInt = Field(default=50, ge=1)
    """Candidates to take from the store, for each search."""

    search_again: StrictBool = False
    """Search the store a second time with the vector of the listwise prompt."""

    search_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Search arguments of the store for every call, `filter` among them; those of a call come on top."""

    vector_lookup: Callable[[list[str]], Any] | None = Field(default=None, repr=False, exclude=True)
    """For a store that cannot be read otherwise: a callable from ids to their stored vectors."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _reranker_of_store(cls, values: Any) -> Any:  # noqa: ANN401 - whatever pydantic was given
        if not isinstance(values, dict) or values.get("reranker") is not None or "vectorstore" not in values:
            return values
        embeddings = getattr(values.get("vectorstore"), "embeddings", None)
        if not isinstance(embeddings, E2RankEmbeddings):
            raise InputError("reranker: give one, since the vector store has no E2RankEmbeddings to take it from")
        return {**values, "reranker": E2RankReranker(embeddings=embeddings)}

    @model_validator(mode="after")
    def _with_good_options(self) -> Self:
        _ = self.searcher
        return self

    @property
    def searcher(self) -> Searcher:
        """The framework-free search that does the work, with the options and the collection as they are now."""
        store = reader(self.vectorstore, self.vector_lookup)
        return Searcher(store, self.reranker.core, fetch_k=self.fetch_k, search_again=self.search_again)

    def save_fingerprint(self) -> None:
        """Keep the embedding's fingerprint with the collection, so that another model is refused at once.

        Raises:
            StoreMismatchError: the stored vectors are not this model's.
            StoreError: the store has no place for it.
        """
        self.searcher.save_fingerprint()

    def rank(self, query: str, **options: Any) -> Ranking:
        """The `Ranking` behind `invoke`: who moved, what was cut, what it cost."""
        k, options = self._arguments(options)
        return self.searcher.search(query, k, **options)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        searcher, (k, options) = self.searcher, self._arguments(options)
        retrieved = searcher.retrieve(query, k, **options)
        if not retrieved.candidates:
            return []
        with traced(run_manager.get_child(), query, len(retrieved.candidates)) as report:
            ranking = searcher.rerank(retrieved, k)
            report(ranking)
        return _documents(ranking)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        searcher, (k, options) = self.searcher, self._arguments(options)
        retrieved = await searcher.aretrieve(query, k, **options)
        if not retrieved.candidates:
            return []
        async with atraced(run_manager.get_child(), query, len(retrieved.candidates)) as report:
            ranking = await searcher.arerank(retrieved, k)
            report(ranking)
        return _documents(ranking)

    def _arguments(self, options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """How many to return, and the store's search arguments; those of the call come first."""
        merged = {"k": self.k, **self.search_kwargs, **options}
        return merged.pop("k"), merged


def _documents(ranking: Ranking) -> list[Document]:
    return [
        reranked(
            Document(item.candidate.text, id=item.candidate.id, metadata=dict(item.candidate.metadata)), item, ranking
        )
        for item in ranking
    ]
