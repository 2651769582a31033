"""Whether an index holds this model's vectors: by its saved fingerprint, else by embedding a few records again."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from e2rank_integrations.errors import StoreError, StoreMismatchError
from e2rank_integrations.fingerprint import Fingerprint
from e2rank_integrations.slate import unit

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.stores.base import VectorStore
    from e2rank_integrations.values import Candidate, Vector

    _Key = tuple[Hashable, Fingerprint, str | None]

FINGERPRINT_KEY = "e2rank_fingerprint"
"""Collection metadata key of the fingerprint."""

LEAST_COSINE = 0.999
"""Of a stored vector to the same text embedded again; bfloat16 against float32 gives .9998."""

SPOT_CHECKED = 3
"""Records that are embedded again, the longest ones: a long text shows another cap, too."""

_REMEMBERED = 4096  # checks, before all are forgotten and made again: stores come and go in a long process

_locks: dict[_Key, threading.Lock] = {}
_checked: set[_Key] = set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_locks.clear)  # another thread of the parent may have held one


def expect_same_embedding(store: VectorStore, encoder: E2RankEncoder, found: Sequence[Candidate] = ()) -> None:
    """Refuse an index that another model, adapter, pooling, format or cap made.

    A saved fingerprint is compared. Without one, or where the weights of one or the other are on a server and so not
    known, a few stored records, the longest among them, are embedded again, once per process.

    Args:
        store: The index.
        encoder: The model that is to read it.
        found: Records of a search, for a store that cannot show a sample.

    Raises:
        StoreMismatchError: the vectors are not this encoder's.
    """
    text = store.fingerprint
    if text is not None:
        saved = _parsed(text)
        _expect_same_fingerprint(saved, encoder.fingerprint)
        if saved.knows_weights_of(encoder.fingerprint):
            return
    spot_check(store.identity, encoder, lambda: store.sample() or found)


def spot_check(identity: Hashable, encoder: E2RankEncoder, records: Callable[[], Sequence[Candidate]]) -> None:
    """Embed a few records again and compare, once per process.

    Args:
        identity: Where the records come from.
        encoder: The model that should have made their vectors.
        records: Gives them, if they are to be checked.

    Raises:
        StoreMismatchError: the vectors are not this encoder's.
    """
    key = (identity, encoder.fingerprint, encoder.elsewhere)
    if key in _checked:
        return
    with _locks.setdefault(key, threading.Lock()):  # threads that come at once wait for one check
        if key not in _checked and _agree(records(), encoder):
            _remember(key)


def _remember(key: _Key) -> None:
    if len(_checked) >= _REMEMBERED:
        _checked.clear()
        _locks.clear()
    _checked.add(key)


def _parsed(saved: str) -> Fingerprint:
    try:
        return Fingerprint.from_json(saved)
    except ValueError as error:
        raise StoreError(
            f"the collection's {FINGERPRINT_KEY!r} is not one that this version wrote; save it again"
        ) from error


def _expect_same_fingerprint(saved: Fingerprint, ours: Fingerprint) -> None:
    names = ours.differences(saved)
    if names:
        found = ", ".join(f"{name} {getattr(saved, name)!r} (here {getattr(ours, name)!r})" for name in names)
        raise StoreMismatchError(
            f"the index was made by {saved.model!r} and this encoder is {ours.model!r}; they differ in {found}; "
            f"use the encoder that made the index, or index again"
        )


def _agree(records: Sequence[Candidate], encoder: E2RankEncoder) -> bool:
    """Embed records again and compare; False where there is nothing to compare."""
    records = [record for record in records if record.vector is not None and record.text]
    records = sorted(records, key=lambda record: len(record.text), reverse=True)[:SPOT_CHECKED]
    for record in records:
        _expect_width(record, encoder.width)
    vectors = encoder.encode_documents([record.text for record in records])
    for record, vector in zip(records, vectors, strict=True):
        _expect_close(record, vector)
    return bool(records)


def _expect_width(record: Candidate, width: int) -> None:
    try:
        shape = np.shape(record.vector)  # type: ignore[arg-type]  # not None here
    except ValueError:  # rows of several lengths
        shape = ()
    if len(shape) == 1 and shape[0] != width:
        raise StoreMismatchError(
            f"record {record.id!r}: its vector has width {shape[0]}, and this model's have {width}; "
            f"use the encoder that made the index, or index again"
        )


def _expect_close(record: Candidate, vector: Vector) -> None:
    stored = unit(record.vector, len(vector), f"record {record.id!r}")  # type: ignore[arg-type]  # not None here
    cosine = float(stored @ vector)
    if cosine < LEAST_COSINE:
        raise StoreMismatchError(
            f"record {record.id!r}: its stored vector has cosine {cosine:.3f} to this model's embedding of its text, "
            f"expected at least {LEAST_COSINE}; it was made by another model or with other settings, or of another "
            f"text (changed since, or, as LlamaIndex does, with metadata): use what made the index, or index again"
        )
