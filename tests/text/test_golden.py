"""The ids of every kind of input, one for one, against those frozen from the reference."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from e2rank_integrations.profiles import E2RANK, REFERENCE_WORDS, TEMPLATES, Caps, TaskInstructions, task_instructions
from e2rank_integrations.text.prompts import InputWriter
from tests.golden import reference
from tests.golden.freeze import PATH, freeze
from tests.golden.inputs import LONG_TEXTS, TASKS, TEXTS
from tests.support.qwen import qwen_ranks
from tests.text.oracle import nfc

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from e2rank_integrations.text.tokenizer import LiteralTokenizer

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads(PATH.read_text(encoding="utf-8"))
ALL_TEXTS = {**TEXTS, **LONG_TEXTS}
WINDOW = 32768


def cases(kind: str) -> Any:
    """Parametrise over the frozen cases of a kind."""
    return pytest.mark.parametrize("case", GOLDEN[kind], ids=_name)


def _name(case: dict[str, Any]) -> str:
    wanted = ("template", "text", "task", "words", "cap", "prompt", "listed", "query")
    return "-".join(str(case[key]) for key in wanted if case.get(key) is not None)


def writer(qwen: LiteralTokenizer, case: dict[str, Any], caps: Caps | None = None) -> InputWriter:
    """A writer of the profile that a case asks for."""
    profile = E2RANK.with_template(case.get("template", "paper"))
    tasks = TaskInstructions(**TASKS[case.get("task", "default")])
    return InputWriter(
        replace(profile, tasks=tasks, document_words=case.get("words"), caps=caps or Caps()), qwen, WINDOW
    )


def test_the_file_holds_what_the_reference_gives_now(hf_qwen: PreTrainedTokenizerBase) -> None:
    """The frozen ids come from the reference's strings and AutoTokenizer, and nobody edited them since."""
    assert freeze(hf_qwen) == GOLDEN


def test_the_file_is_broad() -> None:
    """At least 50 texts are frozen as a document, as a query, and in each of the templates."""
    assert len(TEXTS) >= 50
    assert {case["text"] for case in GOLDEN["documents"] if case["words"] is None} == set(ALL_TEXTS)
    assert {case["text"] for case in GOLDEN["queries"] if case["task"] == "default"} == set(TEXTS)
    for template in TEMPLATES:
        listed = {name for case in GOLDEN["prompts"] if case["template"] == template for name in case["texts"]}
        assert listed >= set(TEXTS)


def test_the_control_tokens_are_those_of_qwen3() -> None:
    """The ids that the paper's formats need, as the model's card states them."""
    closing = [151645, 198, 151644, 77091, 198, 151667, 271, 151668, 271]
    assert all(case["ids"][-1] == 151643 for case in GOLDEN["documents"] + GOLDEN["queries"])
    assert all(case["ids"][:3] == [151644, 872, 198] for case in GOLDEN["prompts"] if case["task"] != "own")
    assert all(case["ids"][-len(closing) :] == closing for case in GOLDEN["prompts"] + GOLDEN["cut_prompts"])


def test_the_frozen_task_strings_are_the_package_s() -> None:
    """The default and a data set's strings, noun included, are what the profile uses under those names."""
    assert TaskInstructions(**TASKS["default"]) == TaskInstructions() == E2RANK.tasks
    assert TaskInstructions(**TASKS["touche"]) == task_instructions()["touche"] == E2RANK.for_task("touche").tasks
    assert reference.REFERENCE_WORDS == REFERENCE_WORDS == E2RANK.for_reproduction().document_words


@cases("documents")
def test_document(qwen: LiteralTokenizer, case: dict[str, Any]) -> None:
    """A document's ids are those of the text and EOS, the reference's rewriting included where asked for."""
    ours = writer(qwen, case)
    assert list(ours.cut_document(ours.document(ALL_TEXTS[case["text"]])).ids) == case["ids"]


@cases("queries")
def test_query(qwen: LiteralTokenizer, case: dict[str, Any]) -> None:
    """A query's ids are those of the instruction, the query and EOS in one string."""
    assert list(writer(qwen, case).query(TEXTS[case["text"]]).ids) == case["ids"]


@cases("prompts")
def test_prompt(qwen: LiteralTokenizer, case: dict[str, Any]) -> None:
    """A prompt's ids are those of the rendered chat in one string, in each of the templates."""
    texts = [ALL_TEXTS[name] for name in case["texts"]]
    prompt, plan = writer(qwen, case).listwise(TEXTS[case["query"]], texts, 20, reference.scores(len(texts)))
    assert list(prompt.ids) == case["ids"]
    assert plan.documents_truncated == 0


@cases("cut_documents")
def test_cut_document(qwen: LiteralTokenizer, case: dict[str, Any]) -> None:
    """Above its cap a document loses ids from its end, whole characters at a time; EOS stays and is last."""
    ours = writer(qwen, case, Caps(document=case["cap"]))
    assert list(ours.cut_document(ours.document(TEXTS[case["text"]])).ids) == case["ids"]


@cases("cut_prompts")
def test_cut_prompt(qwen: LiteralTokenizer, case: dict[str, Any]) -> None:
    """Above the caps every line is cut at a character's end and closed again; query and closing stay whole."""
    caps = Caps(prompt=case["prompt"], listed=case["listed"], floor=case["floor"])
    texts = [TEXTS[name] for name in case["texts"]]
    prompt, plan = writer(qwen, case, caps).listwise(
        TEXTS[case["query"]], texts, len(texts), reference.scores(len(texts))
    )
    assert list(prompt.ids) == case["ids"]
    assert plan.documents_truncated > 0


def test_the_cut_prompts_differ_in_what_binds(qwen: LiteralTokenizer) -> None:
    """The frozen budgets show each way of fitting: the profile's cap, a shared room, fewer documents."""
    plans = []
    for case in GOLDEN["cut_prompts"]:
        caps = Caps(prompt=case["prompt"], listed=case["listed"], floor=case["floor"])
        texts = [TEXTS[name] for name in case["texts"]]
        plans.append(
            writer(qwen, case, caps).listwise(TEXTS[case["query"]], texts, len(texts), reference.scores(len(texts)))[1]
        )
    assert any(plan.cap_used == plan.cap_asked for plan in plans)
    assert any(plan.cap_used < plan.cap_asked and plan.documents_used == plan.documents_asked for plan in plans)
    assert any(plan.documents_used < plan.documents_asked for plan in plans)


@pytest.mark.parametrize("name", ALL_TEXTS)
def test_literal_ids_are_those_of_tiktoken(qwen: LiteralTokenizer, name: str) -> None:
    """A second implementation of the same ranks gives the same ids for the composed text."""
    text = ALL_TEXTS[name]
    assert list(qwen.literal(text).ids) == qwen_ranks().encode_ordinary(nfc(text))
