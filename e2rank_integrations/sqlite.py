"""What the package's SQLite files have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

_KEYS = 500  # of one query; SQLite's own limit was 999 once


def select_in(connection: sqlite3.Connection, query: str, keys: Sequence[object]) -> Iterator[tuple[Any, ...]]:
    """Rows of a query that ends in `IN`, for any number of keys."""
    for start in range(0, len(keys), _KEYS):
        some = keys[start : start + _KEYS]
        yield from connection.execute(f"{query} ({', '.join('?' * len(some))})", some)
