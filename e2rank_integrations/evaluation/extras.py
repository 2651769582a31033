"""The libraries of the `evaluation` extra, imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from e2rank_integrations.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

_PACKAGES = {
    "Stemmer": "PyStemmer",
    "bm25s": "bm25s",
    "ir_measures": "ir-measures",
    "matplotlib": "matplotlib",
    "rich": "rich",
}


def require(module: str) -> ModuleType:
    """Import a module of the extra, such as `bm25s` or `rich.table`.

    Raises:
        MissingExtraError: it is not installed.
    """
    top = module.partition(".")[0]
    try:
        import_module(top)
    except ModuleNotFoundError as error:
        if error.name != top:
            raise
        raise MissingExtraError(_PACKAGES[top], "evaluation") from error
    return import_module(module)
