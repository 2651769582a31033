"""`e2rank index`: embed a corpus into a collection, and go on where a killed run stopped."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.files import expect_writable, written_whole
from e2rank_integrations.indexing.embedding import embed_here
from e2rank_integrations.indexing.job import index_corpus
from e2rank_integrations.indexing.manifest import Manifest
from e2rank_integrations.indexing.options import RAY, add_arguments
from e2rank_integrations.indexing.rows import Fields
from e2rank_integrations.indexing.sources import open_source

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from e2rank_integrations.indexing.embedding import Embedder
    from e2rank_integrations.indexing.report import IndexReport
    from e2rank_integrations.stores.chroma import ChromaStore

__all__ = ["add_arguments", "run"]

ROWS_FAILED = 1
"""Exit status where all is done but rows that could not be used."""


def run(options: Namespace) -> int:
    """Index, print what came of it, and list the rows that could not be used.

    Raises:
        E2RankError: an option, the corpus, the model or the store cannot be used.
    """
    source = open_source(options.corpus, Fields(options.id_field, options.text_field, options.title_field))
    encoder = _encoder(options)
    path = options.manifest or _manifest(options)
    if options.errors:
        expect_writable(options.errors)
    with Manifest(path) as manifest:
        if options.restart:
            manifest.restart()
        store = _store(options, encoder)
        try:
            report = index_corpus(
                source,
                encoder,
                store,
                manifest,
                embedder=_embedder(options),
                rows_per_part=options.rows_per_part,
                progress=sys.stderr.isatty(),
            )
        finally:
            store.close()
        return _say(report, manifest, options.errors, path.with_suffix(".errors.jsonl"))


def _manifest(options: Namespace) -> Path:
    corpus: Path = options.corpus.resolve()
    collection = re.sub(r"[^\w.-]", "_", options.collection)
    return corpus.with_name(f"{corpus.name}.{collection}.manifest")


def _encoder(options: Namespace) -> E2RankEncoder:
    encoder = partial(
        E2RankEncoder,
        options.model,
        revision=options.revision,
        adapter=options.adapter,
        device=options.device,
        dtype=options.dtype,
    )
    if options.base_url is None and options.served_model is None:
        return encoder()
    from e2rank_integrations.engines.remote import RemoteEngine

    return encoder(custom_engine=RemoteEngine(options.base_url, model=options.served_model))


def _store(options: Namespace, encoder: E2RankEncoder) -> ChromaStore:
    from e2rank_integrations.stores.chroma import open_collection

    return open_collection(
        options.chroma,
        options.collection,
        fingerprint=encoder.fingerprint.to_json(),
        search_ef=None if options.fetch_k is None else 2 * options.fetch_k,
        headers=dict(map(_header, options.chroma_header)),
        verify=True if options.chroma_ca is None else str(options.chroma_ca),
    )


def _header(text: str) -> tuple[str, str]:
    name, _, variable = text.partition("=")
    if variable not in os.environ:
        raise InputError("--chroma-header: expected NAME=VARIABLE, with a variable of the environment; it is not set")
    return name, os.environ[variable]


def _embedder(options: Namespace) -> Embedder:
    if options.engine != RAY:
        return embed_here
    from e2rank_integrations.indexing.ray import RayEmbedder

    return RayEmbedder(options.workers, address=options.ray_address)


def _say(report: IndexReport, manifest: Manifest, asked: Path | None, default: Path) -> int:
    sys.stdout.write(f"{report}\n")
    errors = asked or default
    default.unlink(missing_ok=True)  # that of an earlier run
    if asked or report.errors:
        with written_whole(errors) as part, part.open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(asdict(error), ensure_ascii=False)}\n" for error in manifest.errors())
    if not report.errors:
        return 0
    sys.stderr.write(f"rows that could not be used: see {errors}\n")
    return ROWS_FAILED
