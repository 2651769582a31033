"""A corpus: a file of JSON lines, a Parquet file, or a folder of text files; in parts that can each be read alone."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from e2rank_integrations.errors import InputError
from e2rank_integrations.evaluation.collection import json_object
from e2rank_integrations.indexing.rows import Fields, Row, RowError, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

TEXT_FILES = (".txt", ".md")
"""Endings of the files of a folder that are documents."""

_FILES_OF_ROWS = (".parquet", ".jsonl")
_LINES_FOR_NAMES = 1000
_OF_ONE_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}
"""Why a file cannot be read, today and tomorrow; other faults are the disk's or the process's, and may pass."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows that follow each other.

    Attributes:
        number: Of the part in the corpus, from 0.
        first: Position of its first row.
        rows: How many.
        place: Where they begin, as its source counts: a byte, a row group and a row in it, a file.
    """

    number: int
    first: int
    rows: int
    place: tuple[int, ...]


class Source(Protocol):
    """A corpus. May be pickled, to be read by other processes that see the same files."""

    @property
    def path(self) -> Path:
        """The file or the folder."""
        ...

    @property
    def identity(self) -> str:
        """Which corpus this is, and in which state; another one after a change."""
        ...

    @property
    def settings(self) -> str:
        """What else decides its rows: the names of their fields."""
        ...

    @property
    def names(self) -> list[str]:
        """Names of a row's fields, for messages."""
        ...

    @property
    def rows(self) -> int | None:
        """How many there are; None where only reading them all would tell."""
        ...

    def parts(self, rows: int) -> Iterator[Part]:
        """All parts in order, each of up to `rows` rows.

        Raises:
            InputError: the corpus cannot be read.
        """
        ...

    def read(self, part: Part) -> Iterator[Row | RowError]:
        """The rows of a part, in order.

        Raises:
            InputError: the corpus cannot be read.
        """
        ...


def open_source(path: Path, fields: Fields | None = None) -> Source:
    """The corpus under a path: a folder of text files, a `.parquet` file, or else a file of JSON lines.

    Raises:
        InputError: nothing is there, or it is not what its name says.
    """
    fields, path = fields or Fields(), path.absolute()  # other processes have other working directories
    with _faults_of(path):
        is_folder, is_file = path.is_dir(), path.is_file()
    if is_folder:
        if fields != Fields():
            raise InputError(f"{path}: a folder has no fields; leave out --id-field, --text-field and --title-field")
        return FolderSource(path)
    if not is_file:
        raise InputError(f"{path}: no such file or folder; give a JSONL file, a .parquet file or a folder of texts")
    if path.suffix.lower() == ".parquet":
        from e2rank_integrations.indexing.parquet import ParquetSource

        return ParquetSource(path, fields)
    return JsonLines(path, fields)


@dataclass(frozen=True)
class JsonLines:
    """A file with a JSON object on each line, as BEIR's `corpus.jsonl`; positions are those of the lines."""

    path: Path
    fields: Fields = field(default_factory=Fields)

    @property
    def identity(self) -> str:
        """Path, size and time of the last change."""
        return file_identity(self.path)

    @property
    def settings(self) -> str:
        """The names of a row's fields."""
        return repr(self.fields)

    @property
    def names(self) -> list[str]:
        """Those of the first line that is an object, if it comes soon."""
        with opened(self.path) as file:
            for line in islice(file, _LINES_FOR_NAMES):
                try:
                    return list(json_object(line.decode("utf-8-sig")))
                except ValueError:  # and InputError
                    continue
        return []

    @property
    def rows(self) -> int | None:
        """Nobody knows."""
        return None

    def parts(self, rows: int) -> Iterator[Part]:
        """See `Source.parts`; a part's rows are its lines, blank ones included."""
        number, first, place = 0, 1, 0
        with opened(self.path) as file:
            while count := sum(1 for _ in islice(file, rows)):
                yield Part(number, first, count, (place,))
                number, first, place = number + 1, first + count, file.tell()

    def read(self, part: Part) -> Iterator[Row | RowError]:
        """See `Source.read`; blank lines are no rows."""
        with opened(self.path) as file:
            file.seek(part.place[0])
            for position, line in enumerate(islice(file, part.rows), start=part.first):
                if line.strip():
                    yield self._row(position, line)

    def _row(self, position: int, line: bytes) -> Row | RowError:
        try:
            text = line.decode("utf-8-sig" if position == 1 else "utf-8")
        except UnicodeDecodeError as error:
            return RowError(position, None, f"expected UTF-8, found byte 0x{line[error.start]:02X}")
        try:
            return row_of(position, json_object(text), self.fields)
        except InputError as error:
            return RowError(position, None, str(error))


