"""PostgreSQL with pgvector: the vectors come with the rows of the search."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from e2rank_integrations.errors import E2RankError, InputError, MissingExtraError, StoreError
from e2rank_integrations.stores.base import SAMPLE_RECORDS, without_stale_vectors
from e2rank_integrations.stores.trust import FINGERPRINT_KEY
from e2rank_integrations.stores.writing import expect_records
from e2rank_integrations.values import Candidate

try:
    import psycopg
    from pgvector import HalfVector, Vector
    from psycopg import sql
    from psycopg.errors import DataError
    from psycopg.rows import tuple_row
    from psycopg.types.json import Jsonb
except ModuleNotFoundError as error:
    raise MissingExtraError("psycopg or pgvector", "pgvector") from error
except ImportError as error:  # psycopg is there, but PostgreSQL's client library is not
    raise MissingExtraError("'psycopg[binary]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    import numpy.typing as npt

    from e2rank_integrations.values import Vector as UnitVector

MOST_INDEXED = {"vector": 2000, "halfvec": 4000}
"""Dimensions that an HNSW index of pgvector takes, by the type of the column."""

MOST_STORED = 16_000
"""Dimensions that a column of either type takes without an index."""

_LEAST_EF = 100  # pgvector's own 40 finds too few for a rerank of 50
_MOST_EF = 1000  # the largest that pgvector takes
_ITERATIVE = (0, 8)  # the version that scans on where a filter leaves too few
_KINDS: dict[str, type[Vector | HalfVector]] = {"vector": Vector, "halfvec": HalfVector}
_NOTHING = sql.SQL("")

_LAYOUT = """
SELECT c.oid, d.oid, pg_postmaster_start_time()::text, t.typname, format_type(i.atttypid, NULL),
       col_description(c.oid, a.attnum), (SELECT extversion FROM pg_extension WHERE extname = 'vector')
FROM pg_class c
JOIN pg_database d ON d.datname = current_database()
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %s
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_attribute i ON i.attrelid = c.oid AND i.attname = %s
WHERE c.oid = to_regclass(%s)
"""

_WIDEN = """
SELECT set_config('hnsw.ef_search',
                  greatest(nullif(current_setting('hnsw.ef_search', true), '')::int, %s)::text, true)
