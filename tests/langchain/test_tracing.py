"""One run per rerank, under the run that asked for it, with no text of a document and no vector in it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import AsyncCallbackHandler, CallbackManager
from langchain_core.runnables import RunnableLambda

from e2rank_integrations.errors import EngineMemoryError, InputError
from e2rank_integrations.langchain import E2RankReranker, E2RankRetriever
from tests.langchain.helpers import RUN_NAME, Runs, documents
from tests.support.engines import Failing
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_chroma import Chroma
    from langchain_core.tracers.schemas import Run

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.langchain import E2RankEmbeddings

QUERY = QUERIES[0]
FEW = 5


@pytest.fixture
def runs() -> Runs:
    return Runs()


def config(runs: Runs) -> dict[str, Any]:
    return {"callbacks": [runs]}


def shown(run: Run) -> str:
    return json.dumps([run.inputs, run.outputs, run.error, run.serialized, run.extra, run.tags], default=repr)


def expect_private(run: Run) -> None:
    """No text of a document and nothing as long as a vector."""
    assert not any(text[:15] in shown(run) for text in TEXTS)
    assert max(_lengths([run.inputs, run.outputs]), default=0) <= len(TEXTS)


def _lengths(value: object) -> list[int]:
    """Lengths of all lists of numbers in a value."""
    if isinstance(value, dict):
        return [length for part in value.values() for length in _lengths(part)]
    if isinstance(value, list | tuple):
        numbers = [part for part in value if isinstance(part, int | float)]
        return [len(numbers), *(length for part in value for length in _lengths(part))]
    assert value is None or isinstance(value, str | int | float | bool), f"{type(value)} in a run"
    return []


async def both(
    runs: Runs, sync: Callable[[], object], asynchronous: Callable[[], Awaitable[object]]
) -> list[list[Run]]:
    """The reranking runs of the sync way and of the async way."""
    sync()
    first = runs.reranks
    await asynchronous()
    return [first, runs.reranks[len(first) :]]


async def test_a_rerank_is_one_run(reranker: E2RankReranker, runs: Runs) -> None:
    """Called with callbacks alone: a run of its own with the query, the count, and who ended up where."""
    found = documents(["law", "bread"])
    for (run,) in await both(
        runs,
        lambda: reranker.compress_documents(found, QUERY, callbacks=[runs]),
        lambda: reranker.acompress_documents(found, QUERY, callbacks=[runs]),
    ):
        assert run.run_type == "chain"
        assert (run.parent_run_id, run.error) == (None, None)
        assert run.inputs == {"query": QUERY, "candidates": 8}
        assert run.outputs is not None
        assert len(run.outputs["results"]) == 8
        assert [row["position"] for row in run.outputs["results"]] == list(range(8))
        assert {row["id"] for row in run.outputs["results"]} == {document.id for document in found}
        assert run.end_time is not None
        expect_private(run)


async def test_a_rerank_is_a_child_of_its_caller(reranker: E2RankReranker, runs: Runs) -> None:
    """With a child manager of a chain: nested under that chain's run."""
    found = documents(["law"])
    outer = RunnableLambda(
        lambda query, config: reranker.compress_documents(found, query, callbacks=config["callbacks"]),
        name="outer",
    )

    async def acall(query: str, config: Any) -> Any:
        return await reranker.acompress_documents(found, query, callbacks=config["callbacks"])

    aouter = RunnableLambda(acall, name="outer")
    for (run,) in await both(
        runs, lambda: outer.invoke(QUERY, config(runs)), lambda: aouter.ainvoke(QUERY, config(runs))
    ):
        assert runs.parent_of(run).name == "outer"


@pytest.mark.parametrize("again", [False, True], ids=["one search", "two searches"])
async def test_a_retriever_has_one_child(store: Chroma, runs: Runs, again: bool) -> None:
    """Inside `invoke` and `ainvoke`: the retriever's run with one rerank under it, and no run besides."""
    retriever = E2RankRetriever(vectorstore=store, fetch_k=FEW, search_again=again)
    for (run,) in await both(
        runs, lambda: retriever.invoke(QUERY, config(runs)), lambda: retriever.ainvoke(QUERY, config(runs))
    ):
        parent = runs.parent_of(run)
        assert (parent.run_type, parent.name) == ("retriever", "E2RankRetriever")
        assert [child.name for child in parent.child_runs] == [RUN_NAME]
        assert run.inputs == {"query": QUERY, "candidates": FEW}
        assert run.error is None
        expect_private(run)
    assert len(runs.roots) == 2


async def test_inside_contextual_compression(reranker: E2RankReranker, store: Chroma, runs: Runs) -> None:
    """Under the compression retriever's run, beside that of its base retriever."""
    retriever = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=store.as_retriever())
    for (run,) in await both(
        runs, lambda: retriever.invoke(QUERY, config(runs)), lambda: retriever.ainvoke(QUERY, config(runs))
    ):
        parent = runs.parent_of(run)
        assert parent.name == "ContextualCompressionRetriever"
        assert [child.name for child in parent.child_runs] == ["VectorStoreRetriever", RUN_NAME]
        expect_private(run)


