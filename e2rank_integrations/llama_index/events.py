"""The events of one rerank: LlamaIndex's instrumentation and its callbacks, each opened and closed once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # not in its __all__
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.schema import NodeWithScore, QueryBundle

    from e2rank_integrations.values import Ranking

    Report = Callable[[list[NodeWithScore], Ranking], list[NodeWithScore]]

dispatcher = get_dispatcher(__name__)


@contextmanager
def reranking(
    manager: CallbackManager, query: QueryBundle, nodes: Sequence[NodeWithScore], top_n: int | None, model: str
) -> Iterator[Report]:
    """Open the events; call what is yielded with the outcome. A failure closes them without nodes."""
    wanted = len(nodes) if top_n is None else top_n
    outcome = _Outcome()
    payload: dict[str, Any] = {
        EventPayload.NODES: list(nodes),
        EventPayload.MODEL_NAME: model,
        EventPayload.QUERY_STR: query.query_str,
        EventPayload.TOP_K: wanted,
    }
    dispatcher.event(ReRankStartEvent(query=query, nodes=list(nodes), top_n=wanted, model_name=model))
    try:
        with manager.event(CBEventType.RERANKING, payload=payload) as event:
            yield outcome
            event.on_end(payload={EventPayload.NODES: outcome.nodes})
    finally:
        dispatcher.event(ReRankEndEvent(nodes=outcome.nodes, tags=outcome.tags))


class _Outcome:
    """What the events will end with."""

    def __init__(self) -> None:
        self.nodes: list[NodeWithScore] = []
        self.tags: dict[str, Any] = {}

    def __call__(self, nodes: list[NodeWithScore], ranking: Ranking) -> list[NodeWithScore]:
        self.nodes, self.tags = nodes, _tags(ranking)
        return nodes


def _tags(ranking: Ranking) -> dict[str, Any]:
    """What the end event says besides the nodes: native values, no texts, no vectors."""
    return {
        "e2rank.forwards": ranking.usage.forwards,
        "e2rank.tokens": ranking.usage.tokens,
        "e2rank.seconds": ranking.seconds,
        "e2rank.kept_order": ranking.kept_order,
        "e2rank.query_similarity": ranking.query_similarity,
    }
