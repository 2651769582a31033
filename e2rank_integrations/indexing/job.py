"""Indexing a corpus: embed a part, write it, say in the manifest that it is done; then the next."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.indexing.embedding import embed_here
from e2rank_integrations.indexing.manifest import Job
from e2rank_integrations.indexing.report import IndexReport
from e2rank_integrations.indexing.rows import RowError
from e2rank_integrations.progress import document_bar
from e2rank_integrations.stores.base import TEXT_HASH_KEY, text_hash
from e2rank_integrations.stores.trust import expect_same_embedding
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.indexing.embedding import EmbeddedPart, Embedder
    from e2rank_integrations.indexing.manifest import Done, Manifest
    from e2rank_integrations.indexing.rows import Row
    from e2rank_integrations.indexing.sources import Part, Source
    from e2rank_integrations.stores.base import WritableStore
    from e2rank_integrations.values import Vector

ROWS_PER_PART = 1024
"""Rows that are embedded and written at a time, and done again after a kill."""


def index_corpus(
    source: Source,
    encoder: E2RankEncoder,
    store: WritableStore,
    manifest: Manifest,
    *,
    embedder: Embedder = embed_here,
    rows_per_part: int = ROWS_PER_PART,
    progress: bool = False,
) -> IndexReport:
    """Embed a corpus into a store, going on where the manifest says that an earlier run stopped.

    A part of the corpus is written to the store and then recorded in the manifest. Killed in between, the next run does
    that part again and overwrites the same records: every row is there once, whenever the job is killed. What is held
    in memory is a part at a time, whatever the size of the corpus.

    Args:
        source: See `open_source`.
        encoder: Its fingerprint must be the store's.
        store: Where the rows go.
        manifest: Of this job, entered (`with Manifest(path) as manifest`).
        embedder: Who embeds: `embed_here`, or `RayEmbedder`.
        rows_per_part: At least 1.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: no row of the first part can be used, or the corpus changed meanwhile.
        StoreMismatchError: the store holds another model's vectors.
        StoreError: the manifest is another job's, or does not go with what the store holds; or one of them fails.
        TransientError: the engine fails. What is recorded stays, and another call goes on there.
    """
    if rows_per_part < 1:
        raise InputError(f"rows_per_part: expected at least 1, found {rows_per_part}")
    started, corpus = time.perf_counter(), source.identity
    expect_same_embedding(store, encoder)
    job = Job(corpus, source.settings, encoder.fingerprint.to_json(), str(store.identity), rows_per_part)
    before = manifest.start(job)
    _expect_kept(store, before)
    parts = list(source.parts(rows_per_part))
    if not parts:
        raise InputError(f"{source.path}: there is no row in it")
    run = _Run(source, store, manifest, before)
    run.all(parts[before.parts :], encoder, embedder, progress=progress)
    if source.identity != corpus:
        raise InputError(f"{source.path}: it changed while it was read; index it again, with --restart")
    return run.report(time.perf_counter() - started)


def _expect_kept(store: WritableStore, before: Done) -> None:
    """Refuse a store that has lost what the manifest says is in it."""
    stored = store.count()
    if stored < before.written:
        raise StoreError(
            f"the manifest says that {before.written} rows were written, and the collection holds {stored} records; "
            f"some were deleted: give --restart to index all rows again"
        )


@dataclass
class _Run:
    """What one run of a job does and counts."""

    source: Source
    store: WritableStore
    manifest: Manifest
    before: Done
    parts: int = 0
    written: int = 0
    tokens: int = 0
    cut: int = 0
    left_out: dict[str, None] = field(default_factory=dict)

    def all(self, parts: Sequence[Part], encoder: E2RankEncoder, embedder: Embedder, *, progress: bool) -> None:
        """Embed and take parts; a failure says how to go on."""
        rows = range(sum(part.rows for part in parts))
        try:
            with document_bar(rows, show=progress) as advance, closing(embedder(self.source, parts, encoder)) as done:
                # A part out of its order would be lost: the manifest only counts them.
                for part, embedded in zip(parts, done, strict=True):
                    self._take(part, embedded)
                    advance(part.rows, embedded.tokens)
        except BaseException as error:
            if not isinstance(error, InputError):
                rows_now = self.before.written + self.written
                error.add_note(f"{rows_now:,} rows are indexed; run the same again, and it goes on there")
            raise

    def _take(self, part: Part, embedded: EmbeddedPart) -> None:
        """Write a part, then say that it is done."""
        if embedded.part != part:
            raise InputError(f"embedder: expected part {part.number}, found part {embedded.part.number}")
        if part.number == 0 and not embedded.rows:
            raise _nothing_usable(self.source, embedded.errors)
        known = self.manifest.positions([row.id for row in embedded.rows])
        records, errors = [], list(embedded.errors)
        for row, vector in zip(embedded.rows, embedded.vectors, strict=True):
            if row.id in known:
                errors.append(RowError(row.position, row.id, f"the id is that of position {known[row.id]}, too"))
            else:
                known[row.id] = row.position
                records.append(_record(row, vector))
        self.store.upsert(records)
        self.manifest.record(part.number, {str(r.id): known[str(r.id)] for r in records}, errors)
        self._count(embedded, len(records))

    def _count(self, embedded: EmbeddedPart, written: int) -> None:
        self.parts += 1
        self.written += written
        self.tokens += embedded.tokens
        self.cut += embedded.cut
        self.left_out.update(dict.fromkeys(name for row in embedded.rows for name in row.left_out))

    def report(self, seconds: float) -> IndexReport:
        """What came of it."""
        now = self.manifest.done
        return IndexReport(
            rows=now.written + now.errors,
            written=self.written,
            skipped_before=self.before.written,
            errors=now.errors,
            parts=self.parts,
            seconds=seconds,
            tokens=self.tokens,
            cut=self.cut,
            left_out=tuple(self.left_out),
            stored=self.store.count(),
        )


def _record(row: Row, vector: Vector) -> Candidate:
    metadata = {**row.metadata, TEXT_HASH_KEY: text_hash(row.text)}
    return Candidate(row.text, id=row.id, vector=vector, metadata=metadata)


def _nothing_usable(source: Source, errors: Sequence[RowError]) -> InputError:
    first = f"position {errors[0].position}: {errors[0].reason}" if errors else "they are blank"
    names = f"; its fields are {', '.join(map(repr, source.names))}" if source.names else ""
    return InputError(
        f"{source.path}: none of the first rows can be used ({first}){names}; name its fields with --id-field, "
        f"--text-field and --title-field"
    )
