"""What a checkpoint wants: its formats, pooling, caps and defaults. Data only.

Formats are strings in which the control tokens of the checkpoint's tokenizer are written by name
(`<|im_start|>`, `[CLS]`). They are ours, so those names become control tokens; whatever fills a `{field}` is
the user's, and never does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from string import Formatter
from typing import TYPE_CHECKING, Literal

from e2rank_integrations.errors import ProfileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet
    from types import UnionType

Pooling = Literal["last", "mean", "cls"]
"""How the states of a sequence become one vector: that of its last token, their mean, that of its first token."""

QUERY_TASK = "Given a web search query, retrieve relevant passages that answer the query"
LISTWISE_TASK = "Given a web search query and some relevant documents, rerank the documents that answer the query"
REFERENCE_WORDS = 1024
"""Words that the reference's evaluation keeps of a document, whitespace collapsed."""


def _expect_fields(
    where: str, text: str, required: AbstractSet[str] = frozenset(), optional: AbstractSet[str] = frozenset()
) -> None:
    _expect_instance(where, text, str)
    try:
        parsed = [item for item in Formatter().parse(text) if item[1] is not None]
    except ValueError as error:
        raise ProfileError(f"{where}: not a format string ({error}); write a literal brace twice") from error
    found = [name for _, name, _, _ in parsed if name is not None]
    if any(spec or conversion for _, _, spec, conversion in parsed):
        raise ProfileError(f"{where}: a field is filled as it is; leave `!` and `:` out of the braces")
    unknown = set(found) - required - optional
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in sorted(required | optional)) or "no field"
        raise ProfileError(f"{where}: unknown field {{{min(unknown)}}}; it may hold {known}")
    for name in required:
        if found.count(name) != 1:
            raise ProfileError(f"{where}: expected {{{name}}} once, found it {found.count(name)} times")


