"""PostgreSQL with pgvector: the vectors come with the rows of the search."""

from __future__ import annotations

from e2rank_integrations.errors import MissingExtraError

try:
    import pgvector  # noqa: F401 - to say which extra is missing before anything else fails
    import psycopg  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError("psycopg or pgvector", "pgvector") from error
except ImportError as error:  # psycopg is there, but PostgreSQL's client library is not
    raise MissingExtraError("'psycopg[binary]'") from error

from e2rank_integrations.stores.pgvector.connections import Connections
from e2rank_integrations.stores.pgvector.store import PgVectorStore
from e2rank_integrations.stores.pgvector.table import MOST_INDEXED, MOST_STORED, Columns

__all__ = ["MOST_INDEXED", "MOST_STORED", "Columns", "Connections", "PgVectorStore"]
