"""Taking stored vectors out of LlamaIndex's vector stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from llama_index.core.indices.vector_store.base import VectorStoreIndex
from llama_index.core.schema import NodeWithScore
from llama_index.core.vector_stores.simple import SimpleVectorStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery

from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.llama_index.nodes import candidate_of
from e2rank_integrations.stores.base import SAMPLE_RECORDS, without_stale_vectors
from e2rank_integrations.stores.identity import identity_of, is_chroma_collection

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import numpy.typing as npt
    from chromadb import Collection
    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores.types import MetadataFilters

    from e2rank_integrations.stores import VectorStore
    from e2rank_integrations.values import Candidate, Vector

    VectorLookup = Callable[[list[str]], Mapping[str, npt.ArrayLike]]


def reader(store: object, vector_lookup: VectorLookup | None = None) -> VectorStore:
    """The store as candidates with their vectors.

    Args:
        store: A `VectorStoreIndex`, a vector store of LlamaIndex, a Chroma collection, or a `VectorStore` of this
            package.
        vector_lookup: Gives stored vectors by id, for a store that cannot be read otherwise.

    Raises:
        InputError: it is none of these.
    """
    index = store if isinstance(store, VectorStoreIndex) else None
    store = store if index is None else index.vector_store
    collection = store if is_chroma_collection(store) else getattr(store, "_collection", None)
    if vector_lookup is None and is_chroma_collection(collection):
        from e2rank_integrations.llama_index.chroma import LlamaIndexChroma

        return LlamaIndexChroma(cast("Collection", collection))
    if isinstance(store, BasePydanticVectorStore):
        return NodeStore(store, index, vector_lookup)
    if all(hasattr(store, name) for name in ("search", "get", "sample")):
        return store  # type: ignore[return-value]  # has the methods of a VectorStore
    raise InputError(
        f"vector_store: expected a VectorStoreIndex, a vector store of LlamaIndex or a Chroma collection, "
        f"found {type(store).__name__}"
    )


def lookup_of(store: object) -> VectorLookup | None:
    """Vectors by id, of a store that keeps vectors without texts."""
    if not isinstance(store, SimpleVectorStore):
        return None
    return lambda ids: {id_: store.data.embedding_dict[id_] for id_ in ids if id_ in store.data.embedding_dict}


def looked_up(lookup: VectorLookup, ids: list[str]) -> Mapping[str, npt.ArrayLike]:
    """Ask a lookup, and check that it answers with a mapping.

    Raises:
        StoreError: it fails.
        InputError: it answers with something else.
    """
    try:
        vectors = lookup(ids) if ids else {}
    except Exception as error:  # whatever a callable of others raises
        raise StoreError(
            f"vector_lookup failed ({type(error).__name__}); the error that caused this one says why"
        ) from error
    if not isinstance(vectors, Mapping):
        raise InputError(f"vector_lookup: expected a mapping from id to vector, found {type(vectors).__name__}")
    return vectors


class NodeStore:
    """Any vector store of LlamaIndex; where it does not give vectors back, they are computed.

    Args:
        store: The vector store.
        index: Its index, whose docstore has the nodes that the store does not keep.
        vector_lookup: Stored vectors by id; ids that it lacks may be absent.
    """

    fingerprint = None

    def __init__(
        self, store: BasePydanticVectorStore, index: VectorStoreIndex | None, vector_lookup: VectorLookup | None
    ) -> None:
        if index is None and not store.stores_text:
            raise InputError(f"{type(store).__name__} keeps no texts; give the VectorStoreIndex, which has them")
        self._store = store
        self._index = index
        self._given_lookup = vector_lookup
        self._lookup = vector_lookup or lookup_of(store)

    @property
    def identity(self) -> Hashable:
        """A token that stands for the store and the lookup; neither vouches for another."""
        return identity_of(self._store), identity_of(self._given_lookup)

    def save_fingerprint(self, fingerprint: str) -> None:  # noqa: ARG002 - there is nowhere to put it
        """Refused: LlamaIndex's stores have no place for it."""
        raise StoreError(f"{type(self._store).__name__} has no place to keep a fingerprint; vectors are spot-checked")

    def search(
        self,
        vector: Vector,
        k: int,
        *,
        filters: MetadataFilters | None = None,
        doc_ids: Sequence[str] | None = None,
        node_ids: Sequence[str] | None = None,
        **options: Any,
    ) -> list[Candidate]:
        """The k nearest nodes, with the vectors that are to be had.

        Raises:
            StoreError: the store fails or does not take these arguments.
        """
        if isinstance(self._store, SimpleVectorStore):
            node_ids, doc_ids = _among(self._store, node_ids, doc_ids, options), None
        query = VectorStoreQuery(
            query_embedding=[float(value) for value in vector],
            similarity_top_k=k,
            filters=filters,
            doc_ids=None if doc_ids is None else list(doc_ids),
            node_ids=None if node_ids is None else list(node_ids),
        )
        found = self._asked(self._store.query, query, **options)
        nodes = self._of_docstore(found.ids or []) if found.nodes is None else found.nodes
        self._expect_among(nodes, node_ids, doc_ids)
        return self._candidates(nodes)

    def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Stored nodes by id; those that the store cannot show are absent."""
        records = self._candidates(self._nodes(list(dict.fromkeys(ids))))
        return {str(record.id): record for record in records}

    def sample(self) -> list[Candidate]:
        """The first nodes of a `SimpleVectorStore`; of others nothing, since they cannot list their nodes."""
        if not isinstance(self._store, SimpleVectorStore):
            return []
        return list(self.get(list(self._store.data.embedding_dict)[:SAMPLE_RECORDS]).values())

    def _expect_among(
        self, nodes: Sequence[BaseNode], node_ids: Sequence[str] | None, doc_ids: Sequence[str] | None
    ) -> None:
        """Refuse a store that does not heed a restriction, since it would show what it must not."""
        for name, allowed, found in (
            ("node_ids", node_ids, [node.node_id for node in nodes]),
            ("doc_ids", doc_ids, [node.ref_doc_id for node in nodes]),
        ):
            if allowed is not None and set(found) - set(allowed):
                raise StoreError(f"{type(self._store).__name__} does not heed {name}; use filters instead")

    def _candidates(self, nodes: Sequence[BaseNode]) -> list[Candidate]:
        lacking = [node.node_id for node in nodes if node.embedding is None]
        vectors = self._vectors(lacking)
        return without_stale_vectors(
            [
                replace(
                    candidate_of(NodeWithScore(node=node)),
                    vector=vectors.get(node.node_id) if node.embedding is None else node.embedding,
                    vector_source="store",
                )
                for node in nodes
            ]
        )

    def _vectors(self, ids: list[str]) -> Mapping[str, npt.ArrayLike]:
        if self._lookup is not None:
            return looked_up(self._lookup, ids)
        return {node.node_id: node.embedding for node in self._of_store(ids) if node.embedding is not None}

    def _nodes(self, ids: list[str]) -> Sequence[BaseNode]:
        return self._of_store(ids) if self._store.stores_text else self._of_docstore(ids, strict=False)

    def _of_store(self, ids: list[str]) -> Sequence[BaseNode]:
        if not ids:  # which some stores take for all
            return []
        try:
            return self._asked(self._store.get_nodes, node_ids=ids)  # type: ignore[no-any-return]  # as LlamaIndex types it
        except NotImplementedError:
            return []

    def _of_docstore(self, ids: Sequence[str], *, strict: bool = True) -> Sequence[BaseNode]:
        """Nodes by the ids of their vectors, in that order."""
        if self._index is None:
            raise StoreError(f"{type(self._store).__name__} returned ids without nodes; give the VectorStoreIndex")
        named = [self._index.index_struct.nodes_dict.get(id_, id_) for id_ in ids]
        found = {node.node_id: node for node in self._index.docstore.get_nodes(named, raise_error=False)}
        missing = [id_ for id_ in named if id_ not in found]
        if strict and missing:
            raise StoreError(f"the docstore of the index lacks node {missing[0]!r}; index it anew")
        return [found[id_] for id_ in named if id_ in found]

    def _asked(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            return method(*arguments, **options)
        except NotImplementedError:
            raise
        except Exception as error:  # whatever a store of others raises
            kind = type(self._store).__name__
            # Not the store's own message, which may repeat a text or an address.
            raise StoreError(
                f"{kind}.{method.__name__} failed ({type(error).__name__}); the error that caused this one says why"
            ) from error


def _among(
    store: SimpleVectorStore, node_ids: Sequence[str] | None, doc_ids: Sequence[str] | None, options: Mapping[str, Any]
) -> list[str] | None:
    """The nodes to search among; that store would drop the source documents, and what else it does not understand."""
    if options:
        raise StoreError(f"SimpleVectorStore's search takes filters, node_ids and doc_ids, and not {min(options)!r}")
    if doc_ids is None:
        return None if node_ids is None else list(node_ids)
    sources, wanted = store.data.text_id_to_ref_doc_id, set(doc_ids)
    own = {id_: None for id_, source in sources.items() if source in wanted}
    return list(own) if node_ids is None else [id_ for id_ in node_ids if id_ in own]