"""


class Connections(Protocol):
    """What a `psycopg_pool.ConnectionPool` is."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend a connection that nobody else uses meanwhile."""
        ...


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of a table's columns.

    Attributes:
        id: Text, or what can be cast to it; the primary key, or unique, if the table is written to.
        text: The text that was embedded.
        vector: Of type `vector` or `halfvec`.
        metadata: Of type `jsonb` or `json`; None where there is none.
    """

    id: str = "id"
    text: str = "text"
    vector: str = "embedding"
    metadata: str | None = "metadata"


@dataclass(frozen=True, slots=True)
class _Table:
    """What the catalog says of the table; read once."""

    identity: Hashable
    vector_type: str
    id_type: str
    comment: str
    version: tuple[int, ...]


class PgVectorStore:
    """A table of texts and vectors in PostgreSQL.

    Args:
        connection: An address such as `postgresql://user@host/database`, connected to when first needed and again
            after it was lost; a pool with a method `connection`; or a psycopg connection for this store alone. One
            connection serves one search at a time, a pool as many as it has.
        table: Its name.
        schema: Its schema; that of the `search_path` where None.
        columns: Its columns.
        only: Values of further columns that rows must have, for a table which several collections share; such a
            table is not written to.
    """

    def __init__(
        self,
        connection: str | Connections | psycopg.Connection[Any],
        table: str,
        *,
        schema: str | None = None,
        columns: Columns = Columns(),
        only: Mapping[str, Any] | None = None,
    ) -> None:
        self._source = _source(connection)
        self._name = sql.Identifier(table) if schema is None else sql.Identifier(schema, table)
        self._columns = columns
        self._only = dict(only or {})
        self._known: _Table | None = None

    @classmethod
    def create(
        cls,
        connection: str | Connections | psycopg.Connection[Any],
        table: str,
        width: int,
        *,
        schema: str | None = None,
        columns: Columns = Columns(),
        half: bool | None = None,
        index: bool = True,
        fingerprint: str | None = None,
    ) -> Self:
        """Make a table, the extension `vector` where it lacks, and an HNSW index for cosine.

        Args:
            connection: As of the store.
            table: Its name; it must not exist.
            width: Dimensions of the vectors.
            schema: An existing schema.
            columns: Their names; metadata becomes `jsonb`.
            half: Whether to store half precision (`halfvec`); None for where the index asks for it, above 2,000
                dimensions.
            index: Whether to index. Without one every search compares all rows, exactly.
            fingerprint: The embedding's, as JSON.

        Raises:
            StoreError: the vectors are too wide for the index, or PostgreSQL refuses.
        """
        kind = _vector_type(width, half=half, index=index)
        store = cls(connection, table, schema=schema, columns=columns)
        try:
            store._make(f"{kind}({width})", operators=f"{kind}_cosine_ops" if index else None)
            if fingerprint is not None:
                store.save_fingerprint(fingerprint)
        except BaseException:
            store.close()
            raise
        return store

    def _make(self, kind: str, operators: str | None) -> None:
        with self._asked("create the table") as opened:
            if not opened.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
                opened.execute("CREATE EXTENSION vector")
            opened.execute(self._table_statement(kind))
            if operators is not None:
                index = "CREATE INDEX ON {table} USING hnsw ({vector} {operators})"
                opened.execute(self._composed(index, operators=sql.SQL(operators)))

    @property
    def identity(self) -> Hashable:
        """The server's start, the database and the table by their numbers, and the rows that are looked at.

        Raises:
            StoreError: there is no such table.
        """
        return self._table().identity, repr(sorted(self._only.items()))

    @property
    def fingerprint(self) -> str | None:
        """What was saved in the comment of the vectors' column; None for rows of a shared table.

        Raises:
            StoreError: there is no such table.
        """
        lines = [] if self._only else _fingerprint_lines(self._table().comment)
        return lines[0].removeprefix(FINGERPRINT_KEY).strip() if lines else None

    def save_fingerprint(self, fingerprint: str) -> None:
        """Keep a fingerprint in a line of the comment of the vectors' column, below what it says already.

        `pg_dump` keeps it, and it goes where the column goes. Only the table's owner may write it.

        Raises:
            StoreError: the table is shared by several collections, or PostgreSQL refuses.
        """
        if self._only:
            raise StoreError("several collections share this table, so it has no fingerprint; vectors are spot-checked")
        comment = self._table().comment
        ours = _fingerprint_lines(comment)
        kept = [line for line in comment.splitlines() if line not in ours]
        line = f"{FINGERPRINT_KEY} {' '.join(fingerprint.splitlines())}"
        with self._asked("save the fingerprint") as connection:
            connection.execute(self._composed(
                "COMMENT ON COLUMN {table}.{vector} IS {comment}", comment=sql.Literal("\n".join([*kept, line]))
            ))  # fmt: skip
        self._known = None

    def search(
        self,
        vector: UnitVector,
        k: int,
        *,
        where: Mapping[str, Any] | None = None,
        condition: str | sql.Composable | None = None,
        parameters: Sequence[Any] = (),
        **options: Any,
    ) -> list[Candidate]:
        """The k nearest rows with their vectors, by cosine.

        Where the index brings fewer than k, as it may with a filter that few rows pass, all rows are compared.

        Args:
            vector: Unit vector, shape (width,).
            k: Rows wanted.
            where: What the metadata must contain (PostgreSQL's `@>`): `{"lang": "en"}`.
            condition: A condition in SQL on the table's columns, with `%s` for each of `parameters`. It is SQL: write
                it in your program, and let nothing that a user typed into it.
            parameters: Values for the condition.
            options: None.

        Raises:
            StoreError: an argument that is not known, or PostgreSQL refuses.
        """
        if options:
            raise StoreError(f"pgvector's search takes where, condition and parameters, and not {min(options)!r}")
        table = self._table()
        filters, values = self._filters(where, condition, parameters)
        statement = self._select(table, [*filters, self._composed("{vector} IS NOT NULL")], self._composed(
            "ORDER BY {vector} <=> %s::{type} LIMIT %s", type=sql.Identifier(table.vector_type)
        ))  # fmt: skip
        values += [_written(vector), k]
        with self._asked("search") as connection:
            _widen(connection, table, k)
            rows = _rows(connection, statement, values)
            if len(rows) < k:
                connection.execute("SET LOCAL enable_indexscan = off")
                rows = _rows(connection, statement, values)
        return self._candidates(table, rows)

    def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Rows by id.

        Raises:
            StoreError: PostgreSQL refuses.
        """
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        table = self._table()
        try:
            records = self._of_ids(
                table, wanted, self._composed("{id} = ANY(%s::{type}[])", type=sql.SQL(table.id_type))
            )
        except StoreError as error:
            if not isinstance(error.__cause__, DataError):
                raise
            # An id that is not one of the column's type is not stored; the others are looked up without its index.
            records = self._of_ids(table, wanted, self._composed("{id}::text = ANY(%s::text[])"))
        known = set(wanted)
        return {str(record.id): record for record in records if record.id in known}

    def sample(self) -> list[Candidate]:
        """The first rows that have a vector.

        Raises:
            StoreError: PostgreSQL refuses.
        """
        table = self._table()
        filters, values = self._filters()
        statement = self._select(table, [*filters, self._composed("{vector} IS NOT NULL")], sql.SQL("LIMIT %s"))
        with self._asked("sample") as connection:
            return self._candidates(table, _rows(connection, statement, [*values, SAMPLE_RECORDS]))

    def upsert(self, records: Sequence[Candidate]) -> None:
        """Write rows in one transaction, all or none; what is stored under an id is replaced.

        Args:
            records: Each with an id of its own and a vector, all of the column's width. Metadata must be JSON.

        Raises:
            InputError: a record without id or vector, or an id twice.
            VectorError: a vector of another width than the first, not finite, or of length zero.
            StoreError: the table is shared by several collections, or PostgreSQL refuses.
        """
        if self._only:
            raise StoreError("several collections share this table; write to it with what made it")
        expect_records(records)
        if not records:
            return
        table = self._table()
        statement = self._upsert_statement(table)
        with self._asked("upsert") as connection, connection.cursor() as cursor:
            # In one order, so that two writers of the same ids wait for each other rather than in a circle.
            ordered = sorted(records, key=lambda record: str(record.id))
            cursor.executemany(statement, (self._values(record) for record in ordered))

    def count(self) -> int:
        """How many rows there are.

        Raises:
            StoreError: PostgreSQL refuses.
        """
        filters, values = self._filters()
        with self._asked("count") as connection:
            statement = self._composed("SELECT count(*) FROM {table} {where}", where=_where(filters))
            return int(_rows(connection, statement, values)[0][0])

    def close(self) -> None:
        """Close the connection that was made of an address; a pool or a connection that was given stays open."""
        if isinstance(self._source, _Address):
            self._source.close()

    @contextmanager
    def _asked(self, what: str) -> Iterator[psycopg.Connection[Any]]:
        try:
            with self._source.connection() as connection, connection.transaction():
                yield connection
        except E2RankError:
            raise
        except (psycopg.Error, OSError, TypeError, ValueError) as error:
            self._known = None  # the table may be another when it is back
            # Not PostgreSQL's own message, which may repeat a value or an address.
            state = getattr(error, "sqlstate", None)
            raise StoreError(
                f"PostgreSQL failed to {what} ({type(error).__name__}{f', {state}' if state else ''}); the error that "
                f"caused this one says why; a connection that was lost is made again by the next call, unless it was "
                f"given ready-made"
            ) from error

    def _table(self) -> _Table:
        """What the catalog says, asked once."""
        known = self._known
        if known is None:
            with self._asked("find the table") as connection:
                names = [self._columns.vector, self._columns.id, self._name.as_string(connection)]
                rows = _rows(connection, sql.SQL(_LAYOUT), names)
            known = self._known = self._read(rows)
        return known

    def _read(self, rows: list[tuple[Any, ...]]) -> _Table:
        if not rows:
            raise StoreError(
                f"there is no table {self._name.as_string()} with columns {self._columns.id!r} and "
                f"{self._columns.vector!r}; check schema and columns, or make it with PgVectorStore.create"
            )
        table, database, started, kind, id_type, comment, version = rows[0]
        if kind not in _KINDS:
            raise StoreError(f"column {self._columns.vector!r}: expected type vector or halfvec, found {kind}")
        return _Table((started, database, table), kind, id_type, comment or "", _version(version))

    def _of_ids(self, table: _Table, ids: list[str], condition: sql.Composable) -> list[Candidate]:
        filters, values = self._filters()
        with self._asked("get") as connection:
            return self._candidates(
                table, _rows(connection, self._select(table, [*filters, condition]), [*values, ids])
            )

    def _filters(
        self, where: Mapping[str, Any] | None = None, condition: str | sql.Composable | None = None,
        parameters: Sequence[Any] = (),
    ) -> tuple[list[sql.Composable], list[Any]]:  # fmt: skip
        filters: list[sql.Composable] = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in self._only]
        values = list(self._only.values())
        if where is not None:
            if self._columns.metadata is None:
                raise StoreError("where: this table has no column of metadata; use condition")
            filters.append(self._composed("{metadata}::jsonb @> %s"))
            values.append(Jsonb(where))
        if condition is not None:
            given = sql.SQL(condition) if isinstance(condition, str) else condition
            filters.append(sql.SQL("({})").format(given))
            values.extend(parameters)
        elif parameters:
            raise StoreError("parameters: they belong to a condition, and there is none")
        return filters, values

    def _select(
        self, table: _Table, filters: Sequence[sql.Composable], rest: sql.Composable = _NOTHING
    ) -> sql.Composed:
        # The type's own binary form, whatever adapters the connection has.
        return self._composed(
            "SELECT {id}::text, {text}, {metadata}, {send}({vector}) FROM {table} {where} {rest}",
            send=sql.Identifier(f"{table.vector_type}_send"), where=_where(filters), rest=rest,
        )  # fmt: skip

    def _composed(self, template: str, **names: sql.Composable) -> sql.Composed:
        columns = self._columns
        metadata = sql.SQL("NULL") if columns.metadata is None else sql.Identifier(columns.metadata)
        given = {
            "table": self._name,
            "id": sql.Identifier(columns.id),
            "text": sql.Identifier(columns.text),
            "vector": sql.Identifier(columns.vector),
            "metadata": metadata,
        }
        return sql.SQL(template).format(**given, **names)

    def _table_statement(self, kind: str) -> sql.Composed:
        metadata = "" if self._columns.metadata is None else ", {metadata} jsonb NOT NULL"
        columns = f"{{id}} text PRIMARY KEY, {{text}} text NOT NULL, {{vector}} {kind} NOT NULL{metadata}"
        return self._composed(f"CREATE TABLE {{table}} ({columns})")

    def _upsert_statement(self, table: _Table) -> sql.Composed:
        names = [self._columns.id, self._columns.text, self._columns.vector, self._columns.metadata]
        columns = [sql.Identifier(name) for name in names if name is not None]
        changes = [sql.SQL("{0} = EXCLUDED.{0}").format(column) for column in columns[1:]]
        places = ["%s", "%s", f"%s::{table.vector_type}", "%s"][: len(columns)]
        return self._composed(
            "INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT ({id}) DO UPDATE SET {changes}",
            columns=sql.SQL(", ").join(columns), changes=sql.SQL(", ").join(changes),
            places=sql.SQL(", ").join(map(sql.SQL, places)),
        )  # fmt: skip

    def _values(self, record: Candidate) -> list[Any]:
        if self._columns.metadata is None and record.metadata:
            raise InputError(f"record {record.id!r}: this table has no column of metadata, and it has some")
        values = [record.id, record.text, _written(record.vector), Jsonb(dict(record.metadata))]
        return values if self._columns.metadata is not None else values[:3]

    def _candidates(self, table: _Table, rows: Sequence[tuple[Any, ...]]) -> list[Candidate]:
        kind = _KINDS[table.vector_type]
        return without_stale_vectors([
            Candidate(
                text or "", id=id_, vector_source="store", metadata=metadata or {},
                vector=None if data is None else np.asarray(kind.from_binary(data).to_numpy(), dtype=np.float32),
            )
            for id_, text, metadata, data in rows
        ])  # fmt: skip


