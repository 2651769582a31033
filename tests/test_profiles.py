"""Profiles and templates: what they refuse at construction, and how one is made from another."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from e2rank_integrations.encoder import E2RankEncoder
from e2rank_integrations.errors import E2RankError, ProfileError
from e2rank_integrations.profiles import (
    E2RANK,
    E2RANK_SMALL,
    EMBEDDED,
    SMALL_CAPS,
    TEMPLATES,
    Caps,
    ListwiseTemplate,
    Profile,
    TaskInstructions,
    task_instructions,
)

FORMATS: dict[str, Any] = {
    "name": "own",
    "document_format": "{document}<|endoftext|>",
    "query_format": "{task} {query}<|endoftext|>",
    "prompt_format": "{message}<|endoftext|>",
}


# The family's own profiles


def test_the_defaults_are_those_of_the_method() -> None:
    """k = 20, the plain query weighs nothing, last token, and the template of the published figures."""
    assert (E2RANK.num_input_docs, E2RANK.query_weight, E2RANK.pooling) == (20, 0.0, "last")
    assert (E2RANK.architecture, E2RANK.template.name, E2RANK.document_words) == ("qwen3", "paper", None)
    assert EMBEDDED.query_weight <= 0.9
    assert (EMBEDDED.pooling, EMBEDDED.architecture) == ("mean", "bert")


def test_the_default_caps() -> None:
    """Document, listed document, prompt and floor of each profile, in tokens."""
    assert [_limits(profile) for profile in (E2RANK, E2RANK_SMALL)] == [(8192, 1024, 32768, 64), (512, 128, 4096, 32)]
    assert _limits(EMBEDDED) == (256, 80, 512, 24)
    assert E2RANK.caps.query_step == 128
    assert replace(E2RANK_SMALL, name="e2rank", caps=Caps()) == E2RANK


def _limits(profile: Profile) -> tuple[int, int, int, int]:
    return profile.caps.document, profile.caps.listed, profile.caps.prompt, profile.caps.floor


def test_an_encoder_takes_the_profile_of_its_model() -> None:
    """E2Rank's for a hub name or a folder, the embedded one's for `embedded`, the caller's where given."""
    assert E2RankEncoder().profile is E2RANK
    assert E2RankEncoder("some/checkpoint").profile is E2RANK
    assert E2RankEncoder.embedded().profile is EMBEDDED
    assert E2RankEncoder("some/checkpoint", E2RANK_SMALL).profile is E2RANK_SMALL


@pytest.mark.parametrize("profile", [E2RANK, E2RANK_SMALL, EMBEDDED], ids=lambda profile: profile.name)
def test_a_profile_is_a_value(profile: Profile) -> None:
    """It compares by content, hashes, pickles, and cannot be changed."""
    copy = pickle.loads(pickle.dumps(profile))
    assert copy == profile
    assert hash(copy) == hash(profile)
    with pytest.raises(FrozenInstanceError):
        profile.num_input_docs = 3  # type: ignore[misc]


# One profile from another


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_by_name(name: str) -> None:
    """The three published templates, and `insertrank`, are known by name; nothing else of the profile changes."""
    chosen = E2RANK.with_template(name)
    assert chosen.template is TEMPLATES[name]
    assert chosen.template.name == name
    assert replace(chosen, template=E2RANK.template) == E2RANK


def test_only_paper_and_its_kin_rewrite_what_they_list() -> None:
    """Whitespace is collapsed in `paper` and `insertrank`; the others list texts as they are."""
    assert [name for name, template in TEMPLATES.items() if template.collapse_whitespace] == ["paper", "insertrank"]
    assert not ListwiseTemplate(name="own").collapse_whitespace


def test_a_template_of_one_s_own() -> None:
    """It is taken as it is."""
    own = ListwiseTemplate(name="own", line="<{position}> {document}\n")
    assert E2RANK.with_template(own).template is own


def test_insertrank_is_paper_with_a_score_in_each_line() -> None:
    """Head, tail and whitespace are `paper`'s; it alone of the named templates shows scores."""
    paper, insertrank = TEMPLATES["paper"], TEMPLATES["insertrank"]
    assert insertrank.line.replace("(BM25 score: {score}) ", "") == paper.line
    assert replace(insertrank, name="paper", line=paper.line) == paper
    assert [name for name, template in TEMPLATES.items() if template.shows_scores] == ["insertrank"]