def _expect_instance(where: str, value: object, kind: type | UnionType) -> None:
    if not isinstance(value, kind):
        raise ProfileError(f"{where}: expected {getattr(kind, '__name__', kind)}, found {type(value).__name__}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInstructions:
    """The task strings of one data set: of the plain query, of the listwise prompt, and the documents' noun."""

    query: str = QUERY_TASK
    listwise: str = LISTWISE_TASK
    noun: str = "Documents"


@cache
def task_instructions() -> Mapping[str, TaskInstructions]:
    """The reference's task strings by the name of their data set (`scifact`, `bright-biology`, …)."""
    table = json.loads(resources.files(__package__).joinpath("tasks.json").read_text(encoding="utf-8"))
    return {name: TaskInstructions(**row) for name, row in table.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListwiseTemplate:
    """The message that lists the documents and then the query (paper, appendix C).

    Lines are encoded one by one, so a line must begin with something other than whitespace, and what stands
    before each line must end with a newline or a control token.

    Attributes:
        name: How errors and figures call it.
        head: Fields `{task}` and `{noun}`.
        line: One listed document: fields `{position}` (from 1), `{document}` and `{score}`, the first stage's score
            of the document with two decimals.
        separator: Between two lines.
        tail: Field `{query}`.
        collapse_whitespace: Whether runs of whitespace in a listed document become one space, so that no
            document can add a line of its own. Its embedding is not affected.
    """

    name: str
    head: str = "{task}:\n{noun}:\n"
    line: str = "[{position}] {document}\n"
    separator: str = ""
    tail: str = "Search Query: {query}"
    collapse_whitespace: bool = False

    def __post_init__(self) -> None:
        _expect_fields(f"template {self.name!r}, head", self.head, optional={"task", "noun"})
        _expect_fields(f"template {self.name!r}, line", self.line, {"document"}, {"position", "score"})
        _expect_fields(f"template {self.name!r}, separator", self.separator)
        _expect_fields(f"template {self.name!r}, tail", self.tail, {"query"}, {"task", "noun"})

    @property
    def shows_scores(self) -> bool:
        """Whether a listed document's line holds its first-stage score."""
        return any(name == "score" for _, name, _, _ in Formatter().parse(self.line))


TEMPLATES: Mapping[str, ListwiseTemplate] = {
    template.name: template
    for template in (
        ListwiseTemplate(name="paper", collapse_whitespace=True),
        ListwiseTemplate(
            name="readme",
            line="[{position}] {document}<|endoftext|>",
            separator="\n",
            tail="Search Query:{query}",
        ),
        ListwiseTemplate(name="training", tail="Query: {query}<|endoftext|>"),
        ListwiseTemplate(
            name="insertrank", line="[{position}] (BM25 score: {score}) {document}\n", collapse_whitespace=True
        ),
    )
}
"""The three forms in which the authors write the prompt (the published figures come from `paper`), and `insertrank`.

`insertrank` is `paper` with each candidate's BM25 score in its line, after InsertRank (arXiv 2506.14086), which did so
with generative rerankers. The wording is ours, and E2Rank was not trained on it.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Limits in tokens, control tokens and position marks included.

    Attributes:
        document: A document's embedding.
        listed: A document's line in the prompt.
        prompt: The whole prompt.
        query: A plain query; a longer one is an error, since a query is never cut.
        floor: What a listed document keeps at least; rather than cutting below it, fewer are listed.
        query_step: Room for the query is reserved in multiples of this, so that the document block does not
            change with the length of the query.
    """

    document: int = 8192
    listed: int = 1024
    prompt: int = 32768
    query: int = 32768
    floor: int = 64
    query_step: int = 128

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not _is_count(getattr(self, name)):
                raise ProfileError(f"cap {name!r} must be an integer of at least 1, found {getattr(self, name)!r}")
        if not self.floor <= self.listed <= self.prompt:
            raise ProfileError(
                f"caps must grow from floor to listed to prompt, found {self.floor}, {self.listed}, {self.prompt}"
            )


SMALL_CAPS = Caps(document=512, listed=128, prompt=4096, query=512, floor=32)
"""For CPUs: an eighth of the default prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a checkpoint wants.

    Attributes:
        name: How errors and fingerprints call it.
        architecture: The `model_type` that the checkpoint's config must state; None for any.
        pooling: Hidden state of the last token, of the first, or the mean over all tokens.
        document_format: A document's embedding: field `{document}`.
        query_format: A plain query: fields `{task}` and `{query}`.
        prompt_format: The listwise prompt: field `{message}`, filled with the template.
        template: The message.
        tasks: Task strings and the documents' noun.
        caps: Limits in tokens.
        num_input_docs: Candidates listed in the prompt, k in the paper.
        query_weight: Share w of the plain query in `normalise(w·e_q + (1−w)·e_q̂)`, in [0, 1].
        document_words: Collapse whitespace and keep this many words of every document, embedded or listed,
            as the reference's evaluation does; None to keep texts as they are.
    """

    name: str
    architecture: str | None = None
    pooling: Pooling = "last"
    document_format: str
    query_format: str
    prompt_format: str
    template: ListwiseTemplate = TEMPLATES["paper"]
    tasks: TaskInstructions = field(default_factory=TaskInstructions)
    caps: Caps = field(default_factory=Caps)
    num_input_docs: int = 20
    query_weight: float = 0.0
    document_words: int | None = None

    def __post_init__(self) -> None:
        where = f"profile {self.name!r}"
        _expect_fields(f"{where}, document_format", self.document_format, {"document"})
        _expect_fields(f"{where}, query_format", self.query_format, {"query"}, {"task"})
        _expect_fields(f"{where}, prompt_format", self.prompt_format, {"message"})
        if self.pooling not in {"last", "mean", "cls"}:
            raise ProfileError(f"{where}: pooling must be 'last', 'mean' or 'cls', found {self.pooling!r}")
        _expect_instance(f"{where}, template", self.template, ListwiseTemplate)
        _expect_instance(f"{where}, query_weight", self.query_weight, int | float)
        if not 0 <= self.query_weight <= 1:
            raise ProfileError(f"{where}: query_weight must lie in [0, 1], found {self.query_weight}")
        for name in ("num_input_docs", "document_words"):
            value = getattr(self, name)
            if not _is_count(value) and (name, value) != ("document_words", None):
                raise ProfileError(f"{where}: {name} must be an integer of at least 1, found {value!r}")

    def for_task(self, name: str) -> Profile:
        """This profile with the reference's task strings for a data set, see `task_instructions`."""
        if name not in task_instructions():
            raise ProfileError(f"no task named {name!r}; expected one of {', '.join(task_instructions())}")
        return replace(self, tasks=task_instructions()[name])

    def with_template(self, template: str | ListwiseTemplate) -> Profile:
        """This profile with another message, by name (one of `TEMPLATES`) or of your own."""
        if isinstance(template, str):
            if template not in TEMPLATES:
                raise ProfileError(f"no template named {template!r}; expected one of {', '.join(TEMPLATES)}")
            template = TEMPLATES[template]
        return replace(self, template=template)

    def for_reproduction(self) -> Profile:
        """This profile with the reference evaluation's rewriting of documents, for the published figures."""
        return replace(self, document_words=REFERENCE_WORDS)


E2RANK = Profile(
    name="e2rank",
    architecture="qwen3",
    pooling="last",
    document_format="{document}<|endoftext|>",
    query_format="Instruct: {task}\nQuery:{query}<|endoftext|>",
    prompt_format=("<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
)
"""Every checkpoint of the E2Rank family."""

E2RANK_SMALL = replace(E2RANK, name="e2rank-small", caps=SMALL_CAPS)
"""E2Rank with caps for CPUs."""

EMBEDDED = Profile(
    name="embedded",
    architecture="bert",
    pooling="mean",
    document_format="[CLS]{document}[SEP]",
    query_format="[CLS]{query}[SEP]",
    prompt_format="[CLS]{message}[SEP]",
    template=ListwiseTemplate(
        name="embedded", head="", line="{document}[SEP]", tail="{query}", collapse_whitespace=True
    ),
    caps=Caps(document=256, listed=80, prompt=512, query=512, floor=24, query_step=1),
    num_input_docs=3,
    query_weight=0.6,
)
"""all-MiniLM-L6-v2 and the listwise adapter that comes with this package.

The adapter was trained on prompts of 256 tokens, so a listed document gets 80. The last two numbers were chosen on
development sets; the curves are in docs/embedded-figures.md.
"""

PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in (E2RANK, E2RANK_SMALL, EMBEDDED)}
"""Every profile of this package, by name."""
