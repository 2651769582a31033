"""Reranking (paper, section 3.2): plan, embed, finish.

`Reranker.plan` decides what must be embedded, and `finish` turns the vectors into a `Ranking`; neither touches the
outside world. `rank` and its kin are shells around the two, which let an engine work in between, sync or async.
"""

from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np

from e2rank_integrations.checks import expect_count
from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.errors import (
    EngineTimeoutError,
    InputError,
    NonFiniteError,
    TransientError,
    UnavailableError,
)
from e2rank_integrations.slate import Slate, unit
from e2rank_integrations.text.checks import expect_text
from e2rank_integrations.threads import in_thread
from e2rank_integrations.values import RankedCandidate, Ranking, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from e2rank_integrations.values import Candidate, Encoded, PromptPlan, TokenInput, Vector

    Request = tuple[str, Iterable[str | Candidate]]

logger = logging.getLogger(__name__)

OnError = Literal["raise", "keep_order"]
"""What a failure of the engine becomes: the error, or the candidates in the order given."""

_HOPELESS = (EngineTimeoutError, UnavailableError)
"""Failures of a server rather than of one query's inputs: asking for each query alone would fail as well."""


@dataclass(frozen=True, slots=True, eq=False)
class RerankJob:
    """One rerank, planned: what must be embedded, and all that `finish` needs besides.

    Attributes:
        slate: The candidates.
        prompt: The listwise prompt; None for no candidates.
        plan: How it was filled; None for no candidates.
        query: The plain query's input, where its vector is needed and was not given.
        query_vector: The plain query's unit vector, where it was given.
        query_weight: Share of the plain query, in [0, 1].
        top_n: Results to return; None for all.
        score_threshold: Least score of a result; None for any.
    """

    slate: Slate
    prompt: TokenInput | None
    plan: PromptPlan | None
    query: TokenInput | None
    query_vector: Vector | None
    query_weight: float
    top_n: int | None
    score_threshold: float | None

    @property
    def inputs(self) -> tuple[TokenInput, ...]:
        """What must be embedded, each input once."""
        wanted = (self.prompt, self.query, *self.slate.missing.values())
        return tuple(dict.fromkeys(item for item in wanted if item is not None))


