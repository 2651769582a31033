"""E2Rank for LangChain: embeddings, a reranker (document compressor), and a retriever that reuses stored vectors.

Needs langchain-core alone: `pip install 'e2rank-integrations[langchain]'`. Importing it loads no torch.
"""

from __future__ import annotations

from e2rank_integrations.errors import MissingExtraError

try:
    import langchain_core  # noqa: F401 - to say which extra is missing before anything else fails
except ModuleNotFoundError as error:
    if error.name != "langchain_core":
        raise
    raise MissingExtraError("langchain-core", "langchain") from error

from e2rank_integrations.langchain.embeddings import E2RankEmbeddings
from e2rank_integrations.langchain.reranker import E2RankReranker
from e2rank_integrations.langchain.retriever import E2RankRetriever
from e2rank_integrations.langchain.stores import with_text_hash

__all__ = ["E2RankEmbeddings", "E2RankReranker", "E2RankRetriever", "with_text_hash"]
