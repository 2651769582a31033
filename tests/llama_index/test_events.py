"""One pair of events, one span and one callback per rerank, sync and async, under what asked for it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import QueryBundle, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import Field

from e2rank_integrations.errors import EngineMemoryError, InputError
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever
from tests.llama_index.helpers import found_nodes, ids
from tests.support.engines import Failing, Gated
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import NodeWithScore

    from e2rank_integrations import E2RankEncoder

QUERY = QUERIES[0]
TOPICS = ("bread", "law")
TAGS = {"e2rank.forwards", "e2rank.tokens", "e2rank.seconds", "e2rank.kept_order", "e2rank.query_similarity"}


class Events(BaseEventHandler):
    """Keeps the reranking events."""

    seen: list[Any] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Events"

    def handle(self, event: Any, **kwargs: Any) -> None:
        if isinstance(event, ReRankStartEvent | ReRankEndEvent):
            self.seen.append(event)

    def pairs(self) -> list[tuple[ReRankStartEvent, ReRankEndEvent]]:
        """Each start with its end; fails where they do not alternate."""
        starts, ends = self.seen[::2], self.seen[1::2]
        assert {type(event) for event in starts} <= {ReRankStartEvent}
        assert {type(event) for event in ends} <= {ReRankEndEvent}
        return list(zip(starts, ends, strict=True))


class Watch:
    """A real event handler, span handler and callback handler."""

    def __init__(self) -> None:
        self.events = Events()
        self.spans = SimpleSpanHandler()
        self.callbacks = LlamaDebugHandler(print_trace_on_end=False)
        self.manager = CallbackManager([self.callbacks])

    def pair(self) -> tuple[ReRankStartEvent, ReRankEndEvent]:
        """The only pair of events since the last call."""
        (found,) = self.events.pairs()
        self.events.seen.clear()
        return found

    def span(self, *, dropped: bool = False) -> Any:
        """The only span of a reranker since the last call; none is left open."""
        assert not self.spans.open_spans
        (found,) = self.reranks
        assert found in (self.spans.dropped_spans if dropped else self.spans.completed_spans)
        return found

    @property
    def all_spans(self) -> list[Any]:
        return [*self.spans.completed_spans, *self.spans.dropped_spans]

    @property
    def reranks(self) -> list[Any]:
        return [span for span in self.all_spans if span.id_.startswith("E2RankRerank.") and "postprocess" in span.id_]

    def ancestors(self, span: Any) -> list[str]:
        """The names of the spans around it, the nearest first."""
        by_id = {other.id_: other for other in self.all_spans}
        names = []
        while span.parent_id is not None:
            span = by_id[span.parent_id]
            names.append(span.id_.rpartition("-")[0].split("-")[0])
        return names

    def callback(self) -> list[Any]:
        """The only pair of reranking callbacks since the last call."""
        (found,) = self.callbacks.get_event_pairs(CBEventType.RERANKING)
        assert len(found) == 2
        return found

    def forget(self) -> None:
        self.events.seen.clear()
        self.spans.completed_spans.clear()
        self.spans.dropped_spans.clear()
        self.callbacks.flush_event_logs()


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Handlers at the root of LlamaIndex's instrumentation, taken away after the test."""
    found, root = Watch(), get_dispatcher("root")
    before = list(root.event_handlers), list(root.span_handlers)
    root.add_event_handler(found.events)
    root.add_span_handler(found.spans)
    yield found
    root.event_handlers, root.span_handlers = before


@pytest.fixture
def rerank(embed_model: E2RankEmbedding, watch: Watch) -> E2RankRerank:
    return E2RankRerank(embed_model=embed_model, top_n=3, callback_manager=watch.manager)


@pytest.fixture
def found() -> list[NodeWithScore]:
    return found_nodes(TOPICS)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Awaitable[list[NodeWithScore]]]:
    """Reranks in the sync way or in the async way."""

    async def call(rerank: E2RankRerank, found: Any, query: str = QUERY) -> list[NodeWithScore]:
        if request.param:
            return await rerank.apostprocess_nodes(found, query_str=query)
        return rerank.postprocess_nodes(found, query_str=query)

    return call


def out_of_memory(encoder: E2RankEncoder) -> E2RankEncoder:
    return replace(encoder, custom_engine=Failing(encoder.engine, EngineMemoryError("out of memory")))


