"""From a part of a corpus to its rows with their vectors, in this process or in another one."""

from __future__ import annotations

from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.indexing.rows import Row, RowError
from e2rank_integrations.text.cuts import Cuts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.indexing.sources import Part, Source
    from e2rank_integrations.values import Encoded, Matrix

    Embedder = Callable[[Source, Iterable[Part], E2RankEncoder], Generator["EmbeddedPart"]]
    """Embeds parts and gives them back in their order."""

_ROWS_HERE = 128  # embedded between two looks at whether to stop: enough to be batched by length
_ROWS_ELSEWHERE = 512  # enough to keep every connection to a server busy


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPart:
    """A part's rows, embedded.

    Attributes:
        part: Which one.
        rows: Those that can be used, in order.
        vectors: Theirs: unit rows, shape (rows, width), float32.
        errors: Its other rows.
        tokens: What went through the model.
        cut: How many texts are longer than the model's cap, and were cut for their vectors.
    """

    part: Part
    rows: tuple[Row, ...]
    vectors: Matrix = field(repr=False)
    errors: tuple[RowError, ...]
    tokens: int
    cut: int


def embed_part(source: Source, part: Part, encoder: E2RankEncoder, stop: Event | None = None) -> EmbeddedPart:
    """Read a part and embed its rows.

    Args:
        source: See `open_source`.
        part: One of its parts.
        encoder: Embeds the rows, some at a time.
        stop: Ends it before the next rows, once it is set.

    Raises:
        E2RankError: the corpus cannot be read, or the engine fails.
        CancelledError: `stop` is set.
    """
    read = list(source.read(part))
    rows = tuple(row for row in read if isinstance(row, Row))
    errors = tuple(row for row in read if isinstance(row, RowError))
    cuts = Cuts(encoder.writer.document_cap)
    encoded = list(_encoded(rows, encoder, cuts, stop or Event()))
    vectors = np.concatenate([some.vectors for some in encoded])
    return EmbeddedPart(part, rows, vectors, errors, sum(some.usage.tokens for some in encoded), cuts.cut)


def embed_here(source: Source, parts: Iterable[Part], encoder: E2RankEncoder) -> Generator[EmbeddedPart]:
    """Embed parts one after the other, in this process or by the encoder's own engine.

    The next part is embedded while the caller writes the one before it, and no more than that. Closed, or interrupted,
    it does not end the part under way.
    """
    coming: Future[EmbeddedPart] | None = None
    stop = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="e2rank-index") as pool:
        try:
            for part in parts:
                embedded = None if coming is None else coming.result()
                coming = pool.submit(embed_part, source, part, encoder, stop)
                if embedded is not None:
                    yield embedded
            if coming is not None:
                yield coming.result()
        finally:
            stop.set()


def _encoded(rows: Sequence[Row], encoder: E2RankEncoder, cuts: Cuts, stop: Event) -> Iterator[Encoded]:
    """Some rows at a time; one of nothing where there are none."""
    size = _ROWS_HERE if encoder.custom_engine is None else _ROWS_ELSEWHERE
    for start in range(0, max(len(rows), 1), size):
        if stop.is_set():
            raise CancelledError
        yield encoder.run(encoder.cut_documents([row.text for row in rows[start : start + size]], cuts))
