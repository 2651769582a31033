"""The fields that components of every framework share; components that name the same model share its weights.

Needs pydantic, which the frameworks bring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, SkipValidation, StrictFloat, StrictInt, model_validator

from e2rank_integrations.bundle import bundle_of
from e2rank_integrations.caches.base import DocumentCache
from e2rank_integrations.encoder import DEFAULT_MODEL, E2RankEncoder
from e2rank_integrations.engines.base import Engine
from e2rank_integrations.engines.prefixes import PrefixCache
from e2rank_integrations.engines.registry import DType
from e2rank_integrations.errors import InputError
from e2rank_integrations.profiles import ListwiseTemplate, Profile
from e2rank_integrations.reranker import OnError, Reranker
from e2rank_integrations.stores import FINGERPRINT_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable

Item = TypeVar("Item")

_NAMING = (
    *("model", "revision", "adapter", "listwise_adapter", "device", "dtype"),
    *("custom_engine", "document_cache", "prefix_cache"),
)


class ModelFields(BaseModel):
    """A model by name, or a ready encoder.

    `encoder` is always set after construction. Task strings, template and profile are put on top of the one given.
    """

    model: str = DEFAULT_MODEL
    """Name on the hub, local folder, or `embedded` (all-MiniLM-L6-v2, offline)."""

    revision: str | None = None
    """Branch, tag or commit on the hub."""

    adapter: str | None = None
    """Folder of a LoRA adapter to merge into the weights."""

    listwise_adapter: str | None = "auto"
    """Folder of a LoRA adapter for listwise prompts alone; `auto` is the one that comes with the model, if any."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""

    dtype: DType = "auto"
    """`auto` is bfloat16 where the hardware computes in it, else float32."""

    profile: Profile | None = None
    """What the checkpoint wants; None for that of the E2Rank family, or of `embedded`."""

    query_instruction: str | None = None
    """Task string of plain queries, instead of the profile's."""

    rerank_instruction: str | None = None
    """Task string of the listwise prompt, instead of the profile's."""

    template: str | ListwiseTemplate | None = None
    """The listwise message by name (`paper`, `readme`, `training`, `insertrank`) or your own; None: the profile's."""

    custom_engine: SkipValidation[Engine] | None = Field(default=None, repr=False, exclude=True)
    """Where to run the model instead of in this process, a `RemoteEngine` for one; weights need not be here."""

    document_cache: InstanceOf[DocumentCache] | None = Field(default=None, repr=False, exclude=True)
    """Where documents' vectors are kept between calls: a `MemoryCache` or a `DiskCache`, which components may share."""

    prefix_cache: InstanceOf[PrefixCache] | None = Field(default=None, repr=False, exclude=True)
    """Where keys and values of document blocks are kept, so that another query on the same candidates costs its own
    tokens alone; for E2Rank's own models, in this process."""

    encoder: InstanceOf[E2RankEncoder] = Field(default=None, repr=False, exclude=True)  # type: ignore[assignment]  # set below
    """A ready encoder, to share one with other components."""

    settled: ClassVar[frozenset[str]] = frozenset(
        {*_NAMING, "profile", "query_instruction", "rerank_instruction", "template", "encoder"}
    )
    """Fields that cannot be assigned to, since what was made of them would not follow."""

    model_config = ConfigDict(
        extra="forbid",
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        populate_by_name=True,
        hide_input_in_errors=True,  # a task string is the user's text
    )

    @model_validator(mode="before")
    @classmethod
    def _one_model(cls, values: Any) -> Any:  # noqa: ANN401 - whatever pydantic was given
        """Let a ready encoder fill the fields that name a model, and refuse a name that contradicts it."""
        encoder = values.get("encoder") if isinstance(values, dict) else None
        if not isinstance(encoder, E2RankEncoder):
            return values
        other = [name for name in _NAMING if name in values and values[name] != getattr(encoder, name)]
        if other:
            raise InputError(f"encoder: it has another {other[0]} than the one given beside it; leave {other[0]} out")
        return {**values, **{name: getattr(encoder, name) for name in _NAMING}}

    @model_validator(mode="after")
    def _with_encoder(self) -> Self:
        named = {name: getattr(self, name) for name in _NAMING}
        encoder = E2RankEncoder(**named) if self.encoder is None else self.encoder
        self._settle(replace(encoder, profile=self._worded(self.profile or encoder.profile)))
        return self

    def _settle(self, encoder: E2RankEncoder) -> None:
        """Take an encoder; `profile` then holds what is its own, so that a dump of the component says it all."""
        own = None if encoder.profile == bundle_of(encoder.model).profile else encoder.profile
        self.__dict__.update(encoder=encoder, profile=own)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse to rename a model that is settled; a new component costs nothing."""
        if name in self.settled:
            raise InputError(f"{name}: it is settled when {type(self).__name__} is made; make a new one")
        super().__setattr__(name, value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; what is settled at construction cannot be updated."""
        refused = sorted(self.settled & set(update or ()))
        if refused:
            raise InputError(f"{refused[0]}: it is settled when {type(self).__name__} is made; make a new one")
        return super().model_copy(update=update, deep=deep)

    def _worded(self, profile: Profile) -> Profile:
        """The profile with this component's own task strings and template."""
        given = {"query": self.query_instruction, "listwise": self.rerank_instruction}
        tasks = replace(profile.tasks, **{name: text for name, text in given.items() if text is not None})
        profile = replace(profile, tasks=tasks)
        return profile if self.template is None else profile.with_template(self.template)


