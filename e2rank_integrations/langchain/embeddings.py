"""LangChain `Embeddings` over the encoder."""

from __future__ import annotations

import numpy as np
from langchain_core.embeddings import Embeddings

from e2rank_integrations.components import EmbeddingFields
from e2rank_integrations.threads import in_thread


class E2RankEmbeddings(EmbeddingFields, Embeddings):
    """Embeds documents and queries with E2Rank.

    Example:
        ```python
        embeddings = E2RankEmbeddings(model="embedded")
        store = Chroma(embedding_function=embeddings, collection_metadata=embeddings.collection_metadata())
        ```
    """

    show_progress: bool = False
    """Whether to show a bar while documents are embedded: documents and tokens per second."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents; unit vectors of the model's width."""
        if self.show_progress:
            return self._embed_with_bar(texts)
        return _floats(self.encoder.encode_documents(texts).tolist())

    def embed_query(self, text: str) -> list[float]:
        """Embed a query with its instruction; a unit vector of the model's width."""
        return _floats(self.encoder.encode_queries([text]).tolist())[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`, without blocking the event loop."""
        if self.show_progress:
            return await in_thread(self._embed_with_bar, texts)
        return _floats((await self.encoder.aencode_documents(texts)).tolist())

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`, without blocking the event loop."""
        return _floats((await self.encoder.aencode_queries([text])).tolist())[0]

    def _embed_with_bar(self, texts: list[str]) -> list[list[float]]:
        parts = list(self.encoder.stream_documents(texts, progress=True))
        return _floats(np.concatenate(parts).tolist()) if parts else []


def _floats(rows: object) -> list[list[float]]:
    return rows  # type: ignore[return-value]  # numpy types tolist() of a matrix as object
