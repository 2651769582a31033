"""What the adapters add to the core per 100 candidates, with an engine that answers at once."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from e2rank_integrations.values import Encoded, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import Matrix, TokenInput
    from tests.benchmarks.rows import Bench
    from tests.benchmarks.workload import Workload

LANGCHAIN = "LangChain, vectorstore and vector_lookup"
LLAMA_INDEX = "LlamaIndex, vectors on the nodes"
LLAMA_INDEX_LOOKUP = "LlamaIndex, vector_lookup"
CALLS = 60


class InstantEngine:
    """Returns the same unit vector for every input."""

    def __init__(self, width: int) -> None:
        self._row = np.full(width, width**-0.5, dtype=np.float32)

    def vectors(self, count: int) -> Matrix:
        """As many rows, shape (count, width)."""
        return np.tile(self._row, (count, 1))

    def encode(self, inputs: Sequence[TokenInput]) -> Encoded:
        return Encoded(self.vectors(len(inputs)), Usage.of(inputs))

    async def aencode(self, inputs: Sequence[TokenInput]) -> Encoded:
        return self.encode(inputs)

    def warmup(self) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to free."""


def overhead(bench: Bench, work: Workload, *, calls: int = CALLS) -> dict[str, dict[str, float]]:
    """Milliseconds per call, by adapter.

    Returns:
        Of each adapter: `adapter` and `core`, medians; `difference`, the median of the differences call by call; and of
        it `vectors`, the making of candidates with their vectors.
    """
    encoder = bench.encoder
    encoder = replace(encoder, custom_engine=InstantEngine(encoder.width))
    return {
        LANGCHAIN: _measured(*_langchain(encoder, work), calls),
        LLAMA_INDEX: _measured(*_llama_index(encoder, work, lookup=False), calls),
        LLAMA_INDEX_LOOKUP: _measured(*_llama_index(encoder, work, lookup=True), calls),
    }


def _measured(
    adapter: Callable[[], Any], candidates: Callable[[], Any], core: Callable[[Any], Any], calls: int
) -> dict[str, float]:
    given = candidates()
    core(given), adapter()
    times = [(_time(adapter), _time(lambda: core(given)), _time(candidates)) for _ in range(calls)]
    return {
        "adapter": 1000 * median(one for one, _, _ in times),
        "core": 1000 * median(two for _, two, _ in times),
        "difference": 1000 * median(one - two for one, two, _ in times),
        "vectors": 1000 * median(three for _, _, three in times),
    }


def _time(call: Callable[[], Any]) -> float:
    started = perf_counter()
    call()
    return perf_counter() - started


def _langchain(encoder: E2RankEncoder, work: Workload) -> tuple[Callable[..., Any], ...]:
    from langchain_core.documents import Document
    from langchain_core.vectorstores import InMemoryVectorStore

    from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker

    embeddings = E2RankEmbeddings(encoder=encoder)
    documents = [Document(text, id=f"d{place}") for place, text in enumerate(work.documents)]
    store = InMemoryVectorStore(embeddings)
    store.add_documents(documents)
    known = _by_id(encoder, [str(document.id) for document in documents])
    reranker = E2RankReranker(
        embeddings=embeddings,
        vectorstore=store,
        vector_lookup=lambda ids: {id_: known[id_] for id_ in ids},
        num_input_docs=work.listed,
    )
    return (
        lambda: reranker.compress_documents(documents, work.query),
        lambda: reranker.candidates(documents),
        lambda given: reranker.core.rank(work.query, given),
    )


def _llama_index(encoder: E2RankEncoder, work: Workload, *, lookup: bool) -> tuple[Callable[..., Any], ...]:
    from llama_index.core.schema import NodeWithScore, TextNode

    from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank

    names = [f"d{place}" for place in range(len(work.documents))]
    known = {id_: vector.tolist() for id_, vector in _by_id(encoder, names).items()}
    nodes = [
        NodeWithScore(node=TextNode(id_=id_, text=text, embedding=None if lookup else known[id_]), score=0.5)
        for id_, text in zip(names, work.documents, strict=True)
    ]
    rerank = E2RankRerank(
        embed_model=E2RankEmbedding(encoder=encoder), num_input_docs=work.listed,
        vector_lookup=(lambda ids: {id_: known[id_] for id_ in ids}) if lookup else None,
    )  # fmt: skip
    return (
        lambda: rerank.postprocess_nodes(nodes, query_str=work.query),
        lambda: rerank._with_vectors(rerank._parted(nodes)[0]),
        lambda given: rerank.core.rank(work.query, given),
    )


def _by_id(encoder: E2RankEncoder, names: Sequence[str]) -> dict[str, np.ndarray]:
    vectors = encoder.custom_engine.vectors(len(names))
    return dict(zip(names, vectors, strict=True))
