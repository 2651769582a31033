"""Embedding a collection's documents once, with progress, and keeping the vectors in a file if asked to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.evaluation.files import written_whole
from e2rank_integrations.evaluation.first_stage import VectorIndex
from e2rank_integrations.evaluation.progress import tracked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.evaluation.collection import Collection
    from e2rank_integrations.values import Matrix, TokenInput

_CHUNK = 64


def embed_documents(
    collection: Collection, encoder: E2RankEncoder, *, cache: str | Path | None = None, progress: bool = False
) -> VectorIndex:
    """Embed every document of a collection.

    Args:
        collection: Its documents.
        encoder: The model.
        cache: Folder for the vectors, by a hash of the embedding's fingerprint and the texts; embeddings can be
            inverted to text, so nothing is kept unless a folder is given.
        progress: Whether to show a bar on a terminal's stderr.
    """
    if cache is None:
        return VectorIndex(tuple(collection.documents), _embedded(collection, encoder, progress))
    path = Path(cache) / f"{_key(collection, encoder)}.npy"
    if not path.is_file():
        _save(path, _embedded(collection, encoder, progress))
    return VectorIndex(tuple(collection.documents), np.load(path, allow_pickle=False))


def embed_inputs(inputs: Sequence[TokenInput], encoder: E2RankEncoder, label: str, *, progress: bool = False) -> Matrix:
    """Embed many inputs, chunk by chunk behind a bar: unit rows in the order of the inputs."""
    vectors = np.empty((len(inputs), encoder.width), dtype=np.float32)
    # Neighbours in length share a forward pass, so they must share a chunk.
    order = sorted(range(len(inputs)), key=lambda row: len(inputs[row].ids))
    chunks = [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]
    for chunk in tracked(chunks, label, show=progress):
        vectors[chunk] = encoder.run([inputs[row] for row in chunk]).vectors
    return vectors


def _embedded(collection: Collection, encoder: E2RankEncoder, progress: bool) -> Matrix:
    inputs = encoder.document_inputs(list(collection.documents.values()))
    return embed_inputs(inputs, encoder, f"embedding {collection.name}", progress=progress)


def _key(collection: Collection, encoder: E2RankEncoder) -> str:
    digest = hashlib.sha256(f"{encoder.fingerprint.to_json()}\n{encoder.dtype}\n".encode())
    for text in collection.documents.values():
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:32]


def _save(path: Path, vectors: Matrix) -> None:
    with written_whole(path) as part, part.open("wb") as file:
        np.save(file, vectors)
