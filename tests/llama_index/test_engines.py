"""Inside LlamaIndex's engines and evaluators: what they hand over is reranked, what they show is the new order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.postprocessor import (
    LongContextReorder,
    MetadataReplacementPostProcessor,
    SimilarityPostprocessor,
)
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode

from e2rank_integrations.llama_index import E2RankRerank, E2RankRetriever
from tests.llama_index.helpers import ids, scores, text_nodes
from tests.support.passages import PASSAGES, QUERIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import NodeWithScore

    from e2rank_integrations.llama_index import E2RankEmbedding
    from tests.support.engines import Recording

QUERY = QUERIES[0]
RELEVANT = dict(zip(QUERIES, ("bread-1", "orbit-1", "blood-1"), strict=True))
FEW, MORE = 3, 8


@pytest.fixture
def echo() -> MockLLM:
    """An LLM that answers with its prompt: what it was shown can be read."""
    return MockLLM()


@pytest.fixture
def brief() -> MockLLM:
    """An LLM that says the same five words to everything."""
    return MockLLM(max_tokens=5)


@pytest.fixture
def rerank(embed_model: E2RankEmbedding) -> E2RankRerank:
    return E2RankRerank(embed_model=embed_model, top_n=FEW)


def expected(index: VectorStoreIndex, rerank: E2RankRerank, query: str = QUERY) -> list[str]:
    """The ids of the retriever's nodes, reranked by hand."""
    found = index.as_retriever(similarity_top_k=MORE).retrieve(query)
    return ids(rerank.postprocess_nodes(found, query_str=query))


def order_in(text: str) -> list[str]:
    """The ids of the passages that a text quotes, in its order."""
    places = {id_: text.find(passage) for id_, passage in PASSAGES.items()}
    return sorted((id_ for id_, place in places.items() if place >= 0), key=places.__getitem__)


async def test_query_engine(index: VectorStoreIndex, rerank: E2RankRerank, echo: MockLLM) -> None:
    """Sync and async over both stores: the LLM is shown the reranked nodes in their order, and they are the sources."""
    engine = index.as_query_engine(similarity_top_k=MORE, node_postprocessors=[rerank], llm=echo)
    for answer in (engine.query(QUERY), await engine.aquery(QUERY)):
        assert ids(answer.source_nodes) == expected(index, rerank)
        assert order_in(str(answer)) == ids(answer.source_nodes)
        assert scores(answer.source_nodes) == sorted(scores(answer.source_nodes), reverse=True)


async def test_stored_vectors_in_a_query_engine(
    index: VectorStoreIndex, embed_model: E2RankEmbedding, recording: Recording, brief: MockLLM, unchecked: None
) -> None:
    """With the index as `vector_store`: after the spot check no document is embedded, and the order is the same."""
    rerank = E2RankRerank(embed_model=embed_model, top_n=FEW, vector_store=index)
    engine = index.as_query_engine(similarity_top_k=MORE, node_postprocessors=[rerank], llm=brief)
    engine.query(QUERIES[1])
    recording.calls.clear()
    for answer in (engine.query(QUERY), await engine.aquery(QUERY)):
        assert ids(answer.source_nodes) == expected(index, E2RankRerank(embed_model=embed_model, top_n=FEW))
    recording.calls.clear()
    engine.query(QUERIES[2])
    assert (recording.usage.documents, recording.usage.prompts) == (0, 1)


async def test_streaming(make_index: Callable[..., VectorStoreIndex], rerank: E2RankRerank, brief: MockLLM) -> None:
    """Sources are there before the answer has come, and the answer comes in pieces."""
    index = make_index("simple")
    engine = index.as_query_engine(similarity_top_k=MORE, node_postprocessors=[rerank], llm=brief, streaming=True)
    answer = engine.query(QUERY)
    assert ids(answer.source_nodes) == expected(index, rerank)
    assert len(list(answer.response_gen)) == 5
    answer = await engine.aquery(QUERY)
    assert ids(answer.source_nodes) == expected(index, rerank)
    assert len([piece async for piece in answer.async_response_gen()]) == 5


