"""What decides a document's vector."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self

    from e2rank_integrations.profiles import Pooling


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What decides a document's vector, kept beside an index so that another model's vectors are found out.

    Attributes:
        model: Name of the checkpoint; for messages only, it is not compared.
        weights: Digest of its files; None where an engine elsewhere embeds, whose weights are not known.
        adapter: Digest of the adapter's files, or None.
        pooling: How a sequence becomes one vector.
        document_format: The document's frame.
        document_cap: Tokens of a document's embedding.
        document_words: Words kept of a document, or None for all.
    """

    model: str
    weights: str | None
    adapter: str | None
    pooling: Pooling
    document_format: str
    document_cap: int
    document_words: int | None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is no fingerprint of this version.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError("not a fingerprint of this version") from error

    def differences(self, other: Fingerprint) -> list[str]:
        """Names of the attributes in which two embeddings differ; weights that one does not know are not compared."""
        names = [name for name in self._facts() if getattr(self, name) != getattr(other, name)]
        return [name for name in names if name != "weights" or self.knows_weights_of(other)]

    def knows_weights_of(self, other: Fingerprint) -> bool:
        """Whether both say which weights they are, so that no difference means the same vectors."""
        return self.weights is not None and other.weights is not None

    def digest(self, elsewhere: str | None = None) -> bytes:
        """SHA-256 that tells vectors of other embeddings apart in a cache.

        Args:
            elsewhere: Where the weights are, if they are not known.
        """
        facts = self._facts() if elsewhere is None else {**asdict(self), "elsewhere": elsewhere}
        return sha256(json.dumps(facts, sort_keys=True).encode()).digest()

    def _facts(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "model"}
