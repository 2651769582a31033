"""A table of PostgreSQL, read and written."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.errors import DataError, ProgramLimitExceeded

from e2rank_integrations.errors import StoreError
from e2rank_integrations.stores.base import SAMPLE_RECORDS
from e2rank_integrations.stores.pgvector.connections import Address, asked, rows, source
from e2rank_integrations.stores.pgvector.statements import Statements, candidates, widen, written
from e2rank_integrations.stores.pgvector.table import Columns, commented, find_table, server_name, vector_type
from e2rank_integrations.stores.writing import expect_records

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence
    from typing import Self

    import psycopg

    from e2rank_integrations.stores.pgvector.connections import Connections
    from e2rank_integrations.stores.pgvector.table import Table
    from e2rank_integrations.values import Candidate, Vector

_ONE_MAKER = sql.SQL("SELECT pg_advisory_xact_lock(hashtext('e2rank_integrations'))")
_EXTENSION = sql.SQL("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
_OF_ONE_RECORD = (DataError, ProgramLimitExceeded, TypeError, ValueError)
"""What PostgreSQL or its client says of a value that cannot be kept."""


class PgVectorStore:
    """A table of texts and vectors in PostgreSQL; a context manager, which closes what it opened.

    Args:
        connection: An address such as `postgresql://user@host/database`, connected to when first needed, again after
            it was lost, and in each forked process; a pool with a method `connection`; or a psycopg connection for
            this store alone. One connection serves one search at a time, a pool as many as it has. A connection that
            is within a transaction is read by, and left as it was, but not written by.
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
        self._source = source(connection)
        self._statements = Statements((table,) if schema is None else (schema, table), columns, dict(only or {}))
        self._seen: Table | None = None  # as the latest call found it
        self._server: str | None = None

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
        exist_ok: bool = False,
    ) -> Self:
        """Make a table, the extension `vector` where it lacks, and an HNSW index for cosine: all of it, or nothing.

        Args:
            connection: As of the store.
            table: Its name.
            width: Dimensions of the vectors.
            schema: An existing schema.
            columns: Their names; metadata becomes `jsonb`.
            half: Whether to store half precision (`halfvec`); None for where the index asks for it, above 2,000
                dimensions.
            index: Whether to index. Without one every search compares all rows, exactly.
            fingerprint: The embedding's, as JSON.
            exist_ok: Whether a table of that name may exist. It is opened as it is: neither its width nor its
                fingerprint is written to.

        Raises:
            StoreError: the vectors are too wide for the index, or PostgreSQL refuses.
        """
        kind = vector_type(width, half=half, index=index)
        store = cls(connection, table, schema=schema, columns=columns)
        try:
            store._make(kind, width, index=index, fingerprint=fingerprint, exist_ok=exist_ok)
        except BaseException:
            store.close()
            raise
        return store

    def _make(self, kind: str, width: int, *, index: bool, fingerprint: str | None, exist_ok: bool) -> None:
        made = self._statements
        with asked(self._source, "create the table", writing=True) as connection:
            rows(connection, _ONE_MAKER)  # two that start at once do not both find nothing
            if exist_ok and find_table(connection, made.quoted, made.columns):
                return
            if not rows(connection, _EXTENSION):
                rows(connection, sql.SQL("CREATE EXTENSION vector"))
            rows(connection, made.create(f"{kind}({width})"))
            if index:
                rows(connection, made.index(f"{kind}_cosine_ops"))
            if fingerprint is not None:
                rows(connection, made.comment(commented("", fingerprint)))

    @property
    def identity(self) -> Hashable:
        """The server's own number, those of the database and of the table, and the rows that are looked at.

        The same after a restart of the server and in every process; another for a table made anew under the name.
        Where the server's number may not be asked for, the database's name stands for it.

        Raises:
            StoreError: there is no such table.
        """
        seen = self._table()
        if self._server is None:
            with asked(self._source, "find the table") as connection:
                self._server = server_name(connection)
        return self._server, seen.database, seen.number, repr(sorted(self._statements.only.items()))

    @property
    def fingerprint(self) -> str | None:
        """What was saved in the comment of the vectors' column; None for rows of a shared table.

        As the latest search or look-up found it, each of which reads it anew.

        Raises:
            StoreError: there is no such table.
        """
        return None if self._statements.only else self._table().fingerprint

    def save_fingerprint(self, fingerprint: str) -> None:
        """Keep a fingerprint in a line of the comment of the vectors' column, below what it says already.

        `pg_dump` keeps it, and it goes where the column goes. Only the table's owner may write it.

        Raises:
            StoreError: the table is shared by several collections, or PostgreSQL refuses.
        """
        if self._statements.only:
            raise StoreError("several collections share this table, so it has no fingerprint; vectors are spot-checked")
        with self._asked("save the fingerprint", writing=True) as (connection, table):
            rows(connection, self._statements.comment(commented(table.comment, fingerprint)))
        self._seen = None

    def search(
        self,
        vector: Vector,
        k: int,
        *,
        where: Mapping[str, Any] | None = None,
        condition: str | sql.Composable | None = None,
        parameters: Sequence[Any] = (),
        **options: Any,
    ) -> list[Candidate]:
        """The k nearest rows with their vectors, by cosine.

        Where the index brings fewer than k, the rows that pass the filter are counted, up to k, and if there are more
        than it brought, all that pass are compared.

        Args:
            vector: Unit vector, shape (width,).
            k: Rows wanted.
            where: What the metadata must contain (PostgreSQL's `@>`): `{"lang": "en"}`.
            condition: A condition in SQL on the table's columns, with `%s` for each of `parameters`, and `%%` for a
                percent sign. It is SQL: write it in your program, and let nothing that a user typed into it.
            parameters: Values for the condition.
            options: None.

        Raises:
            StoreError: an argument that is not known, or PostgreSQL refuses.
        """
        if options:
            raise StoreError(f"pgvector's search takes where, condition and parameters, and not {min(options)!r}")
        filters, values = self._statements.filters(where, condition, parameters)
        asked_for = [*values, written(vector), k]
        with self._asked("search") as (connection, table):
            rows(connection, *widen(table, k))
            found = rows(connection, self._statements.nearest(table, filters), asked_for)
            if len(found) < k and len(found) < rows(connection, self._statements.matches(filters), [*values, k])[0][0]:
                found = rows(connection, self._statements.nearest(table, filters, exactly=True), asked_for)
            return candidates(table, found)

    def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Rows by id.

        Raises:
            StoreError: PostgreSQL refuses.
        """
        wanted = [id_ for id_ in dict.fromkeys(ids) if _is_storable(id_)]
        if not wanted:
            return {}
        try:
            records = self._of_ids(wanted)
        except StoreError as error:
            if not isinstance(error.__cause__, DataError):
                raise
            # An id that is not one of the column's type is not stored; the others are looked up without its index.
            records = self._of_ids(wanted, as_text=True)
        known = set(wanted)
        return {str(record.id): record for record in records if record.id in known}

    def _of_ids(self, ids: list[str], *, as_text: bool = False) -> list[Candidate]:
        filters, values = self._statements.filters()
        with self._asked("get") as (connection, table):
            statement = self._statements.of_ids(table, filters, as_text=as_text)
            return candidates(table, rows(connection, statement, [*values, ids]))

    def sample(self) -> list[Candidate]:
        """The first rows that have a vector.

        Raises:
            StoreError: PostgreSQL refuses.
        """
        filters, values = self._statements.filters()
        with self._asked("sample") as (connection, table):
            statement = self._statements.some(table, filters)
            return candidates(table, rows(connection, statement, [*values, SAMPLE_RECORDS]))

    def upsert(self, records: Sequence[Candidate]) -> None:
        """Write rows in one transaction, all or none; what is stored under an id is replaced.

        Args:
            records: Each with an id of its own and a vector, all of the column's width. Metadata must be JSON.

        Raises:
            InputError: a record without id or vector, or an id twice.
            VectorError: a vector of another width than the first, not finite, or of length zero.
            StoreError: the table is shared by several collections, the connection is within a transaction, or
                PostgreSQL refuses. A record that it cannot keep is named: one with NUL or a lone surrogate in id, text
                or metadata, or with an id of more than some 2,700 bytes.
        """
        if self._statements.only:
            raise StoreError("several collections share this table; write to it with what made it")
        expect_records(records)
        if not records:
            return
        try:
            self._write(records)
        except StoreError as error:
            if isinstance(error.__cause__, _OF_ONE_RECORD):
                self._expect_storable(records)
            raise

    def _write(self, records: Sequence[Candidate]) -> None:
        # In one order, so that two writers of the same ids wait for each other rather than in a circle.
        ordered = sorted(records, key=lambda record: str(record.id))
        with self._asked("upsert", writing=True) as (connection, table), connection.cursor() as cursor:
            cursor.executemany(self._statements.upsert(table), map(self._statements.row, ordered))

    def _expect_storable(self, records: Sequence[Candidate]) -> None:
        """Write each by itself, and take it back, to name the first that cannot be kept."""
        for record in records:
            try:
                with self._asked("upsert") as (connection, table):
                    rows(connection, self._statements.upsert(table), self._statements.row(record))
            except StoreError as error:
                raise StoreError(f"record {record.id!r:.100}: {error}") from error.__cause__

    def count(self) -> int:
        """How many rows there are.

        Raises:
            StoreError: PostgreSQL refuses.
        """
        filters, values = self._statements.filters()
        with asked(self._source, "count") as connection:
            return int(rows(connection, self._statements.count(filters), values)[0][0])

    def close(self) -> None:
        """Close the connection that was made of an address; a pool or a connection that was given stays open."""
        if isinstance(self._source, Address):
            self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _asked(self, what: str, *, writing: bool = False) -> Iterator[tuple[psycopg.Connection[Any], Table]]:
        """A transaction, and the table as it is in it: another may have been made under its name since."""
        try:
            with asked(self._source, what, writing=writing) as connection:
                table = self._seen = self._found(connection)
                yield connection, table
        except BaseException:
            self._seen = self._server = None  # whatever is there next is looked at anew
            raise

    def _found(self, connection: psycopg.Connection[Any]) -> Table:
        names = self._statements
        table = find_table(connection, names.quoted, names.columns)
        if table is None:
            raise StoreError(
                f"there is no table {names.quoted} with columns {names.columns.id!r} and {names.columns.vector!r}; "
                f"check schema and columns, or make it with PgVectorStore.create"
            )
        return table

    def _table(self) -> Table:
        seen = self._seen
        if seen is None:
            with self._asked("find the table") as (_, seen):
                pass
        return seen


def _is_storable(id_: str) -> bool:
    """Whether there may be a row of this id: text of PostgreSQL holds neither NUL nor lone surrogates."""
    return "\0" not in id_ and id_.encode(errors="ignore").decode() == id_
