"""Connections to PostgreSQL, transactions on them, and what their failures become."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from e2rank_integrations.errors import E2RankError, InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager


class Connections(Protocol):
    """What a `psycopg_pool.ConnectionPool` is."""

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """Lend a connection that nobody else uses meanwhile."""
        ...


@dataclass(slots=True)
class _Process:
    """What one process has of an address: forked processes must not share a socket, nor a lock held at the fork."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    connection: psycopg.Connection[Any] | None = None


class Address:
    """One connection of our own for all threads, one at a time; made again when lost, and in a forked process."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        # A child keeps its parent's entry, so that the parent's connection is not closed as garbage.
        self._processes: dict[int, _Process] = {}

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend it, when no other thread has it."""
        ours = self._ours()
        with ours.lock:
            if ours.connection is None or ours.connection.closed:
                # Nothing is prepared: behind a pooler such as PgBouncer the next transaction has another session.
                ours.connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
            yield ours.connection

    def close(self) -> None:
        """Close this process's connection."""
        ours = self._ours()
        with ours.lock:
            if ours.connection is not None:
                ours.connection.close()

    def _ours(self) -> _Process:
        return self._processes.setdefault(os.getpid(), _Process())


class Given:
    """A connection that somebody else made, for all threads of this process, one at a time."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._process = os.getpid()
        self._lock = threading.Lock()

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend it, when no other thread has it.

        Raises:
            StoreError: this process was forked from the one it was given in.
        """
        if os.getpid() != self._process:
            raise StoreError(
                "this store was given a connection in another process, and two processes cannot share one; "
                "give it an address, or make connection and store in each process"
            )
        with self._lock:
            yield self._connection


def source(connection: str | Connections | psycopg.Connection[Any]) -> Connections:
    """What lends connections.

    Raises:
        InputError: it is none of the three.
    """
    if isinstance(connection, str):
        return Address(connection)
    if isinstance(connection, psycopg.Connection):
        return Given(connection)
    if not hasattr(connection, "connection"):
        raise InputError(
            f"connection: expected an address, a psycopg connection or a pool, found {type(connection).__name__}"
        )
    return connection


@contextmanager
def asked(lender: Connections, what: str, *, writing: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """A transaction: rolled back in the end, settings and all, unless it writes.

    Raises:
        StoreError: PostgreSQL fails, or it is to be written within a transaction of the caller's.
    """
    try:
        with lender.connection() as connection:
            if writing:
                _expect_idle(connection, what)
            with connection.transaction(force_rollback=not writing):
                yield connection
    except E2RankError:
        raise
    except (psycopg.Error, OSError, TypeError, ValueError) as error:
        # Not PostgreSQL's own message, which may repeat a value or an address.
        state = getattr(error, "sqlstate", None)
        raise StoreError(
            f"PostgreSQL failed to {what} ({type(error).__name__}{f', {state}' if state else ''}); the error that "
            f"caused this one says why; a connection that was lost is made again by the next call, unless it was "
            f"given ready-made"
        ) from error


def rows(
    connection: psycopg.Connection[Any], statement: sql.SQL | sql.Composed, values: Sequence[Any] = ()
) -> list[tuple[Any, ...]]:
    """What a statement gives; a `%` that is no placeholder must be doubled in it, also where there are no values."""
    # Never prepared: a plan that is kept would not heed the settings of the transaction.
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        cursor.execute(statement, values, prepare=False)
        return cursor.fetchall() if cursor.description else []


def _expect_idle(connection: psycopg.Connection[Any], what: str) -> None:
    if connection.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
        raise StoreError(
            f"cannot {what} within a transaction that was begun on this connection, since nothing would be stored "
            f"before it is committed; commit or roll it back first, or give the store an address of its own"
        )