class EmbeddingFields(ModelFields):
    """A model that makes the vectors of an index."""

    def collection_metadata(self) -> dict[str, str]:
        """For a new Chroma collection: the fingerprint by which another model's vectors are found out at once."""
        return {FINGERPRINT_KEY: self.encoder.fingerprint.to_json()}


def with_model_of(values: Any, source: ModelFields | None, name: str) -> Any:  # noqa: ANN401 - whatever pydantic was given
    """The values of a component that takes its model from another one, instead of naming it again."""
    if source is None:
        return values
    encoder = values.get("encoder")
    if encoder is None:
        return {**values, "encoder": source.encoder}
    if isinstance(encoder, E2RankEncoder) and replace(encoder, profile=source.encoder.profile) != source.encoder:
        raise InputError(f"encoder: it is another than that of {name}; give one of the two")
    return values


def expect_all(items: Iterable[Item], kind: type[Item], what: str, listed: str) -> list[Item]:
    """The items as a list.

    Args:
        items: What was given.
        kind: What each must be.
        what: How messages call one.
        listed: How messages call a list of them.

    Raises:
        InputError: no list, or a member of another kind, with its position.
    """
    if isinstance(items, str | Mapping) or not hasattr(items, "__iter__"):
        raise InputError(f"{what}s: expected a list of {listed}, found {type(items).__name__}")
    items = list(items)
    for position, item in enumerate(items):
        if not isinstance(item, kind):
            raise InputError(f"{what} {position}: expected a {kind.__name__}, found {type(item).__name__}")
    return items


class RerankFields(ModelFields):
    """A model, and how to rerank with it."""

    top_n: StrictInt | None = None
    """Results to return, at least 1; None for all."""

    num_input_docs: StrictInt | None = None
    """Candidates listed in the prompt; the profile's by default."""

    query_weight: StrictFloat | None = None
    """Share of the plain query in the query vector, in [0, 1]; the profile's by default."""

    score_threshold: StrictFloat | None = None
    """Least cosine of a result, in [-1, 1]."""

    on_error: OnError = "raise"
    """On a transient failure, raise it or return the candidates in the order given."""

    @model_validator(mode="after")
    def _with_good_options(self) -> Self:
        _ = self.core
        return self

    @property
    def core(self) -> Reranker:
        """The framework-free reranker that does the work, with the options as they are now."""
        return Reranker(
            self.encoder,
            top_n=self.top_n,
            num_input_docs=self.num_input_docs,
            query_weight=self.query_weight,
            score_threshold=self.score_threshold,
            on_error=self.on_error,
        )