def test_a_template_shows_scores_where_its_line_has_the_field() -> None:
    """Once, twice, or not at all; a doubled brace is none."""
    assert ListwiseTemplate(name="own", line="{score}: {document} ({score})\n").shows_scores
    assert not ListwiseTemplate(name="own", line="{{score}}: {document}\n").shows_scores
    with pytest.raises(ProfileError, match=r"\{score\}"):
        ListwiseTemplate(name="own", tail="{query} {score}")


@pytest.mark.parametrize("name", ["Paper", "", "no such"])
def test_an_unknown_template_lists_the_known(name: str) -> None:
    """The error names what was asked for and what there is."""
    with pytest.raises(ProfileError) as caught:
        E2RANK.with_template(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in TEMPLATES)


@pytest.mark.parametrize("template", [None, 3, {"name": "own"}], ids=ascii)
def test_what_is_no_template_is_refused(template: object) -> None:
    """Rather than fail at the first prompt."""
    with pytest.raises(ProfileError):
        E2RANK.with_template(template)  # type: ignore[arg-type]


def test_task_strings_by_the_name_of_a_data_set() -> None:
    """A data set's name sets both instructions and the noun, and nothing else."""
    chosen = E2RANK.for_task("bright-biology")
    assert chosen.tasks == TaskInstructions(
        query="Given a post, retrieve relevant passages that help answer the post",
        listwise="Given a biology post and some relevant passages, rerank the passages that help answer the post",
        noun="Passages",
    )
    assert replace(chosen, tasks=E2RANK.tasks) == E2RANK


def test_every_data_set_of_the_reference_is_there() -> None:
    """The 22 data sets, each with three strings that a prompt can hold on one line."""
    table = task_instructions()
    assert len(table) == 22
    assert {"dl19", "dl20", "covid", "nfc", "touche", "scifact", "robust04", "bright-pony"} <= set(table)
    assert table["dl19"] == TaskInstructions()
    for tasks in table.values():
        for entry in fields(tasks):
            text = getattr(tasks, entry.name)
            assert text == text.strip()
            assert text
            assert "\n" not in text


def test_an_unknown_data_set_lists_the_known() -> None:
    """The error names what was asked for and what there is."""
    with pytest.raises(ProfileError, match=r"'nosuch'.*scifact"):
        E2RANK.for_task("nosuch")


def test_reproduction_keeps_1024_words() -> None:
    """The reference's evaluation rewrites documents; nothing else of the profile changes."""
    chosen = E2RANK.for_reproduction()
    assert chosen.document_words == 1024
    assert replace(chosen, document_words=None) == E2RANK


def test_settings_combine() -> None:
    """Each setting keeps the others."""
    chosen = E2RANK_SMALL.for_task("touche").with_template("readme").for_reproduction()
    assert (chosen.tasks.noun, chosen.template.name, chosen.document_words) == ("Arguments", "readme", 1024)
    assert chosen.caps is SMALL_CAPS


# Formats


@pytest.mark.parametrize(
    ("part", "form"),
    [
        ("head", "{tasks}:\n"),
        ("head", "{query}\n"),
        ("head", "{}\n"),
        ("head", "{0}\n"),
        ("head", "{task.query}\n"),
        ("line", "[{position}] \n"),
        ("line", "[{position}] {document}{document}\n"),
        ("line", "[{position}] {text}\n"),
        ("line", "[{number}] {document}\n"),
        ("line", "[{position}] {document[0]}\n"),
        ("separator", "{position}\n"),
        ("separator", "{"),
        ("tail", "Query:"),
        ("tail", "{query} {query}"),
        ("tail", "{query} {document}"),
        ("tail", "{query"),
        ("tail", "query}"),
    ],
)
def test_a_template_s_fields_are_checked(part: str, form: str) -> None:
    """An unknown, missing or doubled field, or a lone brace, is an error that names template and part."""
    with pytest.raises(ProfileError, match=f"template 'own', {part}: "):
        ListwiseTemplate(name="own", **{part: form})


@pytest.mark.parametrize(
    ("part", "form"),
    [
        ("document_format", "<|endoftext|>"),
        ("document_format", "{document}{document}"),
        ("document_format", "{task}{document}"),
        ("query_format", "{task}"),
        ("query_format", "{query}{query}"),
        ("query_format", "{instruction}{query}"),
        ("prompt_format", "{messages}"),
        ("prompt_format", ""),
        ("prompt_format", "{message}{"),
    ],
)
def test_a_profile_s_fields_are_checked(part: str, form: str) -> None:
    """Likewise for its formats, and the error names profile and format."""
    with pytest.raises(ProfileError, match=f"profile 'own', {part}: "):
        Profile(**{**FORMATS, part: form})


