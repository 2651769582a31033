"""SQL on one table, and its rows as candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pgvector import HalfVector, Vector
from psycopg import sql
from psycopg.types.json import Jsonb

from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.stores.base import without_stale_vectors
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from e2rank_integrations.stores.pgvector.table import Columns, Table

    Filters = tuple[list[sql.Composable], list[Any]]

_KINDS: dict[str, type[Vector | HalfVector]] = {"vector": Vector, "halfvec": HalfVector}
_NOTHING = sql.SQL("")
_LEAST_EF = 100  # pgvector's own 40 finds too few for a rerank of 50
_MOST_EF = 1000  # the largest that pgvector takes
_ITERATIVE = (0, 8)  # the version that scans on where a filter leaves too few
_WIDEN = """
SELECT set_config('hnsw.ef_search',
                  greatest(nullif(current_setting('hnsw.ef_search', true), '')::int, %s)::text, true)"""


@dataclass(frozen=True, slots=True)
class Statements:
    """Composes statements, in all of which a `%` that is no placeholder is doubled.

    Attributes:
        name: The table's, after its schema's if there is one.
        columns: Its columns.
        only: Values that rows must have in further columns.
    """

    name: tuple[str, ...]
    columns: Columns
    only: Mapping[str, Any]

    @property
    def quoted(self) -> str:
        """The table's name as SQL has it."""
        return sql.Identifier(*self.name).as_string()

    def filters(
        self, where: Mapping[str, Any] | None = None, condition: str | sql.Composable | None = None,
        parameters: Sequence[Any] = (),
    ) -> Filters:  # fmt: skip
        """Conditions that rows must meet, and their values.

        Raises:
            StoreError: metadata are to be compared and there are none, or parameters without a condition.
        """
        conditions: list[sql.Composable] = [sql.SQL("{} = %s").format(_identifier(name)) for name in self.only]
        values = list(self.only.values())
        if where is not None:
            if self.columns.metadata is None:
                raise StoreError("where: this table has no column of metadata; use condition")
            conditions.append(self._composed("{metadata}::jsonb @> %s"))
            values.append(Jsonb(where))
        if condition is not None:
            given = sql.SQL(condition) if isinstance(condition, str) else condition
            conditions.append(sql.SQL("({})").format(given))
            values.extend(parameters)
        elif parameters:
            raise StoreError("parameters: they belong to a condition, and there is none")
        return conditions, values

    def nearest(self, table: Table, filters: Sequence[sql.Composable], *, exactly: bool = False) -> sql.Composed:
        """The nearest rows to a vector, as many as a limit: those are its last two values."""
        # The index serves the bare distance; the sum can only be sorted by. Indexes for the filters serve both.
        order = (
            "ORDER BY ({vector} <=> %s::{type}) + 0 LIMIT %s"
            if exactly
            else "ORDER BY {vector} <=> %s::{type} LIMIT %s"
        )
        return self._select(table, self._embedded(filters), self._composed(order, type=_identifier(table.vector_type)))

    def some(self, table: Table, filters: Sequence[sql.Composable]) -> sql.Composed:
        """Rows with a vector, as many as its last value."""
        return self._select(table, self._embedded(filters), sql.SQL("LIMIT %s"))

    def matches(self, filters: Sequence[sql.Composable]) -> sql.Composed:
        """How many rows with a vector there are, counted up to its last value."""
        return self._composed(
            "SELECT count(*) FROM (SELECT 1 FROM {table} {where} LIMIT %s) AS passing",
            where=_where(self._embedded(filters)),
        )

    def of_ids(self, table: Table, filters: Sequence[sql.Composable], *, as_text: bool) -> sql.Composed:
        """Rows whose id is among its last value: compared as what the column is, by its index, or as text."""
        kind = sql.SQL("text" if as_text else table.id_type.replace("%", "%%"))
        id_ = "{id}::text" if as_text else "{id}"
        return self._select(table, [*filters, self._composed(id_ + " = ANY(%s::{type}[])", type=kind)])

    def count(self, filters: Sequence[sql.Composable]) -> sql.Composed:
        """How many rows there are."""
        return self._composed("SELECT count(*) FROM {table} {where}", where=_where(filters))

    def create(self, kind: str) -> sql.Composed:
        """The table, with vectors of a type."""
        metadata = "" if self.columns.metadata is None else ", {metadata} jsonb NOT NULL"
        columns = f"{{id}} text PRIMARY KEY, {{text}} text NOT NULL, {{vector}} {kind} NOT NULL{metadata}"
        return self._composed(f"CREATE TABLE {{table}} ({columns})")

    def index(self, operators: str) -> sql.Composed:
        """An HNSW index of the vectors."""
        return self._composed("CREATE INDEX ON {table} USING hnsw ({vector} {operators})", operators=sql.SQL(operators))

    def comment(self, text: str) -> sql.Composed:
        """A comment on the column of vectors."""
        literal = sql.Literal(text.replace("%", "%%"))
        return self._composed("COMMENT ON COLUMN {table}.{vector} IS {comment}", comment=literal)

    def upsert(self, table: Table) -> sql.Composed:
        """Write one row, of the values that `row` gives."""
        names = [self.columns.id, self.columns.text, self.columns.vector, self.columns.metadata]
        columns = [_identifier(name) for name in names if name is not None]
        changes = [sql.SQL("{0} = EXCLUDED.{0}").format(column) for column in columns[1:]]
        places = ["%s", "%s", f"%s::{table.vector_type}", "%s"][: len(columns)]
        return self._composed(
            "INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT ({id}) DO UPDATE SET {changes}",
            columns=sql.SQL(", ").join(columns), changes=sql.SQL(", ").join(changes),
            places=sql.SQL(", ").join(map(sql.SQL, places)),
        )  # fmt: skip

    def row(self, record: Candidate) -> list[Any]:
        """A record as values.

        Raises:
            InputError: it has metadata, and the table has no place for them.
        """
        if self.columns.metadata is None and record.metadata:
            raise InputError(f"record {record.id!r}: this table has no column of metadata, and it has some")
        values = [record.id, record.text, written(record.vector), Jsonb(dict(record.metadata))]
        return values if self.columns.metadata is not None else values[:3]

    def _embedded(self, filters: Sequence[sql.Composable]) -> list[sql.Composable]:
        return [*filters, self._composed("{vector} IS NOT NULL")]

    def _select(self, table: Table, filters: Sequence[sql.Composable], rest: sql.Composable = _NOTHING) -> sql.Composed:
        # The type's own binary form, whatever adapters the connection has.
        return self._composed(
            "SELECT {id}::text, {text}, {metadata}, {send}({vector}) FROM {table} {where} {rest}",
            send=_identifier(f"{table.vector_type}_send"), where=_where(filters), rest=rest,
        )  # fmt: skip

    def _composed(self, template: str, **parts: sql.Composable) -> sql.Composed:
        columns = self.columns
        given = {
            "table": _identifier(*self.name),
            "id": _identifier(columns.id),
            "text": _identifier(columns.text),
            "vector": _identifier(columns.vector),
            "metadata": sql.SQL("NULL") if columns.metadata is None else _identifier(columns.metadata),
        }
        return sql.SQL(template).format(**given, **parts)


def widen(table: Table, k: int) -> tuple[sql.SQL, list[Any]]:
    """Have the index look at enough rows, within this transaction alone."""
    further = ", set_config('hnsw.iterative_scan', 'strict_order', true)" if table.version >= _ITERATIVE else ""
    return sql.SQL(_WIDEN + further), [min(_MOST_EF, max(_LEAST_EF, 2 * k))]


def written(vector: npt.ArrayLike | None) -> str:
    """As text; the server rounds it to half precision where its column has that, and refuses what is too large."""
    return Vector(np.asarray(vector, dtype=np.float32)).to_text()


def candidates(table: Table, rows: Sequence[tuple[Any, ...]]) -> list[Candidate]:
    """Selected rows."""
    kind = _KINDS[table.vector_type]
    return without_stale_vectors([
        Candidate(
            text or "", id=id_, vector_source="store", metadata=metadata or {},
            vector=None if data is None else np.asarray(kind.from_binary(data).to_numpy(), dtype=np.float32),
        )
        for id_, text, metadata, data in rows
    ])  # fmt: skip


def _identifier(*names: str) -> sql.Identifier:
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def _where(filters: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(filters)) if filters else _NOTHING
