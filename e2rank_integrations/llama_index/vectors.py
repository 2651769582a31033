"""Where the vectors of nodes come from: the node itself, the store, a callable; what is left is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2rank_integrations.llama_index.nodes import with_believed_vector
from e2rank_integrations.llama_index.stores import looked_up, lookup_of, reader
from e2rank_integrations.stores import expect_same_embedding
from e2rank_integrations.stores.base import report_stale_vectors, with_stored_vector
from e2rank_integrations.stores.identity import identity_of
from e2rank_integrations.stores.trust import spot_check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.llama_index.nodes import NodeCandidate
    from e2rank_integrations.llama_index.stores import VectorLookup
    from e2rank_integrations.values import VectorSource


def with_vectors(
    candidates: Sequence[NodeCandidate],
    encoder: E2RankEncoder,
    *,
    owner: object,
    store: object = None,
    lookup: VectorLookup | None = None,
) -> list[NodeCandidate]:
    """The candidates, each with its vector if one is to be had.

    Args:
        candidates: Without vectors.
        encoder: The model that must have made the vectors.
        owner: Who asks; vectors that come without a store are spot-checked once for each owner.
        store: See `reader`.
        lookup: Stored vectors by id.

    Raises:
        StoreMismatchError: another model made the vectors.
        StoreError: the store fails.
    """
    found = [with_believed_vector(candidate, candidate.node.embedding, "document") for candidate in candidates]
    _expect_same(found, encoder, owner, "document")
    lookup = lookup or lookup_of(store)
    if lookup is not None:
        return _of_lookup(found, encoder, owner, lookup)
    return found if store is None else _of_store(found, encoder, store)


def _of_lookup(
    candidates: list[NodeCandidate], encoder: E2RankEncoder, owner: object, lookup: VectorLookup
) -> list[NodeCandidate]:
    unclear = _of_several_texts(candidates)
    vectors = looked_up(lookup, [id_ for id_ in _lacking(candidates) if id_ not in unclear])
    found = [
        with_believed_vector(candidate, vectors.get(candidate.id or ""), "store")
        if candidate.vector is None
        else candidate
        for candidate in candidates
    ]
    _expect_same(found, encoder, owner, "store")
    return found


def _of_store(candidates: list[NodeCandidate], encoder: E2RankEncoder, store: object) -> list[NodeCandidate]:
    ids = _lacking(candidates)
    if not ids:
        return candidates
    kept = reader(store)
    records = kept.get(ids)
    found = list(records.values())
    expect_same_embedding(kept, encoder, found)
    report_stale_vectors(found)
    return [
        with_stored_vector(candidate, records.get(candidate.id or "")) if candidate.vector is None else candidate
        for candidate in candidates
    ]


def _of_several_texts(candidates: Sequence[NodeCandidate]) -> set[str]:
    """Ids that occur with several texts: nobody knows which of them a vector embeds."""
    texts: dict[str, set[str]] = {}
    for candidate in candidates:
        texts.setdefault(str(candidate.id), set()).add(candidate.text)
    return {id_ for id_, found in texts.items() if len(found) > 1}


def _lacking(candidates: Sequence[NodeCandidate]) -> list[str]:
    return list(dict.fromkeys(str(candidate.id) for candidate in candidates if candidate.vector is None))


def _expect_same(
    candidates: Sequence[NodeCandidate], encoder: E2RankEncoder, owner: object, source: VectorSource
) -> None:
    records = [c for c in candidates if c.vector is not None and c.vector_source == source]
    if records:
        spot_check((identity_of(owner), source), encoder, lambda: records)