@dataclass(frozen=True, slots=True)
class Reranker:
    """Reorders candidates by their cosine to the listwise prompt of the query.

    Args:
        encoder: The model.
        top_n: Results to return, at least 1; None for all candidates.
        num_input_docs: Candidates listed in the prompt, k in the paper; the profile's by default.
        query_weight: Share w of the plain query in `normalise(w·e_q + (1−w)·e_q̂)`, in [0, 1]; the profile's
            by default. At 0 the plain query is not embedded at all.
        score_threshold: Least cosine of a result, in [-1, 1].
        on_error: On a `TransientError`, raise it or return the candidates in the order given.

    Raises:
        InputError: an option out of its range.
    """

    encoder: E2RankEncoder
    _: KW_ONLY
    top_n: int | None = None
    num_input_docs: int | None = None
    query_weight: float | None = None
    score_threshold: float | None = None
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        if not isinstance(self.encoder, E2RankEncoder):
            raise InputError(f"encoder: expected an E2RankEncoder, found {type(self.encoder).__name__}")
        expect_count("top_n", self.top_n)
        expect_count("num_input_docs", self.num_input_docs)
        _expect_within("query_weight", self.query_weight, 0.0)
        _expect_within("score_threshold", self.score_threshold, -1.0)
        if self.on_error not in {"raise", "keep_order"}:
            raise InputError(f"on_error: expected 'raise' or 'keep_order', found {self.on_error!r}")

    def rank(
        self,
        query: str,
        candidates: Iterable[str | Candidate],
        *,
        top_n: int | None = None,
        query_vector: npt.ArrayLike | None = None,
    ) -> Ranking:
        """Rerank the candidates of one query.

        Args:
            query: What is asked.
            candidates: In retrieval order, best first; texts, or candidates with or without a stored vector.
            top_n: Results to return, instead of the reranker's.
            query_vector: The plain query's embedding, shape (width,), if the caller has it.

        Raises:
            InputError: bad input, or a query too long for the prompt.
            TransientError: the engine failed, unless `on_error="keep_order"`.
        """
        return self.rank_many([(query, candidates)], top_n=top_n, query_vectors=[query_vector])[0]

    async def arank(
        self,
        query: str,
        candidates: Iterable[str | Candidate],
        *,
        top_n: int | None = None,
        query_vector: npt.ArrayLike | None = None,
    ) -> Ranking:
        """As `rank`, without blocking the event loop."""
        return (await self.arank_many([(query, candidates)], top_n=top_n, query_vectors=[query_vector]))[0]

    def rank_many(
        self,
        requests: Iterable[Request],
        *,
        top_n: int | None = None,
        query_vectors: Sequence[npt.ArrayLike | None] | None = None,
    ) -> list[Ranking]:
        """Rerank several queries, each with its own candidates, in one call of the engine.

        With `on_error="keep_order"` a failure of the whole is retried query by query, unless a server is not there or
        too slow.
        """
        started = perf_counter()
        return self._run(self._plan_many(requests, top_n, query_vectors), started)

    async def arank_many(
        self,
        requests: Iterable[Request],
        *,
        top_n: int | None = None,
        query_vectors: Sequence[npt.ArrayLike | None] | None = None,
    ) -> list[Ranking]:
        """As `rank_many`, without blocking the event loop."""
        started = perf_counter()
        jobs = await in_thread(self._plan_many, requests, top_n, query_vectors)
        return await self._arun(jobs, started)

    def extend(self, ranking: Ranking, candidates: Iterable[str | Candidate], *, top_n: int | None = None) -> Ranking:
        """Score further candidates with a ranking's own query vector and merge them in.

        Raises:
            InputError: bad input, or a ranking that kept its order and so has no query vector.
            TransientError: the engine failed, unless `on_error="keep_order"`, which keeps the ranking as it is.
        """
        if ranking.query_vector is None:
            raise InputError("ranking: it has no query vector, since it is empty or its order was kept")
        started = perf_counter()
        slate = Slate.of(self.encoder, candidates)
        self.encoder.report_cuts(slate.lines)
        inputs = tuple(dict.fromkeys(slate.missing.values()))
        try:
            encoded = self.encoder.run(inputs)
            scores = _cosines(slate, dict(zip(inputs, encoded.vectors, strict=True)), ranking.query_vector)
        except TransientError as error:
            if self.on_error == "raise":
                raise
            logger.warning("scoring %d more candidates failed (%s); they are left out", len(slate.candidates), error)
            return ranking
        found = [
            RankedCandidate(candidate, score, 0, None, vector_source=slate.source(position))
            for position, (candidate, score) in enumerate(zip(slate.candidates, scores, strict=True))
        ]
        ranked = _in_order([*ranking.ranked, *found])
        return replace(
            ranking,
            ranked=ranked,
            results=_results(ranked, self._top_n(top_n), self.score_threshold),
            usage=ranking.usage + encoded.usage,
            seconds=ranking.seconds + perf_counter() - started,
        )

    def plan(
        self,
        query: str,
        candidates: Iterable[str | Candidate],
        *,
        top_n: int | None = None,
        query_vector: npt.ArrayLike | None = None,
    ) -> RerankJob:
        """Decide what must be embedded. Pure: the engine is not asked."""
        if not expect_text(query, "query").strip():
            raise InputError("query: it is blank; a prompt without a query ranks nothing")
        encoder, slate = self.encoder, Slate.of(self.encoder, candidates)
        prompt, plan = self._prompt(query, slate)
        weight = encoder.profile.query_weight if self.query_weight is None else self.query_weight
        given = None if query_vector is None else unit(query_vector, encoder.width, "query_vector")
        needs_query = prompt is not None and weight > 0 and given is None
        return RerankJob(
            slate=slate,
            prompt=prompt,
            plan=plan,
            query=encoder.writer.query(query) if needs_query else None,
            query_vector=given,
            query_weight=weight,
            top_n=self._top_n(top_n),
            score_threshold=self.score_threshold,
        )

    def _prompt(self, query: str, slate: Slate) -> tuple[TokenInput | None, PromptPlan | None]:
        if not slate.candidates:
            return None, None
        texts = [c.text if c.prompt_text is None else c.prompt_text for c in slate.candidates]
        scores = [candidate.retrieval_score for candidate in slate.candidates]
        return self.encoder.listwise_input(query, texts, self.num_input_docs, scores)

    def _top_n(self, top_n: int | None) -> int | None:
        expect_count("top_n", top_n)
        return self.top_n if top_n is None else top_n

    def _plan_many(
        self,
        requests: Iterable[Request],
        top_n: int | None,
        query_vectors: Sequence[npt.ArrayLike | None] | None,
    ) -> list[RerankJob]:
        pairs = _pairs(requests)
        vectors = [None] * len(pairs) if query_vectors is None else query_vectors
        if len(vectors) != len(pairs):
            raise InputError(f"query_vectors: expected {len(pairs)}, one per request, found {len(vectors)}")
        jobs = [
            self.plan(query, candidates, top_n=top_n, query_vector=vector)
            for (query, candidates), vector in zip(pairs, vectors, strict=True)
        ]
        self.encoder.report_cuts([line for job in jobs for line in job.slate.lines])
        return jobs

    def _run(self, jobs: Sequence[RerankJob], started: float) -> list[Ranking]:
        try:
            return finish_many(jobs, self.encoder.run(_inputs(jobs)), started)
        except TransientError as error:
            if self.on_error == "raise":
                raise
            if len(jobs) == 1 or isinstance(error, _HOPELESS):
                return [keep_order(job, error, started) for job in jobs]
        return [ranking for job in jobs for ranking in self._run([job], started)]

    async def _arun(self, jobs: Sequence[RerankJob], started: float) -> list[Ranking]:
        try:
            encoded = await self.encoder.arun(_inputs(jobs))
            return await in_thread(finish_many, jobs, encoded, started)
        except TransientError as error:
            if self.on_error == "raise":
                raise
            if len(jobs) == 1 or isinstance(error, _HOPELESS):
                return [keep_order(job, error, started) for job in jobs]
        return [ranking for job in jobs for ranking in await self._arun([job], started)]


