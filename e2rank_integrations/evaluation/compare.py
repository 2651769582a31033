"""First stage, listwise reranking and the controls, side by side on a judged collection."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.first_stage import BM25, DEPTH
from e2rank_integrations.evaluation.measures import NDCG, score
from e2rank_integrations.evaluation.methods import Methods
from e2rank_integrations.evaluation.progress import tracked
from e2rank_integrations.evaluation.report import Cost, Report, Row
from e2rank_integrations.evaluation.runs import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.evaluation.first_stage import TextSearch, VectorIndex
    from e2rank_integrations.evaluation.methods import Answer
    from e2rank_integrations.reranker import Reranker


def compare(
    collection: Collection,
    reranker: Reranker,
    *,
    index: VectorIndex | None = None,
    first_stage: TextSearch | Run | None = None,
    depth: int = DEPTH,
    measure: str = NDCG,
    progress: bool = True,
) -> Report:
    """Measure every method of `Methods` on a collection, query by query.

    Args:
        collection: Documents, queries and grades.
        reranker: The encoder and the settings of the listwise prompt. Its `top_n`, `score_threshold` and
            `on_error` are set aside: every candidate is judged, and a failure is an error, not a figure.
        index: The documents' vectors, by this encoder; embedded here where None.
        first_stage: Where the candidates come from; BM25 where None. Reading a run costs nothing.
        depth: Candidates of a query, at most, and hits of the second search.
        measure: In ir-measures' words.
        progress: Whether to show bars on a terminal's stderr.

    Raises:
        InputError: no such measure, or a run with documents that the collection lacks.
        MissingExtraError: the `evaluation` extra is not installed.
    """
    reranker = replace(reranker, top_n=None, score_threshold=None, on_error="raise")
    reranker.encoder.warmup()
    index = embed_documents(collection, reranker.encoder, progress=progress) if index is None else index
    first_stage = BM25(collection.documents) if first_stage is None else first_stage
    methods = Methods(collection, reranker, index, first_stage, depth)
    queries = tracked(list(collection.queries), f"ranking {collection.name}", show=progress)
    answers = {query: methods.answer(query) for query in queries}
    return Report(
        collection=collection.name,
        documents=len(collection.documents),
        queries=len(collection.queries),
        model=_described(reranker),
        rows=_rows(answers, collection, measure),
    )


def _rows(answers: Mapping[str, Mapping[str, Answer]], collection: Collection, measure: str) -> tuple[Row, ...]:
    names = next(iter(answers.values()))
    return tuple(
        _row(name, {key: found[name] for key, found in answers.items()}, collection, measure) for name in names
    )


def _row(name: str, answers: Mapping[str, Answer], collection: Collection, measure: str) -> Row:
    run = Run({query: answer.value for query, answer in answers.items()}, name)
    cost = sum((answer.cost for answer in answers.values()), Cost())
    return Row(name, score(run, collection.qrels, measure), cost, run)


def _described(reranker: Reranker) -> str:
    profile = reranker.encoder.profile
    listed = reranker.num_input_docs or profile.num_input_docs
    weight = profile.query_weight if reranker.query_weight is None else reranker.query_weight
    documents = "document" if listed == 1 else "documents"
    return f"{reranker.encoder.model}, {listed} {documents} listed, query weight {weight:g}"
