"""Taking stored vectors out of LangChain's vector stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_core.vectorstores import VectorStore as LangChainStore

from e2rank_integrations.components import expect_all
from e2rank_integrations.errors import InputError, StoreError
from e2rank_integrations.stores.base import SAMPLE_RECORDS, TEXT_HASH_KEY, text_hash, without_stale_vectors
from e2rank_integrations.stores.identity import identity_of, is_chroma_collection
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    import numpy.typing as npt
    from chromadb import Collection

    from e2rank_integrations.stores.base import VectorStore
    from e2rank_integrations.values import Vector

    VectorLookup = Callable[[list[str]], Mapping[str, npt.ArrayLike]]


def with_text_hash(documents: Iterable[Document]) -> list[Document]:
    """Copies of documents that carry the hash of their text, by which stale vectors are found later."""
    return [_with_text_hash(document) for document in expect_all(documents, Document, "document", "Documents")]


def _with_text_hash(document: Document) -> Document:
    metadata = {**document.metadata, TEXT_HASH_KEY: text_hash(document.page_content)}
    return document.model_copy(update={"metadata": metadata})


def reader(store: object, vector_lookup: VectorLookup | None = None) -> VectorStore:
    """The store as candidates with their vectors.

    Args:
        store: A `VectorStore` of this package, a Chroma collection, or any vector store of LangChain.
        vector_lookup: Gives stored vectors by id, for a LangChain store that cannot be read otherwise.

    Raises:
        InputError: it is none of these.
    """
    if vector_lookup is None:
        collection = store if is_chroma_collection(store) else _collection_of(store)
        if is_chroma_collection(collection):
            from e2rank_integrations.langchain.chroma import LangChainChroma

            return LangChainChroma(cast("Collection", collection))
        if isinstance(store, InMemoryVectorStore):
            return InMemoryStore(store)
    if isinstance(store, LangChainStore):
        return DocumentStore(store, vector_lookup)
    if all(hasattr(store, name) for name in ("search", "get", "sample")):
        return store  # type: ignore[return-value]  # has the methods of a VectorStore
    raise InputError(
        f"vectorstore: expected a LangChain vector store or a Chroma collection, found {type(store).__name__}"
    )


class DocumentStore:
    """Any LangChain vector store, with a way to its vectors or without one; without, they are computed.

    Args:
        store: It must search by vector.
        vector_lookup: Stored vectors by id; ids that it lacks may be absent.
    """

    fingerprint = None

    def __init__(self, store: LangChainStore, vector_lookup: VectorLookup | None) -> None:
        self._store = store
        self._lookup = vector_lookup
        self._vectors = vector_lookup or (lambda _: {})

    @property
    def identity(self) -> Hashable:
        """A token that stands for the store and the lookup; neither vouches for another."""
        return identity_of(self._store), identity_of(self._lookup)

    def save_fingerprint(self, fingerprint: str) -> None:  # noqa: ARG002 - there is nowhere to put it
        """Refused: LangChain's stores have no place for it."""
        raise StoreError(f"{type(self._store).__name__} has no place to keep a fingerprint; vectors are spot-checked")

    def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
        """The k nearest documents, with vectors where the lookup has them.

        Raises:
            StoreError: the store fails or does not take these arguments.
        """
        query = [float(value) for value in vector]
        return self._candidates(self._asked(self._store.similarity_search_by_vector, query, k, **options))

    def get(self, ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Stored documents by id."""
        documents = self._asked(self._store.get_by_ids, list(dict.fromkeys(ids)))
        return {str(record.id): record for record in self._candidates(documents)}

    def sample(self) -> list[Candidate]:
        """Nothing: LangChain's stores cannot list their documents. What a search finds is checked instead."""
        return []

    def _asked(self, method: Callable[..., list[Document]], /, *arguments: Any, **options: Any) -> list[Document]:
        try:
            return method(*arguments, **options)
        except Exception as error:  # whatever a store of others raises
            kind = type(self._store).__name__
            # Not the store's own message, which may repeat a text or an address.
            raise StoreError(
                f"{kind}.{method.__name__} failed ({type(error).__name__}); the error that caused this one says why"
            ) from error

    def _candidates(self, documents: Sequence[Document]) -> list[Candidate]:
        vectors = self._vectors([document.id for document in documents if document.id is not None])
        if not isinstance(vectors, Mapping):
            raise InputError(f"vector_lookup: expected a mapping from id to vector, found {type(vectors).__name__}")
        records = [
            Candidate(
                document.page_content,
                id=document.id,
                vector=None if document.id is None else vectors.get(document.id),
                vector_source="store",
                metadata=document.metadata,
            )
            for document in documents
        ]
        return without_stale_vectors(records)


class InMemoryStore(DocumentStore):
    """LangChain's own `InMemoryVectorStore`, whose records can be read."""

    def __init__(self, store: InMemoryVectorStore) -> None:
        super().__init__(store, None)
        self._records = store.store
        self._vectors = lambda ids: {id_: store.store[id_]["vector"] for id_ in ids if id_ in store.store}

    def search(self, vector: Vector, k: int, **options: Any) -> list[Candidate]:
        """As of any store; that store itself would drop what it does not understand.

        Raises:
            StoreError: another argument than `filter`, or one that is no function of a document.
        """
        if set(options) - {"filter"} or not (options.get("filter") is None or callable(options["filter"])):
            raise StoreError("InMemoryVectorStore's search takes a filter, a function of a document, and nothing else")
        return super().search(vector, k, **options)

    def sample(self) -> list[Candidate]:
        """The first records."""
        return list(self.get(list(self._records)[:SAMPLE_RECORDS]).values())


def _collection_of(store: object) -> object:
    try:
        return getattr(store, "_collection", None)
    except ValueError as error:  # LangChain's Chroma, after its collection was deleted
        raise StoreError("the store's collection was deleted; make it anew with reset_collection()") from error
