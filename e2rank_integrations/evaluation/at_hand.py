"""The judged collections that this package's own figures are made on, as they lie on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2rank_integrations.evaluation.collection import load_collection
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.first_stage import BM25
from e2rank_integrations.evaluation.methods import Methods
from e2rank_integrations.evaluation.runs import read_trec_run
from e2rank_integrations.reranker import Reranker

if TYPE_CHECKING:
    from pathlib import Path

    from e2rank_integrations.encoder import E2RankEncoder

POOLED = "trec-dl19"
"""Has no corpus, but a run with the documents that it names."""


def methods_on(
    folder: Path, encoder: E2RankEncoder, cache: Path, *, split: str = "test", own: bool = False, fill: bool = False
) -> Methods:
    """Read a collection, embed its documents, and take BM25's lists for candidates.

    Args:
        folder: In BEIR's layout; of the pooled one, its run `runs/BM25.trec` gives the lists and the documents.
        encoder: The model.
        cache: Folder in which the documents' vectors are kept.
        split: Which judgements.
        own: Whether to take the model's own lists instead.
        fill: Whether documents that share no word with the query fill BM25's lists.
    """
    run = read_trec_run(folder / "runs" / f"{BM25.name}.trec") if folder.name == POOLED else None
    collection = load_collection(folder, split, pool=None if run is None else run.documents)
    index = embed_documents(collection, encoder, cache=cache, progress=True)
    first_stage = index if own else run or BM25(collection.documents, fill=fill)
    return Methods.of(collection, Reranker(encoder), index, first_stage)