@dataclass(frozen=True)
class FolderSource:
    """The text files of a folder and its subfolders; a file's id is its path in the folder. In the paths' order.

    Those whose names begin with a dot are left out, folders too. A link to a folder is not followed; it is a row that
    cannot be used, and so is a link that leads nowhere.
    """

    path: Path

    @property
    def identity(self) -> str:
        """Path, number of files, and a digest of their names, sizes and times of the last change."""
        files = self._found()
        digest = hashlib.sha256()
        for name in files:
            digest.update(f"{name!r} {_state(self.path / name)!r}\n".encode())  # escaped: maybe no UTF-8
        return f"{self.path.resolve()}, {len(files)} files, {digest.hexdigest()}"

    @property
    def settings(self) -> str:
        """Which files are rows."""
        return " ".join(TEXT_FILES)

    @property
    def names(self) -> list[str]:
        """A file has none."""
        return []

    @property
    def rows(self) -> int:
        """Its files."""
        return len(self._files)

    @cached_property
    def _files(self) -> list[str]:
        return self._found()

    def _found(self) -> list[str]:
        found = list(_visible(self.path))
        files = [path for path in found if _is_row(path)]
        if not files:
            tables = sorted({path.suffix for path in found if path.suffix.lower() in _FILES_OF_ROWS})
            hint = f"; it holds {' and '.join(tables)} files: give them one at a time" if tables else ""
            raise InputError(f"{self.path}: expected files that end in {' or '.join(TEXT_FILES)}, found none{hint}")
        return sorted(path.relative_to(self.path).as_posix() for path in files)

    def parts(self, rows: int) -> Iterator[Part]:
        """See `Source.parts`."""
        for number, start in enumerate(range(0, len(self._files), rows)):
            yield Part(number, start + 1, min(rows, len(self._files) - start), (start,))

    def read(self, part: Part) -> Iterator[Row | RowError]:
        """See `Source.read`."""
        (start,) = part.place
        for position, name in enumerate(self._files[start : start + part.rows], start=part.first):
            yield self._row(position, name)

    def _row(self, position: int, name: str) -> Row | RowError:
        shown = name.encode(errors="backslashreplace").decode()
        if shown != name:
            return RowError(position, shown, "the file's name is not UTF-8; rename it")
        if _kind(self.path / name) == stat.S_IFDIR:
            return RowError(position, name, "a link to a folder is not followed; index that folder by itself")
        try:
            text = (self.path / name).read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return RowError(position, name, f"expected UTF-8, found byte 0x{error.object[error.start]:02X}")
        except OSError as error:
            if error.errno not in _OF_ONE_FILE:
                raise _unreadable(self.path / name, error) from error
            return RowError(position, name, f"the file cannot be read ({type(error).__name__})")
        if not text.strip():
            return RowError(position, name, "the file is blank")
        return row_of(position, {"path": name, "text": text}, Fields(id="path"))


def _visible(folder: Path) -> Iterator[Path]:
    """The files in a folder and below it, and links to folders; without what is hidden."""
    for place, folders, files in os.walk(folder, onerror=_stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in (*files, *links) if not name.startswith("."))


def _is_row(path: Path) -> bool:
    """Whether a path of `_visible` is a text, or one of those that are listed with what is wrong."""
    kind = _kind(path)
    return kind in {None, stat.S_IFDIR} or (kind == stat.S_IFREG and path.suffix.lower() in TEXT_FILES)


def _kind(path: Path) -> int | None:
    """What is there, links followed; None for a link that leads nowhere, and for what is out of reach."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return None


def _state(path: Path) -> str | None:
    return None if _kind(path) is None else file_identity(path)


def _stop(error: OSError) -> None:
    raise _unreadable(Path(str(error.filename)), error) from error


def file_identity(path: Path) -> str:
    """Path, size and time of the last change of a file.

    Raises:
        InputError: it is not there.
    """
    with _faults_of(path):
        found = path.stat()
    return f"{path.resolve()}, {found.st_size} bytes, changed at {found.st_mtime_ns} ns"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read, whose faults are said as `InputError`."""
    with _faults_of(path), path.open("rb") as file:
        yield file


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({type(error).__name__})")
