"""The words of the listwise prompt as LlamaIndex's prompt templates."""

from __future__ import annotations

from dataclasses import replace
from string import Formatter
from typing import TYPE_CHECKING

from llama_index.core.prompts import PromptTemplate

from e2rank_integrations.errors import ProfileError

if TYPE_CHECKING:
    from llama_index.core.prompts.mixin import PromptDictType

    from e2rank_integrations.profiles import ListwiseTemplate, Profile

INSTRUCTION = "rerank_instruction"
MESSAGE = "listwise_message"
LINE = "listwise_line"


def prompts_of(profile: Profile) -> PromptDictType:
    """The instruction, the message around the documents, and the line of one document."""
    template = profile.template
    return {
        INSTRUCTION: PromptTemplate(profile.tasks.listwise.replace("{", "{{").replace("}", "}}")),
        MESSAGE: PromptTemplate(template.head + "{documents}" + template.tail),
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
    texts = {name: _text(name, prompt) for name, prompt in prompts.items()}
    template, tasks = profile.template, profile.tasks
    if MESSAGE in texts:
        template = _around_documents(template, texts[MESSAGE])
    if LINE in texts:
        template = replace(template, line=texts[LINE])
    if INSTRUCTION in texts:
        tasks = replace(tasks, listwise=_literal(texts[INSTRUCTION]))
    own = template if template == profile.template else replace(template, name="own")
    return replace(profile, template=own, tasks=tasks)


def _text(name: str, prompt: object) -> str:
    if not isinstance(prompt, PromptTemplate):
        raise ProfileError(f"{name}: expected PromptTemplate('…'), found {type(prompt).__name__}")
    if prompt.kwargs or prompt.template_var_mappings or prompt.function_mappings:
        raise ProfileError(f"{name}: expected a PromptTemplate of words alone; put the values into them")
    return prompt.template


def _around_documents(template: ListwiseTemplate, message: str) -> ListwiseTemplate:
    """The template with what stands before and after the documents; a doubled brace is none."""
    head, *tails = _parted(message)
    if len(tails) != 1:
        raise ProfileError(f"{MESSAGE}: expected {{documents}} once, found it {len(tails)} times")
    return replace(template, head=head, tail=tails[0])


def _parted(message: str) -> list[str]:
    pieces = [""]
    for literal, name, spec, conversion in _parsed(MESSAGE, message):
        pieces[-1] += literal.replace("{", "{{").replace("}", "}}")
        if name == "documents" and not spec and not conversion:
            pieces.append("")
        elif name is not None:
            pieces[-1] += "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
    return pieces


def _literal(text: str) -> str:
    """The text of a template that has no field."""
    parts = _parsed(INSTRUCTION, text)
    if any(name is not None for _, name, _, _ in parts):
        raise ProfileError(f"{INSTRUCTION}: it has no field to fill; write a literal brace twice")
    return "".join(literal for literal, _, _, _ in parts)


def _parsed(name: str, text: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(Formatter().parse(text))
    except ValueError as error:
        raise ProfileError(f"{name}: not a format string ({error}); write a literal brace twice") from error
