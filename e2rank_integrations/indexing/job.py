"""Indexing a corpus: embed a part, write it, say in the manifest that it is done; then the next."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice, tee
from typing import TYPE_CHECKING

from e2rank_integrations.checks import expect_positive
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
    from collections.abc import Iterable, Iterator

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.indexing.embedding import EmbeddedPart, Embedder
    from e2rank_integrations.indexing.manifest import Done, Manifest
    from e2rank_integrations.indexing.rows import Row
    from e2rank_integrations.indexing.sources import Part, Source
    from e2rank_integrations.stores.base import WritableStore
    from e2rank_integrations.values import Vector

ROWS_PER_PART = 1024
"""Rows that are embedded and written at a time, and done again after a kill."""

_HOPELESS = 1000  # unusable rows with none before them that can be used: the fields are misnamed


def index_corpus(
    source: Source,
    encoder: E2RankEncoder,
    store: WritableStore,
    manifest: Manifest,
    *,
    embedder: Embedder = embed_here,
    rows_per_part: int = ROWS_PER_PART,
    restart: bool = False,
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
        restart: Whether to forget what the manifest says, and index every row again; once the store is known to fit.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: none of the first 1,000 rows, or of fewer, can be used, or the corpus changed meanwhile. Of the
            former nothing is kept in the manifest.
        StoreMismatchError: the store holds another model's vectors.
        StoreError: the manifest is another job's, or does not go with what the store holds; or one of them fails.
        TransientError: the engine fails. What is recorded stays, and another call goes on there.
    """
    expect_positive("rows_per_part", rows_per_part)
    started, corpus = time.perf_counter(), source.identity
    expect_same_embedding(store, encoder)
    job = Job(corpus, source.settings, encoder.fingerprint.to_json(), str(store.identity), rows_per_part)
    if restart:
        manifest.restart()
    stored = store.count()
    before = manifest.start(job, stored)
    _expect_kept(stored, before)
    run = _Run(source, store, manifest, before)
    run.all(islice(source.parts(rows_per_part), before.parts, None), encoder, embedder, progress=progress)
    if source.identity != corpus:
        raise InputError(f"{source.path}: it changed while it was read; index it again, with --restart")
    return run.report(time.perf_counter() - started)


def _expect_kept(stored: int, before: Done) -> None:
    """Refuse a store that holds fewer records than the manifest says were written."""
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
    failed: int = 0
    tokens: int = 0
    cut: int = 0
    left_out: dict[str, None] = field(default_factory=dict)

    def all(self, parts: Iterator[Part], encoder: E2RankEncoder, embedder: Embedder, *, progress: bool) -> None:
        """Embed and take parts; a failure says how to go on."""
        expected, given = tee(parts)
        bar = document_bar(self._rows_to_come(), show=progress)
        try:
            with bar as advance, closing(embedder(self.source, given, encoder)) as done:
                # A part out of its order would be lost: the manifest only counts them.
                for part, embedded in zip(expected, done, strict=True):
                    self._take(part, embedded)
                    self._expect_any(_HOPELESS)
                    advance(part.rows, embedded.tokens)
            self._expect_any(0)
        except BaseException as error:
            if not isinstance(error, InputError):
                rows_now = self.before.written + self.written
                error.add_note(f"{rows_now:,} rows are indexed; run the same again, and it goes on there")
            raise

    def _rows_to_come(self) -> Iterable[object]:
        """As many as are left, if the source knows."""
        rows = self.source.rows
        return iter(()) if rows is None else range(max(0, rows - self.before.written - self.before.errors))

    def _expect_any(self, after: int) -> None:
        """Give up, and keep nothing in the manifest, where so many rows could not be used and none could."""
        if self.before.written + self.written or self.before.errors + self.failed < after:
            return
        fault = self._nothing_usable() if self.before.parts + self.parts else "there is no row in it"
        self.manifest.restart()
        raise InputError(f"{self.source.path}: {fault}")

    def _nothing_usable(self) -> str:
        first = next(self.manifest.errors(), None)
        reason = "they are blank" if first is None else f"position {first.position}: {first.reason}"
        names = ", ".join(map(repr, self.source.names))
        return f"none of the first rows can be used ({reason}); " + (
            f"its fields are {names}; name those of id, text and title with --id-field, --text-field and --title-field"
            if names
            else "expected a JSON object on each line, a .parquet file, or a folder of texts: unpack or convert it"
        )

    def _take(self, part: Part, embedded: EmbeddedPart) -> None:
        """Write a part, then say that it is done."""
        if embedded.part != part:
            raise InputError(f"embedder: expected part {part.number}, found part {embedded.part.number}")
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
        self._count(embedded, len(records), len(errors))

    def _count(self, embedded: EmbeddedPart, written: int, failed: int) -> None:
        self.parts += 1
        self.written += written
        self.failed += failed
        self.tokens += embedded.tokens
        self.cut += embedded.cut
        self.left_out.update(dict.fromkeys(name for row in embedded.rows for name in row.left_out))

    def report(self, seconds: float) -> IndexReport:
        """What came of it."""
        now, stored = self.manifest.done, self.store.count()
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
            stored=stored,
            replaced=max(0, now.found + now.written - stored),
        )


def _record(row: Row, vector: Vector) -> Candidate:
    metadata = {**row.metadata, TEXT_HASH_KEY: text_hash(row.text)}
    return Candidate(row.text, id=row.id, vector=vector, metadata=metadata)
