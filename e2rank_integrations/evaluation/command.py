"""`e2rank evaluate`: measure reranking on judged data, with the controls beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import load_collection, read_excluded
from e2rank_integrations.evaluation.compare import compared
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.evaluation.extras import require
from e2rank_integrations.evaluation.files import expect_writable, written_whole
from e2rank_integrations.evaluation.first_stage import BM25
from e2rank_integrations.evaluation.measures import parsed_measures
from e2rank_integrations.evaluation.methods import Methods
from e2rank_integrations.evaluation.options import NONE, OWN, WORDS, add_arguments
from e2rank_integrations.evaluation.plots import draw_scores, draw_sweep, save_svg
from e2rank_integrations.evaluation.runs import Run, read_trec_run, run_tag, without, write_trec_run
from e2rank_integrations.evaluation.settings import from_options
from e2rank_integrations.evaluation.sweep import LISTED, sweep
from e2rank_integrations.profiles import PROFILES
from e2rank_integrations.reranker import Reranker

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from rich.table import Table

    from e2rank_integrations.evaluation.first_stage import TextSearch, VectorIndex
    from e2rank_integrations.evaluation.report import Report
    from e2rank_integrations.profiles import Caps, Profile

__all__ = ["add_arguments", "run"]


def run(options: Namespace) -> int:
    """Measure, print, and write what was asked for.

    Raises:
        E2RankError: an option, a file or the model cannot be used.
    """
    _expect_usable(options)
    methods = _methods(options)
    report = compared(methods, options.measures)
    _print(report.table(), report.differences_table())
    _write(options, report, methods)
    if options.sweep_k or options.plot:
        _sweep(options, report, methods)
    return 0


def _expect_usable(options: Namespace) -> None:
    """Refuse before the work what would fail after it."""
    if options.pool and options.first_stage in {WORDS, OWN}:
        raise InputError("--pool: the documents are those of a run; give its file as --first-stage")
    if options.scores and options.window is not None:
        raise InputError("--scores: no one prompt scores all candidates of a sliding window; leave out one of the two")
    if options.template == "insertrank" and options.first_stage == OWN:
        raise InputError("--template insertrank: it shows BM25's scores; the model's own retrieval has none")
    parsed_measures(options.measures)
    for path in (options.json, options.plot, options.scores):
        if path is not None:
            expect_writable(path)
    if options.runs is not None:
        expect_writable(options.runs / "run.trec")


def _methods(options: Namespace) -> Methods:
    excluded = {} if options.exclude is None else read_excluded(options.exclude)
    stage = _first_run(options, excluded)
    pool = stage.documents if options.pool and stage is not None else None
    collection = load_collection(options.data, options.split, excluded=excluded, pool=pool)
    reranker = Reranker(_encoder(options), num_input_docs=options.num_input_docs, query_weight=options.query_weight)
    settings = from_options(options)
    index = embed_documents(collection, reranker.encoder, cache=options.cache, progress=True)
    first_stage = stage or _search(options, collection.documents, index)
    return Methods.of(collection, reranker, index, first_stage, depth=options.depth, settings=settings)


def _first_run(options: Namespace, excluded: Mapping[str, AbstractSet[str]]) -> Run | None:
    """The run that is the first stage, cut to its candidates; None where the first stage searches."""
    if options.first_stage in {WORDS, OWN}:
        return None
    whole = read_trec_run(options.first_stage)
    candidates = {
        query: without(hits, excluded.get(query, frozenset()), options.depth) for query, hits in whole.hits.items()
    }
    return replace(whole, hits=candidates)


def _search(options: Namespace, documents: Mapping[str, str], index: VectorIndex) -> TextSearch | VectorIndex:
    return index if options.first_stage == OWN else BM25(documents, fill=options.fill)


def _encoder(options: Namespace) -> E2RankEncoder:
    given = {name: getattr(options, name) for name in ("revision", "adapter", "listwise_adapter")}
    chosen: dict[str, Any] = {
        name: None if value == NONE else value for name, value in given.items() if value is not None
    }
    if options.profile is not None:
        chosen["profile"] = PROFILES[options.profile]
    encoder = E2RankEncoder(options.model, device=options.device, dtype=options.dtype, **chosen)
    return replace(encoder, profile=_profile(encoder.profile, options))


def _profile(profile: Profile, options: Namespace) -> Profile:
    profile = replace(profile, caps=_caps(profile.caps, options))
    if options.task is not None:
        profile = profile.for_task(options.task)
    if options.template is not None:
        profile = profile.with_template(options.template)
    return profile.for_reproduction() if options.reproduce else profile


def _caps(caps: Caps, options: Namespace) -> Caps:
    prompt = options.prompt_tokens or caps.prompt
    return replace(
        caps,
        document=options.document_tokens or caps.document,
        listed=min(options.listed_tokens or caps.listed, prompt),
        prompt=prompt,
    )


def _print(*tables: Table) -> None:
    console = require("rich.console").Console()
    for table in tables:
        console.print(table)


def _write(options: Namespace, report: Report, methods: Methods) -> None:
    _write_json(options, report)
    if options.runs is not None:
        for row in report.rows:
            write_trec_run(row.run, options.runs / f"{run_tag(row.name)}.trec")
    if options.scores is not None:
        save_svg(draw_scores(report, methods.collection.qrels), options.scores)


def _write_json(options: Namespace, report: Report) -> None:
    if options.json is not None:
        with written_whole(options.json) as part:
            part.write_text(report.to_json(per_query=options.per_query) + "\n", encoding="utf-8")


def _sweep(options: Namespace, report: Report, methods: Methods) -> None:
    candidates, measure = report.rows[0].run, report.rows[0].scores.measure
    report = replace(report, sweep=sweep(methods, candidates, options.sweep_k or LISTED, measure=measure))
    _print(report.sweep_table())
    _write_json(options, report)
    if options.plot is not None:
        save_svg(draw_sweep(report), options.plot)
