"""E2Rank for LlamaIndex: an embedding, a reranker (node postprocessor), and a retriever that reuses stored vectors.

Needs llama-index-core alone: `pip install 'e2rank-integrations[llama-index]'`. Importing it loads no torch.
"""

from __future__ import annotations

from e2rank_integrations.errors import MissingExtraError

try:
    import llama_index.core  # noqa: F401 - to say which extra is missing before anything else fails
except ModuleNotFoundError as error:
    if error.name not in {"llama_index", "llama_index.core"}:
        raise
    raise MissingExtraError("llama-index-core", "llama-index") from error

from e2rank_integrations.llama_index.embedding import E2RankEmbedding
from e2rank_integrations.llama_index.nodes import TextHash, with_text_hash
from e2rank_integrations.llama_index.rerank import E2RankRerank
from e2rank_integrations.llama_index.retriever import E2RankRetriever

__all__ = ["E2RankEmbedding", "E2RankRerank", "E2RankRetriever", "TextHash", "with_text_hash"]