@pytest.mark.parametrize("mode", ["context", "condense_plus_context"])
async def test_chat_engine(
    make_index: Callable[..., VectorStoreIndex], rerank: E2RankRerank, brief: MockLLM, mode: str
) -> None:
    """Each turn reranks for what was asked in it: sync, async, and streamed."""
    index = make_index("simple")

    def chat() -> Any:
        # Not the default memory, whose database nobody closes: it would warn of that in some later test.
        memory = ChatMemoryBuffer.from_defaults(llm=brief)
        return index.as_chat_engine(
            chat_mode=mode, similarity_top_k=MORE, node_postprocessors=[rerank], llm=brief, memory=memory
        )

    turns = chat()
    first = turns.chat(QUERY)
    assert ids(first.source_nodes) == expected(index, rerank)
    second = turns.chat(QUERIES[1])
    asked = QUERIES[1] if mode == "context" else str(brief.complete("anything"))
    assert ids(second.source_nodes) == expected(index, rerank, asked)
    assert ids((await chat().achat(QUERY)).source_nodes) == expected(index, rerank)
    streamed = chat().stream_chat(QUERY)
    assert ids(streamed.source_nodes) == expected(index, rerank)
    assert len(list(streamed.response_gen)) == 5


async def test_retriever_in_a_query_engine(index: VectorStoreIndex, echo: MockLLM) -> None:
    """E2RankRetriever in place of the index's: its order is what the LLM is shown."""
    retriever = E2RankRetriever(index, similarity_top_k=FEW, fetch_k=MORE)
    engine = RetrieverQueryEngine.from_args(retriever, llm=echo)
    wanted = [str(item.candidate.id) for item in retriever.rank(QUERY)]
    for answer in (engine.query(QUERY), await engine.aquery(QUERY)):
        assert ids(answer.source_nodes) == order_in(str(answer)) == wanted


async def test_evaluated_as_a_retriever(index: VectorStoreIndex) -> None:
    """RetrieverEvaluator scores what E2RankRetriever returns, sync and async."""
    retriever = E2RankRetriever(index, similarity_top_k=FEW)
    evaluator = RetrieverEvaluator.from_metric_names(["mrr", "hit_rate"], retriever=retriever)
    for query, id_ in RELEVANT.items():
        for result in (evaluator.evaluate(query, [id_]), await evaluator.aevaluate(query, [id_])):
            assert result.retrieved_ids == ids(retriever.retrieve(query))
            assert result.metric_vals_dict == {"mrr": 1.0, "hit_rate": 1.0}
            assert result.retrieved_texts[0] == PASSAGES[id_]


async def test_evaluated_as_a_postprocessor(index: VectorStoreIndex, embed_model: E2RankEmbedding) -> None:
    """RetrieverEvaluator runs its node postprocessors, and scores what they make of the retriever's nodes."""
    rerank = E2RankRerank(embed_model=embed_model, top_n=1, vector_store=index)
    evaluator = RetrieverEvaluator.from_metric_names(
        ["mrr"], retriever=index.as_retriever(similarity_top_k=MORE), node_postprocessors=[rerank]
    )
    for result in (evaluator.evaluate(QUERY, ["bread-1"]), await evaluator.aevaluate(QUERY, ["bread-1"])):
        assert result.retrieved_ids == expected(index, rerank)
        assert result.metric_vals_dict == {"mrr": 1.0}


def asked(index: VectorStoreIndex, llm: MockLLM, *processors: Any) -> list[NodeWithScore]:
    """The sources of an answer where nodes go through these."""
    engine = index.as_query_engine(similarity_top_k=MORE, node_postprocessors=[*processors], llm=llm)
    return engine.query(QUERY).source_nodes


def test_cut_by_similarity_afterwards(
    make_index: Callable[..., VectorStoreIndex], rerank: E2RankRerank, brief: MockLLM
) -> None:
    """SimilarityPostprocessor after it cuts by the new scores."""
    index = make_index("simple")
    ranked = asked(index, brief, rerank)
    between = sum(scores(ranked)[:2]) / 2
    assert ids(asked(index, brief, rerank, SimilarityPostprocessor(similarity_cutoff=between))) == ids(ranked)[:1]


def test_cut_by_similarity_before(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, brief: MockLLM
) -> None:
    """SimilarityPostprocessor before it cuts by the retriever's scores; what is left is reranked."""
    index = make_index("simple")
    found = index.as_retriever(similarity_top_k=MORE).retrieve(QUERY)
    cut = SimilarityPostprocessor(similarity_cutoff=sum(scores(found)[3:5]) / 2)
    everything = E2RankRerank(embed_model=embed_model, top_n=None)
    assert ids(asked(index, brief, cut, everything)) == ids(everything.postprocess_nodes(found[:4], query_str=QUERY))
    nothing = SimilarityPostprocessor(similarity_cutoff=0.999)
    assert asked(index, brief, nothing, everything) == []


