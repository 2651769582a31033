"""The libraries of the `evaluation` extra, imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from e2rank_integrations.errors import MissingExtraError

_PACKAGES = {"Stemmer": "PyStemmer", "bm25s": "bm25s", "ir_measures": "ir-measures", "rich": "rich"}


def require(module: str) -> Any:
    """Import a module of the extra, such as `bm25s` or `rich.table`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name != top:
            raise
        raise MissingExtraError(_PACKAGES[top], "evaluation") from error
