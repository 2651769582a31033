"""LangChain `Embeddings` over the encoder."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from e2rank_integrations.components import EmbeddingFields


class E2RankEmbeddings(EmbeddingFields, Embeddings):
    """Embeds documents and queries with E2Rank.

    Example:
        ```python
        embeddings = E2RankEmbeddings(model="embedded")
        store = Chroma(embedding_function=embeddings, collection_metadata=embeddings.collection_metadata())
        ```
    """

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents; unit vectors of the model's width."""
        return _floats(self.encoder.encode_documents(texts).tolist())

    def embed_query(self, text: str) -> list[float]:
        """Embed a query with its instruction; a unit vector of the model's width."""
        return _floats(self.encoder.encode_queries([text]).tolist())[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`, without blocking the event loop."""
        return _floats((await self.encoder.aencode_documents(texts)).tolist())

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`, without blocking the event loop."""
        return _floats((await self.encoder.aencode_queries([text])).tolist())[0]


def _floats(rows: object) -> list[list[float]]:
    return rows  # type: ignore[return-value]  # numpy types tolist() of a matrix as object
