"""From a part of a corpus to its rows with their vectors, in this process or in another one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e2rank_integrations.indexing.rows import Row, RowError
from e2rank_integrations.text.cuts import Cuts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.indexing.sources import Part, Source
    from e2rank_integrations.values import Matrix, TokenInput

    Embedder = Callable[[Source, Sequence[Part], E2RankEncoder], Generator["EmbeddedPart"]]
    """Embeds parts and gives them back in their order."""


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


def embed_part(source: Source, part: Part, encoder: E2RankEncoder) -> EmbeddedPart:
    """Read a part and embed its rows.

    Raises:
        E2RankError: the corpus cannot be read, or the engine fails.
    """
    read = list(source.read(part))
    rows = tuple(row for row in read if isinstance(row, Row))
    cuts = Cuts(encoder.writer.document_cap)
    encoded = encoder.run([_input(row.text, encoder, cuts) for row in rows])
    errors = tuple(row for row in read if isinstance(row, RowError))
    return EmbeddedPart(part, rows, encoded.vectors, errors, encoded.usage.tokens, cuts.cut)


def embed_here(source: Source, parts: Sequence[Part], encoder: E2RankEncoder) -> Generator[EmbeddedPart]:
    """Embed parts one after the other, in this process or by the encoder's own engine.

    The next part is embedded while the caller writes the one before it, and no more than that.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="e2rank-index") as pool:
        coming = [pool.submit(embed_part, source, part, encoder) for part in parts[:1]]
        for part in parts[1:]:
            embedded = coming.pop().result()
            coming.append(pool.submit(embed_part, source, part, encoder))
            yield embedded
        yield from (future.result() for future in coming)


def _input(text: str, encoder: E2RankEncoder, cuts: Cuts) -> TokenInput:
    line = encoder.writer.document(text)
    cuts.count([line])
    return encoder.writer.cut_document(line)
