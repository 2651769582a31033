"""The other settings of listwise reranking: another order of the candidates, several passes, a sliding window.

```
candidates ─► order: initial, reversed, random ─► pass 1 ─► pass 2 ─► …
                                                   │
                                                   └─ one prompt over the whole list, or one for each window
```
The ranking of one pass is the order in which the next one begins.

Windows are RankGPT's (arXiv 2304.09542): they go from the list's end to its front, and what a window puts first is in
the next window, too. Here a window is reordered by cosine to its own listwise prompt.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Literal, get_args

from e2rank_integrations.checks import expect_positive
from e2rank_integrations.errors import InputError
from e2rank_integrations.values import RankedCandidate, Ranking

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from e2rank_integrations.reranker import Reranker, RerankJob
    from e2rank_integrations.values import Candidate, PromptPlan, Usage, Vector

Order = Literal["initial", "reversed", "random"]
"""Which order the first pass begins with: the first stage's, the same from its end, or a shuffled one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSettings:
    """How the candidates of a query are put before the model; by default once, all together, as they came.

    Attributes:
        order: The order that the first pass begins with.
        passes: How often to rerank, each time the order that the time before gave.
        window: Candidates of a window; None for the whole list at once. How many of them the prompt lists is the
            reranker's `num_input_docs`.
        step: Candidates by which the window moves to the front, at most `window`; half the window where None.
        seed: Of the random order, which is another for each query.

    Raises:
        InputError: a value out of its range.
    """

    order: Order = "initial"
    passes: int = 1
    window: int | None = None
    step: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise InputError(f"order: expected one of {', '.join(get_args(Order))}, found {self.order!r}")
        expect_positive("passes", self.passes)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed: expected an integer, found {type(self.seed).__name__}")
        if self.window is None and self.step is not None:
            raise InputError("step: it moves a window; give a window, too")
        if self.window is not None:
            expect_positive("window", self.window)
            expect_positive("step", self.stride)
            if self.stride > self.window:
                raise InputError(f"step: expected at most the window's {self.window}, found {self.stride}")

    @property
    def stride(self) -> int:
        """Candidates by which the window moves."""
        return max(1, (self.window or 0) // 2) if self.step is None else self.step

    @property
    def description(self) -> str:
        """What differs from the default, such as `reversed order, 2 passes, window 20/10`; empty if nothing does."""
        parts = [] if self.order == "initial" else [f"{self.order} order"]
        parts += [] if self.passes == 1 else [f"{self.passes} passes"]
        parts += [] if self.window is None else [f"window {self.window}/{self.stride}"]
        return ", ".join(parts)

    def first_order(self, query: str, count: int) -> tuple[int, ...]:
        """Positions of `count` candidates in the order that the first pass begins with."""
        positions = list(range(count))
        if self.order == "reversed":
            positions.reverse()
        if self.order == "random":
            random.Random(f"{self.seed} {query}").shuffle(positions)  # noqa: S311 - an experiment, no secret
        return tuple(positions)

    def windows(self, count: int) -> tuple[slice, ...]:
        """The parts of a list of `count` candidates, in the order in which they are reranked."""
        if self.window is None:
            return (slice(0, count),)
        ends = range(count, 0, -self.stride)
        starts = [max(0, end - self.window) for end in ends]
        needed = starts.index(0) + 1 if starts else 0
        return tuple(slice(start, end) for start, end in zip(starts[:needed], ends, strict=False))


WHOLE_LIST = PromptSettings()
"""One prompt over the candidates as they came."""


def rank(
    reranker: Reranker,
    query: str,
    candidates: Iterable[str | Candidate],
    settings: PromptSettings = WHOLE_LIST,
    *,
    query_vector: npt.ArrayLike | None = None,
) -> Ranking:
    """Rerank the candidates of one query; with the default settings exactly as `reranker.rank`.

    With other settings the reranker's `top_n`, `score_threshold` and `on_error` are set aside: every candidate is
    ranked, and a failure is an error. Vectors that candidates lack, and the plain query's, are computed once.

    Args:
        reranker: The encoder and the settings of one prompt.
        query: What is asked.
        candidates: In retrieval order, best first.
        settings: In which order, how often, and in which parts they are put before the model.
        query_vector: The plain query's embedding, shape (width,), if the caller has it.

    Returns:
        The last pass's ranking, with what all passes spent. `old_position` is the place among `candidates`. After a
        sliding window no one prompt has seen all candidates, so its scores, its plan and its query vector are None.

    Raises:
        InputError: bad input, or a query too long for the prompt.
        TransientError: the engine failed.
    """
    if not settings.description:
        return reranker.rank(query, candidates, query_vector=query_vector)
    started = perf_counter()
    whole = replace(reranker, top_n=None, score_threshold=None, on_error="raise")
    prepared = _prepared(whole, query, whole.plan(query, candidates, query_vector=query_vector))
    first = order = settings.first_order(query, len(prepared.given))
    usage, last = prepared.usage, Ranking((), (), None)
    for _ in range(settings.passes):
        first = order
        for window in settings.windows(len(order)):
            last = prepared.rank(order[window])
            order = _reordered(order, window, last)
            usage += last.usage
    one_prompt = settings.window is None
    ranked = _of_one_prompt(prepared, first, last) if one_prompt else _of_windows(prepared, order)
    plan = _in_given_order(last.plan, first) if one_prompt and last.plan is not None else None
    return Ranking(
        results=ranked,
        ranked=ranked,
        plan=plan,
        usage=usage,
        seconds=perf_counter() - started,
        query_vector=last.query_vector if one_prompt else None,
        query_similarity=last.query_similarity if one_prompt else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """The candidates of a query, with every vector that any prompt over them needs.

    Attributes:
        query: What is asked.
        reranker: As the settings need it.
        candidates: In the caller's order, each with a vector.
        given: The same as the caller gave them, as they stand in a ranking.
        query_vector: The plain query's, where it has a share.
        usage: What the vectors cost.
    """

    query: str
    reranker: Reranker
    candidates: tuple[Candidate, ...]
    given: tuple[RankedCandidate, ...]
    query_vector: Vector | None
    usage: Usage

    def rank(self, order: Sequence[int]) -> Ranking:
        """One prompt over some of the candidates."""
        return self.reranker.rank(self.query, [self.candidates[i] for i in order], query_vector=self.query_vector)


def _prepared(reranker: Reranker, query: str, job: RerankJob) -> _Prepared:
    """Everything computed but the prompt."""
    inputs = tuple(item for item in job.inputs if item != job.prompt)
    encoded = reranker.encoder.run(inputs)
    computed = dict(zip(inputs, encoded.vectors, strict=True))
    slate = job.slate
    vectors = {**slate.stored, **{position: computed[item] for position, item in slate.missing.items()}}
    return _Prepared(
        query=query,
        reranker=reranker,
        candidates=tuple(replace(item, vector=vectors[place]) for place, item in enumerate(slate.candidates)),
        given=tuple(
            RankedCandidate(item, None, place, place, vector_source=slate.source(place))
            for place, item in enumerate(slate.candidates)
        ),
        query_vector=job.query_vector if job.query is None else computed[job.query],
        usage=encoded.usage,
    )


def _reordered(order: Sequence[int], window: slice, ranking: Ranking) -> tuple[int, ...]:
    """The order with the candidates of one window put in a ranking's order."""
    part = order[window]
    found = [part[item.old_position] for item in ranking.ranked if item.old_position is not None]
    return (*order[: window.start], *found, *order[window.stop :])


def _of_one_prompt(prepared: _Prepared, order: Sequence[int], ranking: Ranking) -> tuple[RankedCandidate, ...]:
    """A ranking's candidates as the caller gave them; `order` is the one that its prompt saw."""
    places = [(item, order[item.old_position]) for item in ranking.ranked if item.old_position is not None]
    return tuple(
        replace(
            prepared.given[place],
            score=item.score,
            position=item.position,
            in_prompt=item.in_prompt,
            truncated=item.truncated,
        )
        for item, place in places
    )


def _of_windows(prepared: _Prepared, order: Sequence[int]) -> tuple[RankedCandidate, ...]:
    return tuple(replace(prepared.given[place], position=position) for position, place in enumerate(order))


def _in_given_order(plan: PromptPlan, order: Sequence[int]) -> PromptPlan:
    """The plan of a prompt that saw another order, its slots in the caller's."""
    slots = dict(zip(order, plan.slots, strict=True))
    return replace(plan, slots=tuple(slots[place] for place in range(len(slots))))


def add_arguments(parser: ArgumentParser) -> None:
    """The options of a command that reranks."""
    group = parser.add_argument_group("settings of the listwise prompt")
    group.add_argument("--order", choices=get_args(Order), default="initial", help="order the first pass begins with")
    group.add_argument("--passes", type=int, default=1, metavar="N", help="how often to rerank (default: 1)")
    group.add_argument("--window", type=int, metavar="N", help="candidates of a sliding window (default: no window)")
    group.add_argument("--step", type=int, metavar="N", help="candidates it moves by (default: half the window)")
    group.add_argument("--order-seed", type=int, default=0, metavar="N", help="seed of the random order (default: 0)")


def from_options(options: Namespace) -> PromptSettings:
    """The settings that `add_arguments`' options stand for.

    Raises:
        InputError: a value out of its range.
    """
    return PromptSettings(
        order=options.order,
        passes=options.passes,
        window=options.window,
        step=options.step,
        seed=options.order_seed,
    )