@pytest.mark.parametrize(
    ("part", "form"),
    [
        ("line", "[{position:02d}] {document}\n"),
        ("line", "[{position}] {document!r}\n"),
        ("line", "[{position}] {document:.100}\n"),
        ("tail", "{query!s}"),
        ("tail", "{query:>80}"),
        ("head", "{noun!a}\n"),
    ],
)
def test_a_field_is_filled_as_it_is(part: str, form: str) -> None:
    """Conversions and format specifications are not applied, so one that is written is refused, not ignored."""
    with pytest.raises(ProfileError, match=f"template 'own', {part}: "):
        ListwiseTemplate(name="own", **{part: form})


@pytest.mark.parametrize("part", ["document_format", "query_format", "prompt_format"])
@pytest.mark.parametrize("form", [None, 3, b"{document}"], ids=ascii)
def test_a_format_is_text(part: str, form: object) -> None:
    """What is no string is refused with the format's name."""
    with pytest.raises(ProfileError, match=part):
        Profile(**{**FORMATS, part: form})


def test_literal_braces_are_written_twice() -> None:
    """As in every format string; the message of the error says so."""
    ListwiseTemplate(name="own", line='{{"id": {position}, "text": "{document}"}}\n')
    with pytest.raises(ProfileError, match="twice"):
        ListwiseTemplate(name="own", line='{"text": "{document}"\n')


def test_optional_fields_may_be_left_out_or_repeated() -> None:
    """Position, task and noun are the template's to use; a query format needs no task."""
    ListwiseTemplate(name="own", head="Hello\n", line="- {document}\n", tail="{task} {noun} {task}: {query}")
    Profile(**{**FORMATS, "query_format": "{query}<|endoftext|>"})


# Numbers


@pytest.mark.parametrize("name", [entry.name for entry in fields(Caps)])
@pytest.mark.parametrize("value", [0, -1, 2.5, None, "64", float("nan")], ids=ascii)
def test_a_cap_is_a_positive_integer(name: str, value: object) -> None:
    """Anything else is refused at construction, by the cap's name."""
    with pytest.raises(ProfileError, match=name):
        Caps(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("floor", "listed", "prompt"), [(64, 63, 4096), (64, 4097, 4096), (200, 100, 50), (5000, 1024, 4096)]
)
def test_caps_grow_from_floor_to_prompt(floor: int, listed: int, prompt: int) -> None:
    """A floor above the listed cap, or a listed cap above the prompt, contradicts itself; all three are named."""
    with pytest.raises(ProfileError, match=f"{floor}, {listed}, {prompt}"):
        Caps(floor=floor, listed=listed, prompt=prompt)


def test_caps_may_be_equal() -> None:
    """One document may fill the prompt, and be kept whole."""
    assert Caps(floor=512, listed=512, prompt=512).floor == 512


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_input_docs", 0),
        ("num_input_docs", -20),
        ("num_input_docs", 2.5),
        ("num_input_docs", None),
        ("query_weight", -0.1),
        ("query_weight", 1.1),
        ("query_weight", float("nan")),
        ("query_weight", "0.5"),
        ("query_weight", None),
        ("document_words", 0),
        ("document_words", -1),
        ("document_words", 2.5),
        ("pooling", "max"),
        ("pooling", None),
    ],
)
def test_a_profile_s_numbers_are_checked(name: str, value: object) -> None:
    """Out of range or of another type is refused at construction, by the attribute's name."""
    with pytest.raises(ProfileError, match=f"profile 'own'.*{name}"):
        Profile(**{**FORMATS, name: value})


@pytest.mark.parametrize(("name", "value"), [("query_weight", 0), ("query_weight", 1), ("document_words", 1)])
def test_the_ends_of_the_ranges_are_in(name: str, value: object) -> None:
    """The plain query may weigh nothing or everything, and one word may be kept."""
    assert getattr(Profile(**{**FORMATS, name: value}), name) == value


@pytest.mark.parametrize("name", [entry.name for entry in fields(TaskInstructions)])
@pytest.mark.parametrize("value", [None, 151645, b"private", ["private"], "private \ud800"], ids=ascii)
def test_a_task_string_is_text(qwen_encoder: E2RankEncoder, name: str, value: object) -> None:
    """A number would pass for a control token's id and None would fail at the first query: a typed error, no text."""

    def first_use() -> None:
        tasks = TaskInstructions(**{name: value})  # type: ignore[arg-type]
        E2RankEncoder(qwen_encoder.model, replace(E2RANK, tasks=tasks)).query_inputs(["query"])

    with pytest.raises(E2RankError) as caught:
        first_use()
    assert "private" not in str(caught.value)
