"""The fields by which a LangChain component names its model; components that name the same share its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, model_validator

from e2rank_integrations.encoder import DEFAULT_MODEL, E2RankEncoder
from e2rank_integrations.engines.registry import DType
from e2rank_integrations.errors import InputError
from e2rank_integrations.profiles import ListwiseTemplate, Profile

if TYPE_CHECKING:
    from collections.abc import Mapping


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

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""

    dtype: DType = "auto"
    """`auto` is bfloat16 where the hardware computes in it, else float32."""

    profile: InstanceOf[Profile] | None = None
    """What the checkpoint wants; by default that of the E2Rank family, or of `embedded`."""

    query_instruction: str | None = None
    """Task string of plain queries, instead of the profile's."""

    rerank_instruction: str | None = None
    """Task string of the listwise prompt, instead of the profile's."""

    template: str | InstanceOf[ListwiseTemplate] | None = None
    """The listwise message, by name (`paper`, `readme`, `training`) or of your own, instead of the profile's."""

    encoder: InstanceOf[E2RankEncoder] = Field(default=None, repr=False, exclude=True)  # type: ignore[assignment]  # set below
    """A ready encoder, to share one with other components."""

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), populate_by_name=True
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
        self.__dict__["encoder"] = replace(encoder, profile=self._worded(self.profile or encoder.profile))
        return self

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse to rename a model that is settled; a new component costs nothing."""
        if name in _SETTLED:
            raise InputError(f"{name}: it is settled when {type(self).__name__} is made; make a new one")
        super().__setattr__(name, value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; what is settled at construction cannot be updated."""
        settled = sorted(_SETTLED & set(update or ()))
        if settled:
            raise InputError(f"{settled[0]}: it is settled when {type(self).__name__} is made; make a new one")
        return super().model_copy(update=update, deep=deep)

    def _worded(self, profile: Profile) -> Profile:
        """The profile with this component's own task strings and template."""
        given = {"query": self.query_instruction, "listwise": self.rerank_instruction}
        tasks = replace(profile.tasks, **{name: text for name, text in given.items() if text is not None})
        profile = replace(profile, tasks=tasks)
        return profile if self.template is None else profile.with_template(self.template)


_NAMING = ("model", "revision", "adapter", "device", "dtype")
_SETTLED = {*_NAMING, "profile", "query_instruction", "rerank_instruction", "template", "encoder", "embeddings"}
