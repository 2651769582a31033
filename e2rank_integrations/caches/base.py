"""What a cache of document vectors is: keys that tell nothing, and float32 rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from e2rank_integrations.values import Vector

KEY_BYTES = 32
"""Length of a key: a SHA-256 of the model's fingerprint and the document's token ids."""

_NUMBER = np.dtype("<f4")  # whatever the machine, so that a file may travel


@runtime_checkable
class DocumentCache(Protocol):
    """Keeps document vectors. Safe to share between threads, encoders and frameworks.

    It is given no text: a key is a hash, a value a vector. What it loses, or gives back damaged, is computed again.
    A `StoreError` says that it cannot be used as it is set up, and is raised to the user before anything is embedded;
    any other failure is logged, and the vectors are computed.
    """

    def get(self, keys: Sequence[bytes]) -> list[Vector | None]:
        """The vector of each key, or None where none is kept; float32, not to be written to."""
        ...

    def put(self, items: Mapping[bytes, Vector]) -> None:
        """Keep vectors, shape (width,), float32, by their keys; one that is there is replaced."""
        ...

    def clear(self) -> None:
        """Forget all vectors."""
        ...

    def close(self) -> None:
        """Give back connections, and keep the vectors; the next call takes them again."""
        ...


def packed(vector: Vector) -> bytes:
    """A vector as little-endian float32."""
    return np.asarray(vector, dtype=_NUMBER).tobytes()


def unpacked(data: object) -> Vector | None:
    """What `packed` wrote, as an array that nobody can write to; None where it cannot have been written by it."""
    if not isinstance(data, bytes) or not data or len(data) % _NUMBER.itemsize:
        return None
    row: Vector = np.frombuffer(data, dtype=_NUMBER).astype(np.float32, copy=False)
    row.flags.writeable = False  # as it is already, unless this machine's numbers are the other way round
    return row
