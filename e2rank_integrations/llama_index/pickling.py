"""Pickling a component without harm to it."""

from __future__ import annotations

from typing import Any

from llama_index.core.schema import BaseComponent


class SafelyPickled(BaseComponent):
    """LlamaIndex leaves out what cannot be pickled, and deletes it from the very object; here from a copy."""

    def __getstate__(self) -> dict[str, Any]:
        return BaseComponent.__getstate__(self.model_copy())
