"""A real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.postgres import new_database, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL with pgvector; its address."""
    with postgres() as address:
        yield address


@pytest.fixture(scope="module")
def database(postgres_server: str) -> Iterator[str]:
    """A database of the module's own; its address."""
    with new_database(postgres_server) as address:
        yield address