async def test_a_rerank_is_one_pair_of_events(
    rerank: E2RankRerank, found: list[NodeWithScore], watch: Watch, call: Any
) -> None:
    """The start has query, candidates, `top_n` and model; the end has the results and what they cost."""
    ranked = await call(rerank, found)
    start, end = watch.pair()
    assert (start.query, start.top_n, start.model_name) == (QueryBundle(QUERY), 3, "embedded")
    assert ids(start.nodes) == ids(found)
    assert [item.score for item in start.nodes] == [item.score for item in found]
    assert [(item.node_id, item.score) for item in end.nodes] == [(item.node_id, item.score) for item in ranked]
    assert set(end.tags) >= TAGS
    assert end.tags["e2rank.forwards"] == rerank.rank(found, QUERY).usage.forwards
    assert end.tags["e2rank.kept_order"] is False
    assert -1 <= end.tags["e2rank.query_similarity"] <= 1
    assert watch.events.seen == [], "`rank` is a report and opens no events"


async def test_a_rerank_is_one_span(rerank: E2RankRerank, found: list[NodeWithScore], watch: Watch, call: Any) -> None:
    """Exactly one, completed; both events are in it."""
    await call(rerank, found)
    span = watch.span()
    assert [event.span_id for event in watch.pair()] == [span.id_, span.id_]


async def test_a_rerank_is_one_callback(
    rerank: E2RankRerank, found: list[NodeWithScore], watch: Watch, call: Any
) -> None:
    """A RERANKING event with the payload that LlamaIndex's own rerankers give: nodes, model, query, top k."""
    ranked = await call(rerank, found)
    start, end = watch.callback()
    assert start.payload == {EventPayload.NODES: found, EventPayload.MODEL_NAME: "embedded",
                             EventPayload.QUERY_STR: QUERY, EventPayload.TOP_K: 3}  # fmt: skip
    assert end.payload == {EventPayload.NODES: ranked}


async def test_without_a_limit_top_n_is_the_count(
    rerank: E2RankRerank, found: list[NodeWithScore], watch: Watch, call: Any
) -> None:
    """The events know no None."""
    rerank.top_n = None
    await call(rerank, found)
    assert watch.pair()[0].top_n == len(found)
    assert watch.callback()[0].payload[EventPayload.TOP_K] == len(found)


async def test_events_are_json(rerank: E2RankRerank, found: list[NodeWithScore], watch: Watch, call: Any) -> None:
    """Whatever logs or ships them may dump them; the tags hold plain values, no text and no vector."""
    found += [item.model_copy(update={"node": TextNode(text="")}) for item in found[:1]]
    await call(rerank, found)
    for event in watch.pair():
        assert json.loads(event.model_dump_json())
        assert json.dumps(event.model_dump(mode="json"))
        tags = json.dumps(event.tags)
        assert not any(text[:15] in tags for text in (*TEXTS, *QUERIES))
        assert {type(value) for value in event.tags.values()} <= {int, float, bool, str, type(None)}


async def test_an_empty_list_is_no_event(rerank: E2RankRerank, watch: Watch, call: Any) -> None:
    """Nothing to rerank, nothing to report; the span of the call there is, as of every call."""
    assert await call(rerank, []) == []
    assert watch.events.seen == []
    assert watch.callbacks.get_event_pairs(CBEventType.RERANKING) == []


@pytest.mark.parametrize("failing", ["engine", "query", "node"])
async def test_a_failure_closes_everything(
    encoder: E2RankEncoder, found: list[NodeWithScore], watch: Watch, call: Any, failing: str
) -> None:
    """Events in pairs, the end without nodes, the span dropped, the callback with the exception."""
    used = out_of_memory(encoder) if failing == "engine" else encoder
    rerank = E2RankRerank(encoder=used, callback_manager=watch.manager)
    query, nodes = (" " if failing == "query" else QUERY), ([*found, "no node"] if failing == "node" else found)
    with pytest.raises((EngineMemoryError, InputError)) as caught:
        await call(rerank, nodes, query)
    watch.span(dropped=True)
    if failing == "node":  # there are no nodes to name in a start
        assert watch.events.seen == []
        return
    start, end = watch.pair()
    assert (len(start.nodes), end.nodes) == (len(found), [])
    assert watch.callback()[1].payload == {EventPayload.EXCEPTION: caught.value}


async def test_an_absorbed_failure_is_shown(
    encoder: E2RankEncoder, found: list[NodeWithScore], watch: Watch, call: Any
) -> None:
    """With `keep_order` all ends well, and the end says that the order was kept."""
    rerank = E2RankRerank(encoder=out_of_memory(encoder), on_error="keep_order", callback_manager=watch.manager)
    await call(rerank, found)
    _, end = watch.pair()
    assert end.tags["e2rank.kept_order"] is True
    assert ids(end.nodes) == ids(found)[:5]
    watch.span()
    assert set(watch.callback()[1].payload) == {EventPayload.NODES}