def finish_many(jobs: Sequence[RerankJob], encoded: Encoded, started: float) -> list[Ranking]:
    """Finish jobs that were embedded together; an input that several share is on the first one's bill."""
    computed = dict(zip(_inputs(jobs), encoded.vectors, strict=True))
    billed = set(encoded.found)
    rankings = []
    for job in jobs:
        usage = Usage.of(item for item in job.inputs if item not in billed)
        billed.update(job.inputs)
        rankings.append(finish(job, computed, usage, perf_counter() - started))
    return rankings


def finish(job: RerankJob, computed: Mapping[TokenInput, Vector], usage: Usage, seconds: float) -> Ranking:
    """Turn vectors into a ranking: cosine, stable order, report. Pure.

    Args:
        job: The plan.
        computed: A unit vector for each of the job's inputs.
        usage: What they cost.
        seconds: Wall time so far.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """
    if job.prompt is None or job.plan is None:
        return Ranking((), (), None, usage, seconds)
    prompt_vector = computed[job.prompt]
    plain = job.query_vector if job.query is None else computed[job.query]
    query_vector = _blended(plain, prompt_vector, job.query_weight)
    ranked = _in_order(_scored(job, _cosines(job.slate, computed, query_vector)))
    return Ranking(
        results=_results(ranked, job.top_n, job.score_threshold),
        ranked=ranked,
        plan=job.plan,
        usage=usage,
        seconds=seconds,
        query_vector=query_vector,
        query_similarity=None if plain is None else float(plain @ prompt_vector),
    )


def keep_order(job: RerankJob, error: TransientError, started: float) -> Ranking:
    """The candidates as they came, cut to `top_n`, with the failure that was absorbed."""
    logger.warning("reranking failed (%s: %s); the retrieval order is kept", type(error).__name__, error)
    ranked = tuple(
        RankedCandidate(candidate, None, position, position) for position, candidate in enumerate(job.slate.candidates)
    )
    return Ranking(ranked[: job.top_n], ranked, job.plan, seconds=perf_counter() - started, error=error)


def _expect_within(name: str, value: object, least: float) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1):
        raise InputError(f"{name}: expected a number in [{least:g}, 1], or None, found {value!r}")


def _pairs(requests: Iterable[Request]) -> list[Request]:
    """The requests, each checked to be a query with candidates."""
    if isinstance(requests, str) or not hasattr(requests, "__iter__"):
        raise InputError(f"requests: expected pairs of a query and candidates, found {type(requests).__name__}")
    pairs = list(requests)
    for position, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise InputError(f"request {position}: expected a query and its candidates, found {type(pair).__name__}")
    return pairs


def _inputs(jobs: Sequence[RerankJob]) -> tuple[TokenInput, ...]:
    """What the jobs need embedded, each input once."""
    return tuple(dict.fromkeys(item for job in jobs for item in job.inputs))


def _blended(plain: Vector | None, prompt: Vector, weight: float) -> Vector:
    if plain is None or weight == 0:
        return prompt
    return unit(weight * plain + (1 - weight) * prompt, len(prompt), "blend of query and prompt")


def _cosines(slate: Slate, computed: Mapping[TokenInput, Vector], query_vector: Vector) -> list[float]:
    if not slate.candidates:
        return []
    # Summed row by row rather than by a matrix product, whose rounding depends on a row's neighbours: equal
    # vectors get equal scores, and so ties keep their order.
    scores = (slate.vectors(computed) * query_vector).sum(axis=1)
    if not np.isfinite(scores).all():
        raise NonFiniteError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are NaN or infinite")
    return [float(score) for score in scores]


def _scored(job: RerankJob, scores: Sequence[float]) -> list[RankedCandidate]:
    slots = job.plan.slots if job.plan is not None else ()
    return [
        RankedCandidate(candidate, score, position, position, slot.included, slot.truncated, job.slate.source(position))
        for position, (candidate, score, slot) in enumerate(zip(job.slate.candidates, scores, slots, strict=True))
    ]


def _in_order(items: Iterable[RankedCandidate]) -> tuple[RankedCandidate, ...]:
    """Best score first, ties in the order given, positions renumbered."""
    ordered = sorted(items, key=lambda item: -(item.score or 0.0))
    return tuple(replace(item, position=position) for position, item in enumerate(ordered))


def _results(
    ranked: tuple[RankedCandidate, ...], top_n: int | None, score_threshold: float | None
) -> tuple[RankedCandidate, ...]:
    if score_threshold is not None:
        ranked = tuple(item for item in ranked if item.score is not None and item.score >= score_threshold)
    return ranked[:top_n]
