"""`e2rank index`: embed a corpus into a collection, and go on where a killed run stopped."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
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
from e2rank_integrations.probe import probe

if TYPE_CHECKING:
    from argparse import Namespace
    from typing import TextIO

    from e2rank_integrations.indexing.embedding import Embedder
    from e2rank_integrations.indexing.report import IndexReport
    from e2rank_integrations.indexing.sources import Source
    from e2rank_integrations.stores.base import WritableStore
    from e2rank_integrations.stores.chroma import ChromaStore

__all__ = ["add_arguments", "run"]

ROWS_FAILED = 3
"""Exit status where all is done but rows that could not be used; Python itself ends with 1 after a fault."""


def run(options: Namespace) -> int:
    """Index, list the rows that could not be used, and print what came of it.

    Raises:
        E2RankError: an option, the corpus, the model or the store cannot be used.
    """
    _expect_usable(options)
    source = open_source(options.corpus, Fields(options.id_field, options.text_field, options.title_field))
    path = options.manifest or _manifest(options)
    listed = options.errors or _beside(path)
    _expect_apart(options.corpus, path, listed)
    with Manifest(path) as manifest:
        expect_writable(listed)
        report = _indexed(options, source, manifest)
        _print(f"{report}\n", sys.stdout)
        with suppress(OSError):
            _beside(path).unlink()  # that of an earlier run
        if report.errors or options.errors:
            _list(manifest, listed)
    if report.errors:
        _print(f"rows that could not be used: see {listed}\n", sys.stderr)
    return ROWS_FAILED if report.errors else 0


def _indexed(options: Namespace, source: Source, manifest: Manifest) -> IndexReport:
    encoder = _encoder(options)
    with _store(options, encoder) as store:
        _probe(options, encoder, store)
        return index_corpus(
            source,
            encoder,
            store,
            manifest,
            embedder=_embedder(options),
            rows_per_part=options.rows_per_part,
            restart=options.restart,
            progress=sys.stderr.isatty(),
        )


def _expect_usable(options: Namespace) -> None:
    """Refuse options that would be without effect, or would fail after the work."""
    if options.engine != RAY and (options.workers is not None or options.ray_address is not None):
        raise InputError("--workers, --ray-address: they are Ray's; give --engine ray, too")
    if _on_a_server(options) and (options.device, options.dtype) != ("auto", "auto"):
        raise InputError("--device, --dtype: a server embeds, which has its own; leave them out beside --base-url")
    if not _on_a_server(options) and options.no_probe:
        raise InputError("--no-probe: there is no server to be probed; give --base-url, too")
    if not _on_a_server(options) and options.ca is not None:
        raise InputError("--ca: there is no server to embed; give --base-url, too (of Chroma's server: --chroma-ca)")
    address = options.ray_address or os.environ.get("RAY_ADDRESS") or "local"
    if options.engine == RAY and address != "local" and options.manifest is None:
        raise InputError(
            "--manifest: expected a file on a disk of this machine, since a cluster's corpus may be on a shared one, "
            "where two jobs would not see that they write the same manifest"
        )


def _on_a_server(options: Namespace) -> bool:
    return options.base_url is not None or options.served_model is not None


def _manifest(options: Namespace) -> Path:
    """Beside the corpus, another one for each collection of each store."""
    corpus: Path = options.corpus.resolve()
    if not corpus.name:
        raise InputError(f"--manifest: expected a file, since none can be beside {corpus}")
    where: str = options.chroma
    store = where.rstrip("/") if re.match("https?://", where) else repr(Path(where).resolve())
    collection = re.sub(r"[^\w.-]", "_", options.collection)
    return corpus.with_name(f"{corpus.name}.{collection}.{sha256(store.encode()).hexdigest()[:8]}.manifest")


def _probe(options: Namespace, encoder: E2RankEncoder, store: WritableStore) -> None:
    """Check a server before its first vectors; those of a filled collection are compared with it anyhow."""
    if encoder.custom_engine is not None and not options.no_probe and store.count() == 0:
        _print(f"{probe(encoder)}\n", sys.stderr)


def _encoder(options: Namespace) -> E2RankEncoder:
    encoder = partial(
        E2RankEncoder,
        options.model,
        revision=options.revision,
        adapter=options.adapter,
        device=options.device,
        dtype=options.dtype,
    )
    if not _on_a_server(options):
        return encoder()
    from e2rank_integrations.engines.remote import RemoteEngine

    engine = RemoteEngine(options.base_url, model=options.served_model, verify=options.ca or True)
    return encoder(custom_engine=engine, listwise_adapter=None)  # which documents do without


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

    return RayEmbedder(options.workers or 1, address=options.ray_address)


def _beside(manifest: Path) -> Path:
    """The list of rows that could not be used, where no other is asked for."""
    return manifest.with_name(f"{manifest.name}.errors.jsonl")


def _expect_apart(corpus: Path, manifest: Path, listed: Path) -> None:
    """Refuse to write one of the files over another."""
    read, kept, *lists = (path.resolve() for path in (corpus, manifest, listed, _beside(manifest)))
    if read in {kept, *lists} or kept in lists:
        raise InputError("--manifest, --errors: expected files of their own, found the corpus or the same file twice")


def _list(manifest: Manifest, path: Path) -> None:
    """Write the rows that could not be used."""
    with written_whole(path) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(asdict(error), ensure_ascii=False)}\n" for error in manifest.errors())


def _print(text: str, stream: TextIO) -> None:
    """Write a text, with escapes for what the terminal's encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
