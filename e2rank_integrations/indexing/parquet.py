"""A corpus in a Parquet file."""

from __future__ import annotations

from collections import Counter
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
_BUFFER = 1 << 20  # bytes of a column that are read ahead
_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_KEPT = {"null", "bool", "halffloat", "float", "double", "string", "large_string", "string_view"} | _INTEGERS


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
        self._expect_columns()
        self._unread = tuple(column.name for column in self._file.schema_arrow if not _can_be_kept(column.type))

    def _expect_columns(self) -> None:
        fields = self._fields
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise InputError(f"{self.path}: two columns are called {twice[0]!r}; give each a name of its own")
        missing = [name for name in (fields.id, fields.text) if name not in self.names]
        if missing:
            raise InputError(
                f"{self.path}: no column {missing[0]!r}; its columns are {', '.join(map(repr, self.names))}; "
                f"{_NAME_THEM}"
            )
        for column in self._file.schema_arrow:
            if column.name in {fields.id, fields.text, fields.title} and not _can_be_kept(column.type):
                raise InputError(
                    f"{self.path}: expected text in column {column.name!r}, found {column.type}; {_NAME_THEM}"
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

    @property
    def rows(self) -> int:
        """As its end says."""
        return int(self._file.metadata.num_rows)

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
                yield row_of(position, values, self._fields, self._unread)

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
        # Only what can be kept: Python has no dates as early or as late as a file may hold.
        columns = [name for name in self.names if name not in self._unread]
        for batch in self._file.iter_batches(batch_size=_AT_ONCE, row_groups=[group], columns=columns):
            kept = [place for place, column in enumerate(batch.schema) if _can_be_kept(column.type)]
            yield from _values(batch.select(kept))


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | None]:
    """The rows as Python's own values; None where a string is not UTF-8."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        return [row for place in range(batch.num_rows) for row in _values(batch.slice(place, 1))]


def _can_be_kept(kind: pa.DataType) -> bool:
    """Whether a column's values may be those of a row's id, text or metadata."""
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind) in _KEPT


def _opened(path: Path) -> pq.ParquetFile:
    try:
        # Without these it holds a whole row group in memory.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: it cannot be read as a Parquet file ({type(error).__name__})") from error


_NAME_THEM = "name those of id, text and title with --id-field, --text-field and --title-field"
