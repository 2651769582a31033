"""`e2rank train`: learn the listwise ability from slates, judged data or documents alone."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.compare import compare
from e2rank_integrations.evaluation.embedding import embed_documents
from e2rank_integrations.reranker import Reranker
from e2rank_integrations.training.card import Card, write_card
from e2rank_integrations.training.options import add_arguments
from e2rank_integrations.training.settings import TrainSettings
from e2rank_integrations.training.slates import read_slates
from e2rank_integrations.training.sources import Mining, judged, mined_from, unjudged
from e2rank_integrations.training.states import expect_free, last_state
from e2rank_integrations.training.teachers import CosineTeacher

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.evaluation.first_stage import VectorIndex
    from e2rank_integrations.evaluation.report import Report
    from e2rank_integrations.training.frozen import Corpus
    from e2rank_integrations.training.slates import OnBadRows, TrainingSlate

__all__ = ["add_arguments", "run"]


def run(options: Namespace) -> int:
    """Collect the slates, train, measure, and write the folder.

    Raises:
        E2RankError: an option, a file or the model cannot be used.
    """
    from e2rank_integrations.training.trainer import train

    if options.resume:
        last_state(options.out)
    else:
        expect_free(options.out)
    settings = TrainSettings(**{entry.name: getattr(options, entry.name) for entry in fields(TrainSettings)})
    encoder = _encoder(options)
    evaluated = [judged(name, "test") for name in options.evaluate]
    slates, corpora = _slates(options, encoder)
    indexes = [_index(collection, encoder, options) for collection in evaluated]
    before = _reports(evaluated, indexes, encoder)
    training = train(slates, encoder, options.out, settings, corpora=corpora, resume=options.resume)
    if not training.main:
        return 0
    command = shlex.join(["e2rank", *options.arguments])
    card = Card(licence=options.licence, data=tuple(options.data_licence), command=command)
    # Before the figures, too: they may fail after hours of training.
    write_card(options.out, encoder, settings, slates, card)
    trained = E2RankEncoder(str(options.out), device=options.device)
    if trained.fingerprint.differences(encoder.fingerprint):
        indexes = [_index(collection, trained, options) for collection in evaluated]
    reports = zip(before, _reports(evaluated, indexes, trained), strict=True)
    write_card(options.out, encoder, settings, slates, replace(card, reports=tuple(reports)))
    sys.stdout.write(f"{training.steps} steps over {training.slates} slates; the result is in {options.out}\n")
    return 0


def _encoder(options: Namespace) -> E2RankEncoder:
    encoder = E2RankEncoder(options.model, revision=options.revision, device=options.device, listwise_adapter=None)
    profile = encoder.profile if options.template is None else encoder.profile.with_template(options.template)
    if options.prompt_tokens is not None:
        cap = options.prompt_tokens
        profile = replace(profile, caps=replace(profile.caps, prompt=cap, listed=min(profile.caps.listed, cap)))
    if options.rerank_docs is not None:
        profile = replace(profile, num_input_docs=options.rerank_docs)
    if options.query_weight is not None:
        profile = replace(profile, query_weight=options.query_weight)
    return replace(encoder, profile=profile)


def _slates(options: Namespace, encoder: E2RankEncoder) -> tuple[list[TrainingSlate], dict[str, Corpus]]:
    """All slates, and the corpora of those that were mined."""
    if not (options.slates or options.data or options.documents):
        raise InputError("nothing to learn from; give --slates, --data or --documents")
    how = _mining(options)
    bad: OnBadRows = "skip" if options.skip_bad_rows else "raise"
    slates = [slate for path in options.slates for slate in read_slates(path, on_bad_rows=bad)]
    collections = [*map(judged, options.data), *(unjudged(path, options.seed) for path in options.documents)]
    twice = [name for name, count in Counter(collection.name for collection in collections).items() if count > 1]
    if twice:
        raise InputError(f"two sources are called {twice[0]!r}, after their folders; rename one of these")
    corpora: dict[str, Corpus] = {}
    for collection in collections:
        mined = mined_from(collection, encoder, how, progress=True)
        slates += mined.slates
        corpora[collection.name] = mined.corpus
    return slates, corpora


def _mining(options: Namespace) -> Mining:
    teacher = None if options.teacher is None else E2RankEncoder(options.teacher, device=options.device)
    return Mining(
        size=options.slate_size,
        order=options.order,
        limit=options.limit,
        seed=options.seed,
        cache=options.cache,
        teacher=None if teacher is None else CosineTeacher(teacher),
    )


def _index(collection: Collection, encoder: E2RankEncoder, options: Namespace) -> VectorIndex:
    return embed_documents(collection, encoder, cache=options.cache, progress=True)


def _reports(collections: Sequence[Collection], indexes: Sequence[VectorIndex], encoder: E2RankEncoder) -> list[Report]:
    pairs = zip(collections, indexes, strict=True)
    return [compare(collection, Reranker(encoder), index=index) for collection, index in pairs]
