"""What of an indexing job is done: a file that is there again after a kill."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.fingerprint import Fingerprint
from e2rank_integrations.indexing.rows import RowError
from e2rank_integrations.sqlite import select_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_APPLICATION = 0x4532524D  # "E2RM" in the file's header: whose database it is
_VERSION = 1
_FOUND = "found"  # beside the names of the job's attributes
_PATIENCE = 1.0  # seconds to wait for another process at the same job, which is not going to end soon

_TABLES = """
CREATE TABLE job (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE parts (number INTEGER PRIMARY KEY, written INTEGER NOT NULL);
CREATE TABLE ids (id TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE errors (position INTEGER PRIMARY KEY, id TEXT, reason TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Job:
    """What an indexing job is; a manifest of another one is not gone on with.

    Attributes:
        corpus: The source's identity.
        fields: Under which names its rows have what.
        model: The encoder's fingerprint, as JSON.
        collection: The store's own identity, which another collection of the same name does not have.
        rows_per_part: Rows of a part.
    """

    corpus: str
    fields: str
    model: str
    collection: str
    rows_per_part: int

    def differences(self, other: Job) -> list[str]:
        """Names of the attributes in which two jobs differ."""
        ours, theirs = asdict(self), asdict(other)
        names = [name for name in ours if name != "model" and ours[name] != theirs[name]]
        models = Fingerprint.from_json(self.model).differences(Fingerprint.from_json(other.model))
        return [*names, "model"] if models else names


@dataclass(frozen=True, slots=True)
class Done:
    """How far a job is.

    Attributes:
        parts: Parts that are done; those are the first ones.
        written: Their rows in the store.
        errors: Their rows that could not be used.
        found: Records that were in the store when the job began.
    """

    parts: int
    written: int
    errors: int
    found: int


class Manifest:
    """Keeps what is done of one job, in a file of its own: a context manager that holds the file alone.

    It holds ids and positions, and no text. It must be on a disk of this machine.

    Args:
        path: The file; made if it is not there.

    Raises:
        StoreError: on entering: the file is another program's or damaged, or another process is at the same job.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        with _faults_of(self.path):
            self._open = _opened(self.path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._open = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            raise InputError(f"{self.path}: the manifest is closed; use it in a with statement")
        return self._open

    def start(self, job: Job, stored: int) -> Done:
        """Take up a job where it was left.

        Args:
            job: Which it is.
            stored: Records in the store now; kept where the job begins.

        Raises:
            StoreError: the manifest is another job's.
            StoreError: it cannot be read or written.
        """
        with self._transaction() as connection:
            saved = dict(connection.execute("SELECT name, value FROM job"))
            if saved:
                _expect_same(job, _job(saved, self.path), self.path)
            else:
                rows = [(name, json.dumps(value)) for name, value in {**asdict(job), _FOUND: stored}.items()]
                connection.executemany("INSERT INTO job VALUES (?, ?)", rows)
        return self.done

    def restart(self) -> None:
        """Forget everything; what is in the store stays there.

        Raises:
            StoreError: it cannot be written.
        """
        with self._transaction() as connection:
            for table in ("job", "parts", "ids", "errors"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - the names above

    @property
    def done(self) -> Done:
        """How far the job is."""
        with self._transaction() as connection:
            parts, written = connection.execute("SELECT count(*), coalesce(sum(written), 0) FROM parts").fetchone()
            (errors,) = connection.execute("SELECT count(*) FROM errors").fetchone()
            found = connection.execute("SELECT value FROM job WHERE name = ?", [_FOUND]).fetchone()
        return Done(parts, written, errors, json.loads(found[0]) if found else 0)

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """Where those of the ids that are recorded came first."""
        with self._transaction() as connection:
            return dict(select_in(connection, "SELECT id, position FROM ids WHERE id IN", ids))

    def record(self, part: int, ids: Mapping[str, int], errors: Sequence[RowError]) -> None:
        """Say that a part is done: all of it or nothing.

        Args:
            part: Its number.
            ids: Positions of the rows that are in the store now, by id.
            errors: Its other rows.

        Raises:
            StoreError: it cannot be written, or the part or one of the ids is recorded already.
        """
        with self._transaction() as connection:
            connection.execute("INSERT INTO parts VALUES (?, ?)", (part, len(ids)))
            connection.executemany("INSERT INTO ids VALUES (?, ?)", ids.items())
            rows = [(error.position, error.id, error.reason) for error in errors]
            connection.executemany("INSERT INTO errors VALUES (?, ?, ?)", rows)

    def errors(self) -> Iterator[RowError]:
        """All rows that could not be used, in order."""
        with _faults_of(self.path):
            for row in self._connection.execute("SELECT position, id, reason FROM errors ORDER BY position"):
                yield RowError(*row)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        with _faults_of(self.path), connection:
            yield connection


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=_PATIENCE)
    try:
        # Held until it is closed, or its process ends in whatever way: a job is one process's.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN EXCLUSIVE")
    with connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version) == (_APPLICATION, _VERSION):
            return
        if tables or application or version:
            raise StoreError(f"{path}: it is no manifest of this version; give another file with --manifest")
        for statement in filter(str.strip, _TABLES.split(";")):  # executescript would end the transaction
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Say what is wrong with the file as `StoreError`."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise InputError(f"{path}: the manifest is used by a thread that did not enter it, or after its end") from error
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {_what_to_do(error)}") from error
    except OSError as error:
        raise StoreError(f"{path}: the manifest cannot be opened ({type(error).__name__}); give --manifest") from error


def _what_to_do(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return "another process is at this job; wait for it, or give --manifest"
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return (
            f"it cannot be used as a manifest ({error}); give another one with --manifest, or delete the file, and "
            f"every row is embedded again; the store then holds each row once all the same"
        )
    return f"the manifest cannot be read or written ({error}); make room or mend its disk, and run the same again"


def _job(saved: Mapping[str, str], path: Path) -> Job:
    try:
        job = Job(**{name: json.loads(value) for name, value in saved.items() if name != _FOUND})
        Fingerprint.from_json(job.model)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path}: it does not say which job it is of; {_RESTART}") from error
    return job


def _expect_same(job: Job, saved: Job, path: Path) -> None:
    names = job.differences(saved)
    if names:
        found = "; ".join(f"{name} {getattr(saved, name)!r}, here {getattr(job, name)!r}" for name in names)
        raise StoreError(f"{path}: it is another job's manifest, with {found}; {_RESTART}")


_RESTART = "give --restart to begin again (what is in the store stays there), or another --manifest"
