"""What the LlamaIndex components have in common."""

from __future__ import annotations

import pickle
from typing import Any

from llama_index.core.schema import BaseComponent
from pydantic import Field

from e2rank_integrations.components import ModelFields


class Component(ModelFields, BaseComponent):
    """A LlamaIndex component over the encoder."""

    device: str = Field(default="auto", exclude=True)
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`; left out when serialised, since the same vectors come from any."""

    def __getstate__(self) -> dict[str, Any]:
        """LlamaIndex leaves out what cannot be pickled, and deletes it from the very object: here from a copy.

        An engine or a cache of the caller's own must not stay behind: the copy would have an encoder made anew.
        """
        if self.encoder.custom_engine is not None or self.document_cache is not None:
            pickle.dumps(self.encoder)
        return BaseComponent.__getstate__(self._to_pickle())

    def _to_pickle(self) -> BaseComponent:
        return self.model_copy()
