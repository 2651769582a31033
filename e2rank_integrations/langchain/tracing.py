"""One traced run per rerank, a child of the run that asked for it. Vectors never enter a run."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_core.callbacks import Callbacks

    from e2rank_integrations.values import RankedCandidate, Ranking

    Report = Callable[[Ranking], None]

RUN_NAME = "E2RankReranker"


class _Outcome:
    """What the run will end with."""

    def __init__(self) -> None:
        self.outputs: dict[str, Any] = {}

    def __call__(self, ranking: Ranking) -> None:
        self.outputs = outputs(ranking)


@contextmanager
def traced(callbacks: Callbacks, query: str, candidates: int) -> Iterator[Report]:
    """Open a run; call what is yielded with the ranking to end it well."""
    manager = CallbackManager.configure(inheritable_callbacks=callbacks)
    run = manager.on_chain_start(None, {"query": query, "candidates": candidates}, name=RUN_NAME)
    report = _Outcome()
    try:
        yield report
    except BaseException as error:
        run.on_chain_error(error)
        raise
    run.on_chain_end(report.outputs)


@asynccontextmanager
async def atraced(callbacks: Callbacks, query: str, candidates: int) -> AsyncIterator[Report]:
    """As `traced`, for async callers."""
    manager = AsyncCallbackManager.configure(inheritable_callbacks=callbacks)
    run = await manager.on_chain_start(None, {"query": query, "candidates": candidates}, name=RUN_NAME)
    report = _Outcome()
    try:
        yield report
    except BaseException as error:
        await run.on_chain_error(error)
        raise
    await run.on_chain_end(report.outputs)


def outputs(ranking: Ranking) -> dict[str, Any]:
    """What a run shows of a ranking: native values, no texts, no vectors."""
    usage = ranking.usage
    return {
        "results": [_row(item) for item in ranking.results],
        "kept_order": ranking.kept_order,
        "forwards": usage.forwards,
        "tokens": usage.tokens,
        "seconds": ranking.seconds,
        "query_similarity": ranking.query_similarity,
    }


def _row(item: RankedCandidate) -> dict[str, Any]:
    return {
        "id": item.candidate.id,
        "score": item.score,
        "position": item.position,
        "old_position": item.old_position,
        "in_prompt": item.in_prompt,
        "truncated": item.truncated,
        "vector_source": item.vector_source,
    }
