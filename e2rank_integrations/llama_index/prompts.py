"""The words of the listwise prompt as LlamaIndex's prompt templates."""

from __future__ import annotations

from dataclasses import replace
from string import Formatter
from typing import TYPE_CHECKING

from llama_index.core.prompts import PromptTemplate

from e2rank_integrations.errors import ProfileError

if TYPE_CHECKING:
    from llama_index.core.prompts import BasePromptTemplate
    from llama_index.core.prompts.mixin import PromptDictType

    from e2rank_integrations.profiles import ListwiseTemplate, Profile

INSTRUCTION = "rerank_instruction"
MESSAGE = "listwise_message"
LINE = "listwise_line"
_DOCUMENTS = "{documents}"


def prompts_of(profile: Profile) -> PromptDictType:
    """The instruction, the message around the documents, and the line of one document."""
    template = profile.template
    return {
        INSTRUCTION: PromptTemplate(profile.tasks.listwise.replace("{", "{{").replace("}", "}}")),
        MESSAGE: PromptTemplate(template.head + _DOCUMENTS + template.tail),
        LINE: PromptTemplate(template.line),
    }


def reworded(profile: Profile, prompts: PromptDictType) -> Profile:
    """The profile in other words.

    Raises:
        ProfileError: an unknown prompt, or one without the fields it needs.
    """
    unknown = sorted(set(prompts) - {INSTRUCTION, MESSAGE, LINE})
    if unknown:
        raise ProfileError(f"no prompt is named {unknown[0]!r}; expected {INSTRUCTION}, {MESSAGE} or {LINE}")
    texts = {name: _text(prompt) for name, prompt in prompts.items()}
    template, tasks = profile.template, profile.tasks
    if MESSAGE in texts:
        template = _around_documents(template, texts[MESSAGE])
    if LINE in texts:
        template = replace(template, line=texts[LINE])
    if INSTRUCTION in texts:
        tasks = replace(tasks, listwise=_literal(texts[INSTRUCTION]))
    own = replace(template, name="own") if {MESSAGE, LINE} & set(texts) else template
    return replace(profile, template=own, tasks=tasks)


def _text(prompt: BasePromptTemplate) -> str:
    return str(prompt.get_template())


def _around_documents(template: ListwiseTemplate, message: str) -> ListwiseTemplate:
    head, found, tail = message.partition(_DOCUMENTS)
    if not found or _DOCUMENTS in tail:
        raise ProfileError(f"{MESSAGE}: expected {_DOCUMENTS} once, found it {message.count(_DOCUMENTS)} times")
    return replace(template, head=head, tail=tail)


def _literal(text: str) -> str:
    """The text of a template that has no field."""
    parts = list(Formatter().parse(text))
    if any(name is not None for _, name, _, _ in parts):
        raise ProfileError(f"{INSTRUCTION}: it has no field to fill; write a literal brace twice")
    return "".join(literal for literal, _, _, _ in parts)
