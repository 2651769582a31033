"""Document vectors in a file, shared by processes and kept between runs."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from e2rank_integrations.caches.base import packed, unpacked
from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.sqlite import select_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from e2rank_integrations.values import Vector

FILE = "document_vectors.sqlite"
"""Name of the file in the cache's folder; SQLite keeps two more beside it while it is in use."""

_APPLICATION = 0x45325243  # "E2RC" in the file's header: whose database it is
_PATIENCE = 10.0  # seconds to wait for another process that writes

# What is wrong with the file, rather than with the moment.
_UNUSABLE = {
    sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH,
}  # fmt: skip


class DiskCache:
    """Keeps document vectors in an SQLite file, for this process, others, and later ones.

    It is made on first use, in a folder that only its owner can read, and grows without a bound until `clear()`. The
    file holds hashes and vectors and no text. But vectors can be turned back into text in part: protect it as you
    protect the index. The folder must be on a disk of this machine, since SQLite shares no file over a network.

    A copy or a pickled one uses the same file; two of the same folder are equal.

    Args:
        folder: Where the file is; made if it is not there.

    Raises:
        InputError: `folder` is no path.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise InputError(f"folder: expected a path, found {type(folder).__name__}")
        self.folder = Path(folder).expanduser().absolute()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closing: weakref.finalize[[], DiskCache] | None = None
        self._opened: tuple[int, int] | None = None
        with _forking:
            _caches.add(self)

    @property
    def file(self) -> Path:
        """The database."""
        return self.folder / FILE

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def __eq__(self, other: object) -> bool:
        return self.folder == other.folder if isinstance(other, DiskCache) else NotImplemented

    def __hash__(self) -> int:
        return hash((DiskCache, self.folder))

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.folder,)

    def __len__(self) -> int:
        with self._connected() as connection:
            (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
        return int(count)

    def get(self, keys: Sequence[bytes]) -> list[Vector | None]:
        """The vector of each key, or None where none is kept or its row is damaged.

        Raises:
            StoreError: the file is no cache, or cannot be opened.
            OSError: it cannot be read now.
        """
        with self._connected() as connection:
            found = dict(select_in(connection, "SELECT key, vector FROM vectors WHERE key IN", keys))
        return [unpacked(found.get(key)) for key in keys]

    def put(self, items: Mapping[bytes, Vector]) -> None:
        """Keep vectors, all of them or none.

        Raises:
            StoreError: the file is no cache, or cannot be opened.
            OSError: it cannot be written now.
        """
        rows = [(key, packed(vector)) for key, vector in items.items()]
        with self._connected() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

    def clear(self) -> None:
        """Forget all vectors, and make the file small.

        Raises:
            StoreError: the file is no cache, or cannot be opened.
            OSError: it cannot be written now.
        """
        with self._connected() as connection:
            with connection:
                connection.execute("DELETE FROM vectors")
            connection.execute("VACUUM")  # the deleted rows would stay readable in the file
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close this process's connection; the next call opens another."""
        with self._lock:
            self._drop()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """This process's connection, for one thread at a time; after a failure the next call opens another."""
        with self._lock:
            try:
                yield self._current()
            except sqlite3.Error as error:
                self._drop()
                raise OSError(f"{self.file}: {error}") from error

    def _current(self) -> sqlite3.Connection:
        if self._connection is None or self._opened != _identity(self.file):  # the file was deleted meanwhile
            self._drop()
            self._connection = _opened(self.file)
            self._closing = weakref.finalize(self, self._connection.close)
            self._opened = _identity(self.file)
        return self._connection

    def _drop(self) -> None:
        if self._closing is not None:
            self._closing()
        self._connection, self._closing = None, None

    def _before_fork(self) -> None:
        self._lock.acquire()
        self._drop()

    def _after_fork(self) -> None:
        self._lock.release()


# SQLite must not be carried through a fork: a child would believe in file locks that it does not hold. So all
# connections are closed for that moment, and parent and child open their own when they need one.
_forking = threading.Lock()
_caches: weakref.WeakSet[DiskCache] = weakref.WeakSet()
_closed: list[DiskCache] = []


def _before_fork() -> None:
    _forking.acquire()
    _closed.extend(_caches)
    for cache in _closed:
        cache._before_fork()  # noqa: SLF001 - this module's own


def _after_fork() -> None:
    while _closed:
        _closed.pop()._after_fork()  # noqa: SLF001 - this module's own
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def _identity(file: Path) -> tuple[int, int] | None:
    """What tells a file from another one of the same name; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _opened(file: Path) -> sqlite3.Connection:
    """A connection to a cache's file, which is made if there is none."""
    connection = None
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite's other files take its mode
        connection = sqlite3.connect(file, timeout=_PATIENCE, check_same_thread=False)
        _prepare(connection, file)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if _is_unusable(error):
            raise StoreError(f"{file}: it cannot be used as a cache of vectors ({error}); {_NEXT_STEP}") from error
        raise
    return connection


_NEXT_STEP = "delete the file, whose vectors are then computed again, or give DiskCache another folder"


def _is_unusable(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNUSABLE  # the rest of the code says more exactly why
    return isinstance(error, OSError)


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    """Make the table, unless it is there; touch no database of another program."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION and (application or tables):
            raise StoreError(f"{file}: it is the database of another program; give DiskCache another folder")
        connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    with suppress(sqlite3.OperationalError):  # another process is at it; whoever opens the file next will do it
        connection.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last vectors, never the file
