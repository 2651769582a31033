"""Writing result files whole or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from e2rank_integrations.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file beside `path` to write into; it takes the place of `path` when all went well, else it is removed.

    Raises:
        InputError: the folder cannot be written to.
    """
    part = _part_of(path)
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({type(error).__name__})") from error
    finally:
        part.unlink(missing_ok=True)


def expect_writable(path: Path) -> None:
    """Make the folder of a result file and try it, before the work that the result needs.

    Raises:
        InputError: the folder cannot be written to, or a folder is where the file should be.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a file to write, found a folder")
    _part_of(path).unlink()


def _part_of(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid4().hex}.part")
        part.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({type(error).__name__})") from error
    return part
