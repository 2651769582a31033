"""A corpus in a Parquet file."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from e2rank_integrations.errors import InputError, MissingExtraError
from e2rank_integrations.indexing.rows import Fields, Row, RowError, row_of
from e2rank_integrations.indexing.sources import Part, file_identity

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as error:
    raise MissingExtraError("pyarrow", "index") from error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_AT_ONCE = 1024  # rows that are made Python's own at a time


class ParquetSource:
    """The rows of a Parquet file. Row groups need not be small, but a part is within one.

    A row group can only be read from its start; so what was opened for one part is kept for the next, and who reads
    the parts in order reads each group once. Not to be shared between threads.
    """

    def __init__(self, path: Path, fields: Fields) -> None:
        self.path = path
        self._fields = fields
        self._file = _opened(path)
        self._group, self._next = -1, 0
        self._rows: Iterator[dict[str, Any] | None] = iter(())
        missing = [name for name in (fields.id, fields.text) if name not in self.names]
        if missing:
            raise InputError(
                f"{path}: no column {missing[0]!r}; its columns are {', '.join(map(repr, self.names))}; name those of "
                f"id, text and title with --id-field, --text-field and --title-field"
            )

    def __reduce__(self) -> tuple[type[ParquetSource], tuple[Path, Fields]]:
        return type(self), (self.path, self._fields)

    @property
    def identity(self) -> str:
        """Path, size and time of the last change."""
        return file_identity(self.path)

    @property
    def settings(self) -> str:
        """The names of a row's fields."""
        return repr(self._fields)

    @property
    def names(self) -> list[str]:
        """Its columns."""
        return list(self._file.schema_arrow.names)

    def parts(self, rows: int) -> Iterator[Part]:
        """See `Source.parts`."""
        number, first = 0, 1
        for group in range(self._file.num_row_groups):
            held = self._file.metadata.row_group(group).num_rows
            for start in range(0, held, rows):
                count = min(rows, held - start)
                yield Part(number, first, count, (group, start))
                number, first = number + 1, first + count

    def read(self, part: Part) -> Iterator[Row | RowError]:
        """See `Source.read`."""
        group, start = part.place
        for position, values in enumerate(self._read(group, start, part.rows), start=part.first):
            if values is None:
                yield RowError(position, None, "expected UTF-8, found other bytes")
            else:
                yield row_of(position, values, self._fields)

    def _read(self, group: int, start: int, count: int) -> list[dict[str, Any] | None]:
        if group != self._group or start < self._next:
            self._group, self._next, self._rows = group, 0, self._from_start(group)
        before, self._next = self._next, start + count
        try:
            return list(islice(self._rows, start - before, start - before + count))
        except (pa.ArrowException, OSError) as error:
            self._group = -1
            raise InputError(f"{self.path}: row group {group} cannot be read ({type(error).__name__})") from error

    def _from_start(self, group: int) -> Iterator[dict[str, Any] | None]:
        for batch in self._file.iter_batches(batch_size=_AT_ONCE, row_groups=[group]):
            yield from _values(batch)


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | None]:
    """The rows as Python's own values; None where a string is not UTF-8."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        return [row for place in range(batch.num_rows) for row in _values(batch.slice(place, 1))]


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: it cannot be read as a Parquet file ({type(error).__name__})") from error
