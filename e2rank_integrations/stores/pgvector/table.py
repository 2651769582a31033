"""A table with vectors: its columns, what the catalog says of it, and what its types can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from e2rank_integrations.errors import StoreError
from e2rank_integrations.stores.pgvector.connections import rows
from e2rank_integrations.stores.trust import FINGERPRINT_KEY

if TYPE_CHECKING:
    import psycopg

MOST_INDEXED = {"vector": 2000, "halfvec": 4000}
"""Dimensions that an HNSW index of pgvector takes, by the type of the column."""

MOST_STORED = 16_000
"""Dimensions that a column of either type takes without an index."""

_LAYOUT = sql.SQL("""
SELECT d.oid, c.oid, t.typname, format_type(i.atttypid, -1), col_description(c.oid, a.attnum),
       (SELECT extversion FROM pg_extension WHERE extname = 'vector')
FROM pg_class c
JOIN pg_database d ON d.datname = current_database()
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %s
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_attribute i ON i.attrelid = c.oid AND i.attname = %s
WHERE c.oid = to_regclass(%s)
""")
_MAY_ASK = sql.SQL("SELECT has_function_privilege(to_regprocedure('pg_control_system()'), 'EXECUTE')")


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
class Table:
    """What the catalog says of a table.

    Attributes:
        database: The database's number.
        number: The table's number, which a table made anew under its name does not have.
        vector_type: A key of `MOST_INDEXED`.
        id_type: Of the column of ids, without its length.
        comment: On the column of vectors.
        version: pgvector's.
    """

    database: int
    number: int
    vector_type: str
    id_type: str
    comment: str
    version: tuple[int, ...]

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint in the comment."""
        lines = _fingerprint_lines(self.comment)
        return lines[0].removeprefix(FINGERPRINT_KEY).strip() if lines else None


def find_table(connection: psycopg.Connection[Any], name: str, columns: Columns) -> Table | None:
    """Look a table up.

    Args:
        connection: To the database.
        name: As SQL has it, quoted, with a schema or without.
        columns: Which it must have.

    Returns:
        None where there is no such table with such columns.

    Raises:
        StoreError: its column of vectors is of another type.
    """
    found = rows(connection, _LAYOUT, [columns.vector, columns.id, name])
    if not found:
        return None
    database, number, kind, id_type, comment, version = found[0]
    if kind not in MOST_INDEXED:
        raise StoreError(f"column {columns.vector!r}: expected type vector or halfvec, found {kind}")
    return Table(database, number, kind, id_type, comment or "", _version(version))


def server_name(connection: psycopg.Connection[Any]) -> str:
    """What tells a server's data from another's, also after a restart: its system identifier, if it may be asked."""
    if rows(connection, _MAY_ASK)[0][0]:
        return str(rows(connection, sql.SQL("SELECT system_identifier FROM pg_control_system()"))[0][0])
    return str(rows(connection, sql.SQL("SELECT current_database()::text"))[0][0])


def commented(comment: str, fingerprint: str) -> str:
    """A comment with this fingerprint in its last line, instead of any other."""
    ours = _fingerprint_lines(comment)
    kept = [line for line in comment.splitlines() if line not in ours]
    return "\n".join([*kept, f"{FINGERPRINT_KEY} {' '.join(fingerprint.splitlines())}"])


def vector_type(width: int, *, half: bool | None, index: bool) -> str:
    """The type for vectors of a width.

    Raises:
        StoreError: they are too wide for the index, or for a column.
    """
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


def _fingerprint_lines(comment: str) -> list[str]:
    return [line for line in comment.splitlines() if line.startswith(f"{FINGERPRINT_KEY} ")]


def _version(text: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (text or "0").split(".") if part.isdecimal())
