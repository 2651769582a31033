"""LlamaIndex's `BaseEmbedding` over the encoder."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Self

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import Field, model_validator

from e2rank_integrations.components import EmbeddingFields
from e2rank_integrations.errors import InputError
from e2rank_integrations.llama_index.cache import EmbeddingCache
from e2rank_integrations.llama_index.component import Component

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from e2rank_integrations.values import Matrix

# Without their span, which the overrides below bring themselves.
_get_query_embedding: Callable[[BaseEmbedding, str], list[float]] = inspect.unwrap(BaseEmbedding.get_query_embedding)
_aget_query_embedding: Callable[[BaseEmbedding, str], Awaitable[list[float]]] = inspect.unwrap(
    BaseEmbedding.aget_query_embedding
)


class E2RankEmbedding(Component, EmbeddingFields, BaseEmbedding):
    """Embeds nodes and queries with E2Rank.

    `model_name` and `model` are one and the same.

    Example:
        ```python
        embed_model = E2RankEmbedding(model_name="embedded")
        index = VectorStoreIndex.from_documents(documents, embed_model=embed_model)
        ```
    """

    settled: ClassVar[frozenset[str]] = Component.settled | {"model_name", "embeddings_cache"}

    embed_batch_size: int = Field(default=64, gt=0, le=2048)
    """Texts per call of the engine, which makes batches of similar lengths of them."""

    embeddings_cache: Any = Field(default=None, exclude=True)
    """A LlamaIndex key-value store for embeddings. Queries and documents, and models, do not share its entries."""

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, values: Any) -> Any:  # noqa: ANN401 - whatever pydantic was given
        if not isinstance(values, dict) or "model_name" not in values:
            return values
        name = values["model_name"]
        if values.get("model", name) != name:
            raise InputError("model_name: it is another than model; give one of the two")
        return {**values, "model": name}

    @model_validator(mode="after")
    def _with_name_and_cache(self) -> Self:
        cache = self.embeddings_cache
        given = cache.store if isinstance(cache, EmbeddingCache) else cache
        own = None if given is None else EmbeddingCache(given, self.encoder, "document")
        self.__dict__.update(model_name=self.model, embeddings_cache=own)
        return self

    @classmethod
    def class_name(cls) -> str:
        """Its name in serialised form."""
        return "E2RankEmbedding"

    def get_query_embedding(self, query: str) -> list[float]:
        """Embed a query with its instruction; a unit vector of the model's width."""
        return _get_query_embedding(self._for_queries(), query)

    async def aget_query_embedding(self, query: str) -> list[float]:
        """As `get_query_embedding`, without blocking the event loop."""
        return await _aget_query_embedding(self._for_queries(), query)

    def _for_queries(self) -> Self:
        """Itself, with the entries of queries in the cache: LlamaIndex looks both kinds up by their bare text."""
        if self.embeddings_cache is None:
            return self
        other = self.model_copy()
        other.__dict__["embeddings_cache"] = EmbeddingCache(self.embeddings_cache.store, self.encoder, "query")
        return other

    def _get_query_embedding(self, query: str) -> list[float]:
        return _floats(self.encoder.encode_queries([query]))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return _floats(await self.encoder.aencode_queries([query]))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return _floats(self.encoder.encode_documents(texts))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return _floats(await self.encoder.aencode_documents(texts))


def _floats(rows: Matrix) -> list[list[float]]:
    return rows.tolist()  # type: ignore[no-any-return]  # numpy types tolist() of a matrix as Any
