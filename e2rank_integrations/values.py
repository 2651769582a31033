"""The values that travel through the package: data only, frozen, safe to share between threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from e2rank_integrations import display

if TYPE_CHECKING:
    from typing import Self

Vector = npt.NDArray[np.float32]
"""One embedding, shape (width,), float32."""

Matrix = npt.NDArray[np.float32]
"""Embeddings as rows, shape (rows, width), float32."""

Role = Literal["document", "query", "listwise"]
"""What an input is to the model."""

VectorSource = Literal["given", "document", "store", "computed"]
"""Where a candidate's vector came from: the caller, the framework's document, the index, or this call."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A document that may answer the query.

    Attributes:
        text: What was, or will be, embedded.
        id: The caller's identifier, if any; need not be unique.
        prompt_text: A shorter text for the listwise prompt; `text` where None.
        vector: The stored embedding of `text`, shape (width,), any float dtype, need not be of unit length;
            None to have it computed.
        vector_source: Where `vector` came from; ignored where `vector` is None.
        metadata: Carried along, never read, never written.
        retrieval_score: The first stage's score, BM25's for instance; read only where the template's line has a
            `{score}` field.
    """

    text: str
    id: str | None = None
    prompt_text: str | None = None
    vector: npt.ArrayLike | None = field(default=None, repr=False)
    vector_source: VectorSource = "given"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    retrieval_score: float | None = None


@dataclass(frozen=True, slots=True)
class TokenInput:
    """What an engine embeds: the exact ids, control tokens included, and what they are.

    The role lets an engine keep prompts and documents in batches of their own.

    Attributes:
        ids: The exact ids.
        role: What the input is to the model.
        shared: How many leading ids another query on the same candidates would share; 0 where unknown. A hint for
            engines that keep what they computed: it is not compared.
    """

    ids: tuple[int, ...]
    role: Role
    shared: int = field(default=0, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call spent: sequences that went through the model, by role, and their tokens without padding."""

    documents: int = 0
    queries: int = 0
    prompts: int = 0
    tokens: int = 0

    @classmethod
    def of(cls, inputs: Iterable[TokenInput]) -> Self:
        """Count the inputs of each role."""
        inputs = tuple(inputs)
        roles = [item.role for item in inputs]
        tokens = sum(len(item.ids) for item in inputs)
        return cls(roles.count("document"), roles.count("query"), roles.count("listwise"), tokens)

    @property
    def forwards(self) -> int:
        """Sequences that went through the model, of all roles."""
        return self.documents + self.queries + self.prompts

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.documents + other.documents,
            self.queries + other.queries,
            self.prompts + other.prompts,
            self.tokens + other.tokens,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """An engine's answer.

    Attributes:
        vectors: Unit rows, shape (inputs, width), float32, in the order of the inputs.
        usage: What was computed.
        found: Inputs that were not computed, since a cache knew their vectors.
    """

    vectors: Matrix = field(repr=False)
    usage: Usage
    found: frozenset[TokenInput] = frozenset()


@dataclass(frozen=True, slots=True)
class PromptSlot:
    """What the prompt made of one candidate.

    Attributes:
        included: Whether the candidate is listed in the prompt.
        tokens_before: Tokens of its whole line (position mark and line end included); None for a candidate
            beyond the first `num_input_docs`, whose text is not tokenised for the prompt.
        tokens_after: Tokens of the line as listed; 0 where not included.
        lower_bound: Whether `tokens_before` counts only the start of a text above a million characters.
    """

    included: bool
    tokens_before: int | None = None
    tokens_after: int = 0
    lower_bound: bool = False

    @property
    def truncated(self) -> bool:
        """Whether the candidate is listed with less than its whole line."""
        return self.included and (self.lower_bound or self.tokens_after < (self.tokens_before or 0))


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """How the candidates were fitted into the listwise prompt.

    Attributes:
        slots: One per candidate, in the caller's order.
        tokens: Size of the prompt, all ids counted.
        max_tokens: The most it may have.
        query_tokens: Ids that come after the documents: the query and the prompt's closing.
        documents_asked: Candidates that should have been listed, `min(num_input_docs, candidates)`.
        documents_used: Candidates that are listed.
        cap_asked: Tokens a listed document may have at most, by the profile.
        cap_used: Tokens a listed document may have at most, after sharing the room.
    """

    slots: tuple[PromptSlot, ...] = field(repr=False)
    tokens: int
    max_tokens: int
    query_tokens: int
    documents_asked: int
    documents_used: int
    cap_asked: int
    cap_used: int

    @property
    def documents_truncated(self) -> int:
        """How many listed documents were cut."""
        return sum(slot.truncated for slot in self.slots)


@dataclass(frozen=True, slots=True, eq=False)
class RankedCandidate:
    """A candidate with its place in the ranking.

    Attributes:
        candidate: The caller's own object (or the one made from the caller's string).
        score: Cosine to the query vector of the ranking, in [-1, 1]; None where the order was kept after a failure.
        position: New position, from 0.
        old_position: Position among the candidates given, from 0; None for one found by searching again.
        in_prompt: Whether the listwise prompt lists it.
        truncated: Whether its line in the prompt was cut.
        vector_source: Where its vector came from; None where no vector was needed.
    """

    candidate: Candidate
    score: float | None
    position: int
    old_position: int | None
    in_prompt: bool = False
    truncated: bool = False
    vector_source: VectorSource | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ranking(Sequence[RankedCandidate]):
    """The outcome of one rerank; a sequence of its `results`.

    Attributes:
        results: What was asked for: the first `top_n` of `ranked` that reach the score threshold.
        ranked: Every candidate in its new order; nothing is dropped here.
        plan: How the prompt was filled; None for no candidates.
        usage: Forwards and tokens spent by this call.
        seconds: Wall time of the call; within `rank_many`, of the whole call.
        query_vector: The unit vector that the scores are cosines to, shape (width,); None where the order was kept.
        query_similarity: cos(plain query, listwise prompt), where the plain query's vector is known. A low
            value says that the listed documents drew the query far away.
        error: The failure after which the order was kept; None where the ranking is the model's.
    """

    results: tuple[RankedCandidate, ...]
    ranked: tuple[RankedCandidate, ...]
    plan: PromptPlan | None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    query_vector: Vector | None = field(default=None, repr=False)
    query_similarity: float | None = None
    error: Exception | None = None

    @property
    def kept_order(self) -> bool:
        """Whether a failure was absorbed and the candidates are in the order they came in."""
        return self.error is not None

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, index: int) -> RankedCandidate: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RankedCandidate, ...]: ...
    def __getitem__(self, index: int | slice) -> RankedCandidate | tuple[RankedCandidate, ...]:
        return self.results[index]

    def __repr__(self) -> str:
        return display.as_text(self)

    def _repr_html_(self) -> str:
        return display.as_html(self)