async def test_many_at_once_each_have_their_parent(store: Chroma, runs: Runs) -> None:
    """`abatch` of several queries: each rerank under the retrieval of its own query."""
    retriever = E2RankRetriever(vectorstore=store)
    await retriever.abatch(list(QUERIES) * 2, config(runs))
    assert len(runs.reranks) == 2 * len(QUERIES)
    assert {runs.parent_of(run).inputs["query"] == run.inputs["query"] for run in runs.reranks} == {True}
    assert len({run.parent_run_id for run in runs.reranks}) == 2 * len(QUERIES)


async def test_a_failure_ends_the_run_as_an_error(encoder: E2RankEncoder, store: Chroma, runs: Runs) -> None:
    """The run does not stay open, its error is the one raised, and its caller's run fails, too."""
    engine = Failing(encoder.engine, EngineMemoryError("no memory left"), lambda item: item.role == "listwise")
    reranker = E2RankReranker(encoder=replace(encoder, custom_engine=engine))
    retriever = E2RankRetriever(vectorstore=store, reranker=reranker)

    def sync() -> None:
        with pytest.raises(EngineMemoryError):
            retriever.invoke(QUERY, config(runs))

    async def asynchronous() -> None:
        with pytest.raises(EngineMemoryError):
            await retriever.ainvoke(QUERY, config(runs))

    for (run,) in await both(runs, sync, asynchronous):
        assert "no memory left" in str(run.error)
        assert run.end_time is not None
        assert not run.outputs
        assert runs.parent_of(run).error is not None
        expect_private(run)


def test_bad_input_ends_the_run_as_an_error(reranker: E2RankReranker, runs: Runs) -> None:
    """Nothing is left open where a document cannot be used, and the error holds no text."""
    with pytest.raises(InputError):
        reranker.compress_documents([*documents(["law"]), "not a document"], QUERY, callbacks=[runs])
    for run in runs.all:
        assert run.error is not None
        expect_private(run)


async def test_a_cancelled_rerank_ends_its_run(reranker: E2RankReranker, runs: Runs) -> None:
    """A request that is given up does not leave a run open."""
    task = asyncio.create_task(reranker.acompress_documents(documents(["law"]), QUERY, callbacks=[runs]))
    await asyncio.sleep(0)
    while not runs.run_map:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (run,) = runs.reranks
    assert run.end_time is not None
    assert run.error is not None


async def test_an_absorbed_failure_is_shown(encoder: E2RankEncoder, runs: Runs) -> None:
    """With `keep_order` the run ends well and says that the order was kept."""
    engine = Failing(encoder.engine, EngineMemoryError("out of memory"))
    reranker = E2RankReranker(encoder=replace(encoder, custom_engine=engine), on_error="keep_order")
    reranker.compress_documents(documents(["law"]), QUERY, callbacks=[runs])
    (run,) = runs.reranks
    assert run.error is None
    assert run.outputs is not None
    assert run.outputs["kept_order"] is True


async def test_an_empty_list_is_no_run(reranker: E2RankReranker, store: Chroma, runs: Runs) -> None:
    """Nothing to rerank, nothing to trace; neither where a search finds nothing."""
    nothing = {"filter": {"topic": "none"}}
    retriever = E2RankRetriever(vectorstore=store, search_kwargs=nothing)
    assert reranker.compress_documents([], QUERY, callbacks=[runs]) == []
    assert await reranker.acompress_documents([], QUERY, callbacks=[runs]) == []
    assert retriever.invoke(QUERY, config(runs)) == []
    assert await retriever.ainvoke(QUERY, config(runs)) == []
    assert runs.reranks == []
    assert len(runs.roots) == 2


def test_callbacks_are_optional(reranker: E2RankReranker) -> None:
    """None, no list and an empty manager are all fine."""
    found = documents(["law"])
    for callbacks in (None, [], CallbackManager([])):
        assert len(reranker.compress_documents(found, QUERY, callbacks=callbacks)) == len(found)
    assert len(reranker.compress_documents(found, QUERY)) == len(found)


async def test_async_handlers_are_awaited(embeddings: E2RankEmbeddings, store: Chroma) -> None:
    """Handlers of the async kind see the start and the end, in the loop."""
    seen: list[str] = []

    class Handler(AsyncCallbackHandler):
        async def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            seen.append(f"start {kwargs['name']}")

        async def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
            await asyncio.sleep(0)
            seen.append("end")

    await E2RankRetriever(vectorstore=store).ainvoke(QUERY, {"callbacks": [Handler()]})
    assert seen == [f"start {RUN_NAME}", "end"]
