"""LangChain's document compressor over the core's `Reranker`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import Field, StrictInt, model_validator

from e2rank_integrations.components import RerankFields, expect_all, with_model_of
from e2rank_integrations.errors import TransientError
from e2rank_integrations.langchain.embeddings import E2RankEmbeddings
from e2rank_integrations.langchain.stores import reader
from e2rank_integrations.langchain.tracing import atraced, traced
from e2rank_integrations.stores import expect_same_embedding
from e2rank_integrations.stores.base import report_stale_vectors, stored_vector
from e2rank_integrations.threads import in_thread
from e2rank_integrations.values import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_core.callbacks import Callbacks

    from e2rank_integrations.stores import VectorStore
    from e2rank_integrations.values import RankedCandidate, Ranking, VectorSource

SCORE_KEY = "relevance_score"
ERROR_KEY = "rerank_error"


class E2RankReranker(RerankFields, BaseDocumentCompressor):
    """Reorders documents by their cosine to the listwise prompt of the query.

    Each returned document is a copy of the one given, with the cosine under `relevance_score` in its metadata. Where a
    failure was absorbed (`on_error="keep_order"`) there is no score, and `rerank_error` names the failure.

    Vectors come, in this order, from the document's own state (if `trust_document_state`), from `vectorstore` by id,
    or are computed.

    Example:
        ```python
        reranker = E2RankReranker(embeddings=embeddings, vectorstore=store, top_n=3)
        ContextualCompressionRetriever(base_compressor=reranker, base_retriever=store.as_retriever())
        ```
    """

    settled: ClassVar[frozenset[str]] = RerankFields.settled | {"embeddings"}

    embeddings: E2RankEmbeddings | None = Field(default=None, repr=False, exclude=True)
    """Embeddings whose model to use, instead of naming it again."""

    top_n: StrictInt | None = 3
    """Documents to return, at least 1; None for all."""

    prompt_text_key: str | None = None
    """Metadata key of a shorter text for the prompt; documents without it are listed with their whole text."""

    retrieval_score_key: str | None = None
    """Metadata key of the first stage's score, for a template that shows it (`insertrank`)."""

    vectorstore: Any = Field(default=None, repr=False, exclude=True)
    """Where the documents' vectors are stored: a Chroma collection or a LangChain vector store. A stored vector is used
    where the stored text is the document's own."""

    vector_lookup: Callable[[list[str]], Any] | None = Field(default=None, repr=False, exclude=True)
    """For a vector store that cannot be read otherwise: a callable from document ids to their stored vectors."""

    trust_document_state: bool = False
    """Use the vectors that an `EmbeddingsRedundantFilter` left on the documents. Only where that filter has the same
    embeddings: such a vector does not say which model made it."""

    @model_validator(mode="before")
    @classmethod
    def _model_of_embeddings(cls, values: Any) -> Any:  # noqa: ANN401 - whatever pydantic was given
        embeddings = values.get("embeddings") if isinstance(values, dict) else None
        return with_model_of(values, embeddings if isinstance(embeddings, E2RankEmbeddings) else None, "the embeddings")

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Rerank documents; see the class for what is returned.

        Raises:
            InputError: bad input.
            StoreMismatchError: another model made the vectors in `vectorstore`.
            TransientError: the engine failed, unless `on_error="keep_order"`.
        """
        documents = _checked(documents)
        if not documents:
            return []
        with traced(callbacks, query, len(documents)) as report:
            ranking = self.core.rank(query, self.candidates(documents))
            report(ranking)
        return _documents(documents, ranking)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """As `compress_documents`, without blocking the event loop."""
        documents = _checked(documents)
        if not documents:
            return []
        async with atraced(callbacks, query, len(documents)) as report:
            ranking = await self.core.arank(query, await in_thread(self.candidates, documents))
            report(ranking)
        return _documents(documents, ranking)

    def rank(self, documents: Sequence[Document], query: str) -> Ranking:
        """The `Ranking` behind `compress_documents`: who moved, what was cut, what it cost."""
        return self.core.rank(query, self.candidates(_checked(documents)))

    def candidates(self, documents: Sequence[Document]) -> list[Candidate]:
        """Documents as candidates, with the vectors that are to be had."""
        stored = self._stored(documents)
        return [self._candidate(document, stored) for document in documents]

    def _stored(self, documents: Sequence[Document]) -> Mapping[str, Candidate]:
        ids = [document.id for document in documents if document.id is not None]
        if self.vectorstore is None or not ids:
            return {}
        store: VectorStore = reader(self.vectorstore, self.vector_lookup)
        records = store.get(ids)
        found = list(records.values())
        try:
            expect_same_embedding(store, self.encoder, found)
        except TransientError:  # of a spot check; the rerank will meet the same engine, and does as on_error says
            if self.on_error == "raise":
                raise
            return {}
        report_stale_vectors(found)
        return records

    def _candidate(self, document: Document, stored: Mapping[str, Candidate]) -> Candidate:
        source: VectorSource = "document"
        vector = self._state(document)
        if vector is None:
            vector, source = stored_vector(document.page_content, stored.get(document.id or "")), "store"
        return Candidate(
            document.page_content,
            id=document.id,
            prompt_text=self._prompt_text(document),
            vector=vector,
            vector_source="given" if vector is None else source,
            metadata=document.metadata,
            retrieval_score=self._retrieval_score(document),
        )

    def _prompt_text(self, document: Document) -> str | None:
        return None if self.prompt_text_key is None else document.metadata.get(self.prompt_text_key)

    def _retrieval_score(self, document: Document) -> float | None:
        return None if self.retrieval_score_key is None else document.metadata.get(self.retrieval_score_key)

    def _state(self, document: Document) -> Any:  # noqa: ANN401 - a vector of whatever type the filter left
        state = getattr(document, "state", None) if self.trust_document_state else None
        return state.get("embedded_doc") if isinstance(state, dict) else None


def _checked(documents: Iterable[Document]) -> list[Document]:
    return expect_all(documents, Document, "document", "Documents")


def reranked(document: Document, item: RankedCandidate, ranking: Ranking) -> Document:
    """A copy of a document with its score; what an earlier reranker wrote there does not survive."""
    metadata = {key: value for key, value in document.metadata.items() if key not in {SCORE_KEY, ERROR_KEY}}
    if item.score is not None:
        metadata[SCORE_KEY] = item.score
    if ranking.error is not None:
        metadata[ERROR_KEY] = type(ranking.error).__name__
    return document.model_copy(update={"metadata": metadata})


def _documents(documents: Sequence[Document], ranking: Ranking) -> list[Document]:
    """Copies of the documents in their new order."""
    places = [(item, item.old_position) for item in ranking]
    return [reranked(documents[place], item, ranking) for item, place in places if place is not None]
