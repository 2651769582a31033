"""First stage, listwise reranking and the controls, side by side on a judged collection."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2rank_integrations.checkpoint import folder_digest
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.first_stage import DEPTH
from e2rank_integrations.evaluation.measures import MEASURES, parsed_measures, score_all
from e2rank_integrations.evaluation.methods import COSINE, Methods, query_weight
from e2rank_integrations.evaluation.progress import tracked
from e2rank_integrations.evaluation.report import Cost, Report, Row
from e2rank_integrations.evaluation.runs import Run
from e2rank_integrations.evaluation.settings import WHOLE_LIST, PromptSettings
from e2rank_integrations.evaluation.significance import differences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.evaluation.first_stage import TextSearch, VectorIndex
    from e2rank_integrations.evaluation.methods import Answer
    from e2rank_integrations.reranker import Reranker


def compare(
    collection: Collection,
    reranker: Reranker,
    *,
    index: VectorIndex | None = None,
    first_stage: TextSearch | VectorIndex | Run | None = None,
    depth: int = DEPTH,
    measures: Sequence[str] = MEASURES,
    settings: PromptSettings = WHOLE_LIST,
    progress: bool = True,
) -> Report:
    """Measure every method of `Methods` on a collection, query by query.

    Args:
        collection: Documents, queries and grades.
        reranker: The encoder and the settings of the listwise prompt. Its `top_n`, `score_threshold` and
            `on_error` are set aside: every candidate is judged, and a failure is an error, not a figure.
        index: The documents' vectors, by this encoder; embedded here where None.
        first_stage: Where the candidates come from: a search in words, a run (reading it costs nothing), or the
            index itself for the model's own retrieval; BM25 where None.
        depth: Candidates of a query, at most, and hits of every other search.
        measures: In ir-measures' words; by the first, methods are compared with plain cosine.
        settings: How the candidates are put before the model: order, passes, window.
        progress: Whether to show bars on a terminal's stderr.

    Raises:
        InputError: no such measure, a run with documents that the collection lacks, or a pool without a run.
        MissingExtraError: the `evaluation` extra is not installed.
    """
    index = embed_documents(collection, reranker.encoder, progress=progress) if index is None else index
    methods = Methods.of(collection, reranker, index, first_stage, depth=depth, settings=settings)
    return compared(methods, measures, progress=progress)


def compared(methods: Methods, measures: Sequence[str] = MEASURES, *, progress: bool = True) -> Report:
    """The report of methods that are set up, see `compare`."""
    parsed_measures(measures)  # before the work, not after it
    methods.reranker.encoder.warmup()  # so that no query pays for loading
    collection = methods.collection
    queries = tracked(list(collection.queries), f"ranking {collection.name}", show=progress)
    answers = {query: methods.answer(query) for query in queries}
    return Report(
        collection=collection.name,
        documents=len(collection.documents),
        queries=len(collection.queries),
        model=_described(methods),
        rows=_with_differences(_rows(answers, collection, measures)),
        settings=_settings(methods),
    )


def _rows(
    answers: Mapping[str, Mapping[str, Answer]], collection: Collection, measures: Sequence[str]
) -> tuple[Row, ...]:
    names = next(iter(answers.values()))
    return tuple(
        _row(name, {key: found[name] for key, found in answers.items()}, collection, measures) for name in names
    )


def _row(name: str, answers: Mapping[str, Answer], collection: Collection, measures: Sequence[str]) -> Row:
    run = Run({query: answer.value for query, answer in answers.items()}, name)
    cost = sum((answer.cost for answer in answers.values()), Cost())
    return Row(name, score_all(run, collection.qrels, measures), cost, run)


def _with_differences(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows, each with its difference from plain cosine."""
    baseline = next(row.scores.per_query for row in rows if row.name == COSINE)
    found = differences({row.name: row.scores.per_query for row in rows if row.name != COSINE}, baseline)
    return tuple(replace(row, difference=found.get(row.name)) for row in rows)


def _described(methods: Methods) -> str:
    reranker, listed = methods.reranker, _listed(methods)
    documents = "document" if listed == 1 else "documents"
    parts = [reranker.encoder.model, f"{listed} {documents} listed", f"query weight {query_weight(reranker):g}"]
    adapter = "with a listwise adapter" if reranker.encoder.engine_key.listwise_adapter else ""
    return ", ".join(part for part in (*parts, adapter, methods.settings.description) if part)


def _listed(methods: Methods) -> int:
    return methods.reranker.num_input_docs or methods.reranker.encoder.profile.num_input_docs


def _settings(methods: Methods) -> dict[str, Any]:
    encoder, profile = methods.reranker.encoder, methods.reranker.encoder.profile
    adapter = encoder.engine_key.listwise_adapter
    return {
        "first_stage": methods.first_name,
        "depth": methods.depth,
        "num_input_docs": _listed(methods),
        "query_weight": query_weight(methods.reranker),
        **asdict(methods.settings),
        "revision": encoder.revision,
        "dtype": encoder.dtype,
        "embedding": asdict(encoder.fingerprint),
        "listwise_adapter": None if adapter is None else folder_digest(Path(adapter)),
        "template": asdict(profile.template),
        "tasks": asdict(profile.tasks),
        "caps": asdict(profile.caps),
    }
