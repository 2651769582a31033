"""Where the vectors of nodes come from: the node itself, the store, a callable; what is left is computed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llama_index.core.schema import MetadataMode

from e2rank_integrations.llama_index.nodes import NodeCandidate, with_believed_vector
from e2rank_integrations.llama_index.stores import looked_up, lookup_of, reader
from e2rank_integrations.stores import expect_same_embedding
from e2rank_integrations.stores.base import report_stale_vectors, with_stored_vector
from e2rank_integrations.stores.identity import identity_of
from e2rank_integrations.stores.trust import spot_check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from e2rank_integrations.encoder import E2RankEncoder
    from e2rank_integrations.llama_index.stores import VectorLookup
    from e2rank_integrations.values import Candidate, VectorSource


def with_vectors(
    candidates: Sequence[NodeCandidate],
    encoder: E2RankEncoder,
    *,
    owner: object,
    store: object = None,
    lookup: VectorLookup | None = None,
    use_node_embedding: bool = True,
) -> list[NodeCandidate]:
    """The candidates, each with its vector if one is to be had.

    Args:
        candidates: Without vectors.
        encoder: The model that must have made the vectors.
        owner: Who asks; vectors that nodes carry are spot-checked once for each owner.
        store: See `reader`.
        lookup: Stored vectors by id, asked before the store.
        use_node_embedding: Whether to use vectors that nodes carry.

    Raises:
        StoreMismatchError: another model made the vectors.
        StoreError: the store or the lookup fails.
    """
    found = list(candidates)
    if use_node_embedding:
        found = _of_nodes(found, encoder, owner)
    bare = lookup_of(store)
    for given, by in ((lookup, lookup), (store, bare)):
        if by is not None:
            found = _of_lookup(found, encoder, given, by)
    return found if store is None or bare is not None else _of_store(found, encoder, store)


def _of_nodes(candidates: list[NodeCandidate], encoder: E2RankEncoder, owner: object) -> list[NodeCandidate]:
    report_stale_vectors([candidate for candidate in candidates if candidate.node.embedding is not None])
    found = [with_believed_vector(candidate, candidate.node.embedding, "document") for candidate in candidates]
    _expect_same(found, encoder, owner, "document")
    return found


def _of_lookup(
    candidates: list[NodeCandidate], encoder: E2RankEncoder, given: object, lookup: VectorLookup
) -> list[NodeCandidate]:
    unclear = _of_several_texts(candidates)
    vectors = looked_up(lookup, [id_ for id_ in _lacking(candidates) if id_ not in unclear])
    found = [
        with_believed_vector(candidate, vectors.get(candidate.id or ""), "store")
        if candidate.vector is None
        else candidate
        for candidate in candidates
    ]
    _expect_same(found, encoder, given, "store")
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
        _of_record(candidate, records.get(candidate.id or "")) if candidate.vector is None else candidate
        for candidate in candidates
    ]


def _of_record(candidate: NodeCandidate, record: Candidate | None) -> NodeCandidate:
    """The candidate with its record's vector; a row that LlamaIndex did not write embeds its text without metadata."""
    bare = candidate.node.get_content(metadata_mode=MetadataMode.NONE)
    if record is not None and not isinstance(record, NodeCandidate) and record.text == bare:
        candidate = replace(candidate, text=bare)
    return with_stored_vector(candidate, record)


def _of_several_texts(candidates: Sequence[NodeCandidate]) -> set[str]:
    """Ids that occur with several texts: nobody knows which of them a vector embeds."""
    texts: dict[str, set[str]] = {}
    for candidate in candidates:
        texts.setdefault(str(candidate.id), set()).add(candidate.text)
    return {id_ for id_, found in texts.items() if len(found) > 1}


def _lacking(candidates: Sequence[NodeCandidate]) -> list[str]:
    return list(dict.fromkeys(str(candidate.id) for candidate in candidates if candidate.vector is None))


def _expect_same(
    candidates: Sequence[NodeCandidate], encoder: E2RankEncoder, origin: object, source: VectorSource
) -> None:
    records = [c for c in candidates if c.vector is not None and c.vector_source == source]
    if records:
        spot_check((identity_of(origin), source), encoder, lambda: records)