def test_reordered_for_long_contexts(
    make_index: Callable[..., VectorStoreIndex], rerank: E2RankRerank, brief: MockLLM
) -> None:
    """LongContextReorder after it puts the best at the ends by the new scores; before it, it changes no score."""
    index = make_index("simple")
    first, second, third = ids(asked(index, brief, rerank))
    assert ids(asked(index, brief, rerank, LongContextReorder())) == [first, third, second]
    assert len(asked(index, brief, LongContextReorder(), rerank)) == FEW


def sentences() -> list[TextNode]:
    """Passages as sentences with a window around them that only an LLM is to see."""
    return [
        TextNode(text=node.text, id_=node.node_id, metadata={"window": f"Before. {node.text} After."},
                 excluded_embed_metadata_keys=["window"], excluded_llm_metadata_keys=["window"])
        for node in text_nodes()
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["simple", "chroma"])
def test_windows_afterwards(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, brief: MockLLM, kind: str
) -> None:
    """MetadataReplacementPostProcessor after it: ranked by the sentences, shown as windows, twice over alike."""
    index = make_index(kind, sentences())
    rerank = E2RankRerank(embed_model=embed_model, top_n=FEW, vector_store=index)
    windows = MetadataReplacementPostProcessor(target_metadata_key="window")
    plain = asked(index, brief, rerank)
    for _ in range(2):
        shown = asked(index, brief, rerank, windows)
        assert [(item.node_id, item.score) for item in shown] == [(item.node_id, item.score) for item in plain]
        assert [item.text for item in shown] == [f"Before. {PASSAGES[id_]} After." for id_ in ids(plain)]


@pytest.mark.parametrize("kind", ["simple", "chroma"])
def test_windows_before(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, brief: MockLLM, kind: str
) -> None:
    """MetadataReplacementPostProcessor before it: ranked by the windows, not by the vectors of the sentences."""
    index = make_index(kind, sentences())
    windows = MetadataReplacementPostProcessor(target_metadata_key="window")
    stored = asked(index, brief, windows, E2RankRerank(embed_model=embed_model, top_n=FEW, vector_store=index))
    computed = asked(index, brief, windows, E2RankRerank(embed_model=embed_model, top_n=FEW))
    assert [(item.node_id, item.text) for item in stored] == [(item.node_id, item.text) for item in computed]
    assert scores(stored) == pytest.approx(scores(computed), abs=1e-6)


def test_two_rerankers_in_a_row(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, brief: MockLLM
) -> None:
    """The second takes the first one's order and keeps its scores where it is asked to."""
    index = make_index("simple")
    first = E2RankRerank(embed_model=embed_model, top_n=5)
    second = E2RankRerank(embed_model=embed_model, top_n=2, keep_retrieval_score=True)
    between = {item.node_id: item.score for item in asked(index, brief, first)}
    for item in asked(index, brief, first, second):
        assert item.metadata["retrieval_score"] == between[item.node_id]


def test_notes_do_not_reach_the_llm(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, echo: MockLLM
) -> None:
    """What the reranker notes in the metadata is not part of any prompt."""
    index = make_index("simple")
    rerank = E2RankRerank(embed_model=embed_model, top_n=FEW, keep_retrieval_score=True)
    engine = index.as_query_engine(similarity_top_k=MORE, node_postprocessors=[rerank], llm=echo)
    answer = engine.query(QUERY)
    assert all("retrieval_score" in item.metadata for item in answer.source_nodes)
    assert "topic: bread" in str(answer), "the LLM is shown the nodes' own metadata"
    assert "retrieval_score" not in str(answer)


def test_prompts_are_found_through_the_engine(
    make_index: Callable[..., VectorStoreIndex], rerank: E2RankRerank, brief: MockLLM
) -> None:
    """An engine over E2RankRetriever shows the reranker's words among its prompts."""
    retriever = E2RankRetriever(make_index("simple"), rerank)
    engine = RetrieverQueryEngine.from_args(retriever, llm=brief)
    names = set(retriever.get_prompts())
    assert names == {f"reranker:{name}" for name in rerank.get_prompts()}
    assert engine.retriever is retriever