class _Kept:
    """One connection for all threads, one at a time."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
            yield self._connection


class _Address(_Kept):
    """A connection of our own, made again when it was lost."""

    def __init__(self, conninfo: str) -> None:
        super().__init__(lambda: psycopg.connect(conninfo, autocommit=True))

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()


def _source(connection: str | Connections | psycopg.Connection[Any]) -> Connections:
    if isinstance(connection, str):
        return _Address(connection)
    if isinstance(connection, psycopg.Connection):
        return _Kept(lambda: connection)
    if not hasattr(connection, "connection"):
        raise InputError(
            f"connection: expected an address, a psycopg connection or a pool, found {type(connection).__name__}"
        )
    return connection


def _vector_type(width: int, *, half: bool | None, index: bool) -> str:
    wanted = half if half is not None else index and width > MOST_INDEXED["vector"]
    kind = "halfvec" if wanted else "vector"
    if index and width > MOST_INDEXED[kind]:
        raise StoreError(
            f"pgvector indexes at most {MOST_INDEXED['vector']:,} dimensions of type vector and "
            f"{MOST_INDEXED['halfvec']:,} of type halfvec, and these are {width:,}"
            + (" with half=False" if half is False else "")
            + "; index=False makes a table that is searched exactly, all rows each time; or use another store"
        )
    if not 1 <= width <= MOST_STORED:
        raise StoreError(f"width: pgvector stores 1 to {MOST_STORED:,} dimensions, and these are {width:,}")
    return kind


def _widen(connection: psycopg.Connection[Any], table: _Table, k: int) -> None:
    """Have the index look at enough rows, within this transaction alone."""
    connection.execute(_WIDEN, [min(_MOST_EF, max(_LEAST_EF, 2 * k))])
    if table.version >= _ITERATIVE:
        connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")


def _rows(
    connection: psycopg.Connection[Any], statement: sql.SQL | sql.Composed, values: Sequence[Any]
) -> list[tuple[Any, ...]]:
    # Never prepared: a plan that is kept would not heed the settings of the transaction.
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        return cursor.execute(statement, values, prepare=False).fetchall()


def _where(filters: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(filters)) if filters else _NOTHING


def _written(vector: npt.ArrayLike | None) -> str:
    """As text; the server rounds it to half precision where its column has that, and refuses what is too large."""
    return Vector(np.asarray(vector, dtype=np.float32)).to_text()


def _fingerprint_lines(comment: str) -> list[str]:
    return [line for line in comment.splitlines() if line.startswith(f"{FINGERPRINT_KEY} ")]


def _version(text: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (text or "0").split(".") if part.isdecimal())