async def test_a_cancelled_rerank_closes_everything(
    encoder: E2RankEncoder, found: list[NodeWithScore], watch: Watch
) -> None:
    """A request that is given up leaves nothing open."""
    engine = Gated(encoder.engine)
    rerank = E2RankRerank(encoder=replace(encoder, custom_engine=engine), callback_manager=watch.manager)
    task = asyncio.create_task(rerank.apostprocess_nodes(found, query_str=QUERY))
    while not watch.events.seen:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    engine.gate.set()
    assert watch.pair()[1].nodes == []
    watch.span(dropped=True)
    assert len(watch.callback()) == 2


async def test_many_at_once_keep_their_pairs_apart(
    rerank: E2RankRerank, found: list[NodeWithScore], watch: Watch
) -> None:
    """Each concurrent rerank has a span of its own with its own start and end in it."""
    await asyncio.gather(*(rerank.apostprocess_nodes(found, query_str=query) for query in QUERIES * 2))
    assert len({span.id_ for span in watch.reranks}) == 2 * len(QUERIES)
    for span in watch.reranks:
        start, end = (event for event in watch.events.seen if event.span_id == span.id_)
        assert isinstance(start, ReRankStartEvent)
        assert isinstance(end, ReRankEndEvent)


async def test_under_the_query_engine(
    make_index: Callable[..., VectorStoreIndex], embed_model: E2RankEmbedding, watch: Watch
) -> None:
    """The span hangs under the engine's, sync and async, and the engine's callback manager hears of the rerank."""
    index = make_index("simple")
    watch.forget()
    rerank = E2RankRerank(embed_model=embed_model, top_n=2)
    retriever = index.as_retriever(similarity_top_k=6)
    engine = RetrieverQueryEngine.from_args(
        retriever, llm=MockLLM(max_tokens=5), node_postprocessors=[rerank], callback_manager=watch.manager
    )
    assert rerank.callback_manager is watch.manager
    for method, name in ((engine.query, "_query"), (engine.aquery, "_aquery")):
        watch.forget()
        answer = method(QUERY)
        answer = await answer if name == "_aquery" else answer
        names = watch.ancestors(watch.span())
        assert f"RetrieverQueryEngine.{name}" in names
        assert not any(part.startswith("E2RankRerank") for part in names)
        start, end = watch.pair()
        assert (len(start.nodes), ids(end.nodes)) == (6, ids(answer.source_nodes))
        assert ids(watch.callback()[1].payload[EventPayload.NODES]) == ids(answer.source_nodes)


async def test_a_retrievers_rerank_is_one_pair(make_index: Callable[..., VectorStoreIndex], watch: Watch) -> None:
    """E2RankRetriever reports its rerank the same way: one pair, one callback, one span, none within another."""
    retriever = E2RankRetriever(make_index("simple"), similarity_top_k=2, fetch_k=6, callback_manager=watch.manager)
    for method, name in ((retriever.retrieve, "_retrieve"), (retriever.aretrieve, "_aretrieve")):
        watch.forget()
        found = method(QUERY)
        found = await found if name == "_aretrieve" else found
        start, end = watch.pair()
        assert (len(start.nodes), start.top_n, ids(end.nodes)) == (6, 2, ids(found))
        assert (start.model_name, set(end.tags) >= TAGS) == ("embedded", True)
        spans = [span for span in watch.all_spans if span.id_.startswith(f"E2RankRetriever.{name}-")]
        assert [span.id_ for span in spans] == [start.span_id] == [end.span_id]
        assert watch.reranks == []
        assert ids(watch.callback()[1].payload[EventPayload.NODES]) == ids(found)
        assert json.loads(end.model_dump_json())


@pytest.mark.parametrize("kept", [False, True], ids=["plain", "cached"])
@pytest.mark.parametrize("method", ["get_query_embedding", "get_text_embedding", "get_text_embedding_batch"])
async def test_an_embedding_is_one_span(encoder: E2RankEncoder, watch: Watch, method: str, kept: bool) -> None:
    """As LlamaIndex's own embeddings: one span and one callback for a call, sync and async, with a cache or without."""
    cache = SimpleKVStore() if kept else None
    embed_model = E2RankEmbedding(encoder=encoder, embeddings_cache=cache, callback_manager=watch.manager)
    given = [QUERY] if method.endswith("batch") else QUERY
    getattr(embed_model, method)(given)
    await getattr(embed_model, f"a{method}")(given)
    for name in (method, f"a{method}"):
        spans = [span for span in watch.spans.completed_spans if span.id_.startswith(f"E2RankEmbedding.{name}-")]
        assert len(spans) == 1
    assert not watch.spans.open_spans
    pairs = watch.callbacks.get_event_pairs(CBEventType.EMBEDDING)
    assert [len(pair) for pair in pairs] == [2, 2]
    assert {*pairs[0][1].payload} == {EventPayload.CHUNKS, EventPayload.EMBEDDINGS}
