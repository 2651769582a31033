"""The words of the listwise prompt, read and changed as LlamaIndex's users change prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate, RichPromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine

from e2rank_integrations import ListwiseTemplate
from e2rank_integrations.bundle import bundle_of
from e2rank_integrations.errors import E2RankError, ProfileError
from e2rank_integrations.llama_index import E2RankEmbedding, E2RankRerank, E2RankRetriever
from e2rank_integrations.llama_index.prompts import prompts_of, reworded
from e2rank_integrations.profiles import TEMPLATES
from tests.llama_index.helpers import expect_alike, found_nodes, ids
from tests.support.passages import QUERIES

if TYPE_CHECKING:
    from llama_index.core import VectorStoreIndex

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.values import TokenInput
    from tests.support.engines import Recording

QUERY = QUERIES[0]
NAMES = ["rerank_instruction", "listwise_message", "listwise_line"]
INSTRUCTION, MESSAGE, LINE = NAMES
DOCUMENTS = ["Bread rises by yeast.", "The Moon {orbits} the Earth.", "{documents} {query} {task}"]


@pytest.fixture
def embed_model(encoder: E2RankEncoder) -> E2RankEmbedding:
    """The embedded model, counted, with the paper's words: its own prompt has none but the query."""
    return E2RankEmbedding(encoder=encoder, template="paper")


def prompt_ids(encoder: E2RankEncoder) -> tuple[int, ...]:
    scores = [1.5] * len(DOCUMENTS)  # which some templates show
    return encoder.listwise_input("Who {asks}?", DOCUMENTS, len(DOCUMENTS), scores)[0].ids


def prompts(recording: Recording) -> list[TokenInput]:
    return [item for call in recording.calls for item in call if item.role == "listwise"]


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


OWN = {
    "braces": ListwiseTemplate(name="braces", head="{{{task}}} {{}}:\n", line="{{{position}}} {document}\n"),
    "escaped fields": ListwiseTemplate(
        name="escaped", head="Not {{documents}}, not {{query}}:\n{task}\n", tail="{{documents}}? {query} {{documents}}"
    ),
    "next to braces": ListwiseTemplate(name="next", head="{task}{{\n", line="- {document}\n", tail="}} {query}{{x}}"),
    "without fields": ListwiseTemplate(name="bare", head="", line="* {document}\n", tail="Q{query}"),
    "task last": ListwiseTemplate(name="last", head="{noun}\n", tail="Q: {query}\n{task} for {noun}"),
}


@pytest.mark.parametrize("name", [*OWN, "default"])
def test_what_is_read_can_be_written_back(encoder: E2RankEncoder, name: str) -> None:
    """`update_prompts(get_prompts())` changes no token of the prompt, whatever the template."""
    options = {"template": OWN[name]} if name in OWN else {}
    rerank = E2RankRerank(encoder=encoder, rerank_instruction="Rank {these}, or {{those}}", **options)
    before = prompt_ids(rerank.encoder)
    rerank.update_prompts(rerank.get_prompts())
    assert prompt_ids(rerank.encoder) == before
    for one in NAMES:
        rerank.update_prompts({one: rerank.get_prompts()[one]})
        assert prompt_ids(rerank.encoder) == before
    assert rerank.encoder.profile.tasks.listwise == "Rank {these}, or {{those}}"


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_named_templates_can_be_written_back(qwen_encoder: E2RankEncoder, name: str) -> None:
    """With control tokens between the lines, separators and all."""
    rerank = E2RankRerank(encoder=qwen_encoder, template=name)
    before = prompt_ids(rerank.encoder)
    assert before != prompt_ids(E2RankRerank(encoder=qwen_encoder, template=OWN["braces"]).encoder)
    rerank.update_prompts(rerank.get_prompts())
    assert prompt_ids(rerank.encoder) == before


words = st.text(st.characters(exclude_categories=["C"], exclude_characters="\n"), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(task=words, head=words, mark=words, tail=words)
@example(task="{", head="{documents}", mark="}", tail="{query}")
@example(task="{{task}}", head="{{documents}}{", mark="{document}", tail="}{documents")
def test_any_words_are_taken_literally(
    embedded_encoder: E2RankEncoder, task: str, head: str, mark: str, tail: str
) -> None:
    """Braces, fields' names and characters of all kinds: the prompt is that of the same template made directly."""
    head, line, tail = escaped(head) + "{task}:\n", f"#{escaped(mark)}{{document}}\n", f"Q{escaped(tail)}{{query}}"
    given_words = {
        INSTRUCTION: PromptTemplate(escaped(task)),
        MESSAGE: PromptTemplate(head + "{documents}" + tail),
        LINE: PromptTemplate(line),
    }
    plain = embedded_encoder.profile
    profile = reworded(plain, given_words)
    assert (profile.template.head, profile.template.line, profile.template.tail) == (head, line, tail)
    assert profile.tasks.listwise == task
    assert profile.tasks.query == plain.tasks.query
    assert reworded(profile, prompts_of(profile)) == profile


def test_what_the_prompts_are(rerank: E2RankRerank) -> None:
    """Three templates that LlamaIndex can show and fill, with the fields that the prompt has."""
    found = rerank.get_prompts()
    assert list(found) == NAMES
    assert all(isinstance(prompt, PromptTemplate) for prompt in found.values())
    assert {name: set(prompt.template_vars) for name, prompt in found.items()} == {
        INSTRUCTION: set(), MESSAGE: {"task", "noun", "documents", "query"}, LINE: {"position", "document"},
    }  # fmt: skip
    assert found[INSTRUCTION].format() == rerank.encoder.profile.tasks.listwise
    lines = "".join(found[LINE].format(position=place, document=text) for place, text in ((1, "one"), (2, "two")))
    message = found[MESSAGE].format(task="T", noun="Documents", documents=lines, query="q")
    assert message == "T:\nDocuments:\n[1] one\n[2] two\nSearch Query: q"


def test_what_is_read_is_a_copy(rerank: E2RankRerank) -> None:
    """Writing into what `get_prompts` gave changes nothing."""
    before = prompt_ids(rerank.encoder)
    found = rerank.get_prompts()
    found[LINE].template = "({position}) {document}\n"
    found.clear()
    assert prompt_ids(rerank.encoder) == before
    assert rerank.get_prompts()[LINE].template == "[{position}] {document}\n"


NEW = {
    INSTRUCTION: ("Put the bakers first", "template"),
    MESSAGE: ("Kind reader of {noun}, {task}\n{documents}Wanted: {query}", "tasks"),
    LINE: ("No. {position} says: {document}\n", "tasks"),
}


@pytest.mark.parametrize("name", NEW)
async def test_new_words_reach_the_model(embed_model: E2RankEmbedding, recording: Recording, name: str) -> None:
    """Each prompt alone, the others as they were: what the model is asked is the prompt in the new words."""
    rerank = E2RankRerank(embed_model=embed_model, top_n=None)
    found, (text, untouched) = found_nodes(["bread"]), NEW[name]
    profile = rerank.encoder.profile
    rerank.postprocess_nodes(found, query_str=QUERY)
    before = prompts(recording)[-1].ids
    rerank.update_prompts({name: PromptTemplate(text)})
    assert getattr(rerank.encoder.profile, untouched) == getattr(profile, untouched)
    assert {one: prompt.template for one, prompt in rerank.get_prompts().items()} == {
        **{one: prompt.template for one, prompt in prompts_of(profile).items()}, name: text,
    }  # fmt: skip
    recording.calls.clear()
    rerank.postprocess_nodes(found, query_str=QUERY)
    await rerank.apostprocess_nodes(found, query_str=QUERY)
    (one, other) = prompts(recording)
    fresh = reworded(profile, {name: PromptTemplate(text)})
    expected = E2RankRerank(embed_model=embed_model, profile=fresh).encoder
    texts = [item.text for item in found]
    assert one.ids == other.ids == expected.listwise_input(QUERY, texts)[0].ids != before


def test_new_words_change_no_vector(
    index: VectorStoreIndex, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """Plain queries and documents are embedded as before: stored vectors stay good, and no check is due."""
    rerank = E2RankRerank(embed_model=embed_model, vector_store=index)
    rerank.rank(found_nodes(["law"]), QUERY)
    fingerprint = rerank.encoder.fingerprint
    rerank.update_prompts({name: PromptTemplate(text) for name, (text, _) in NEW.items()})
    recording.calls.clear()
    rerank.rank(found_nodes(["law"]), QUERY)
    E2RankRetriever(index, rerank).retrieve(QUERY)
    assert recording.usage.documents == 0
    assert rerank.encoder.fingerprint == fingerprint
    assert {item.ids for call in recording.calls for item in call if item.role == "query"} == {
        embed_model.encoder.query_inputs([QUERY])[0].ids
    }


def test_components_keep_their_own_words(embed_model: E2RankEmbedding) -> None:
    """What one reranker is told reaches no other component of the same model, nor a copy made before."""
    one, other = E2RankRerank(embed_model=embed_model), E2RankRerank(embed_model=embed_model)
    before, copied = prompt_ids(embed_model.encoder), one.model_copy()
    one.update_prompts({INSTRUCTION: PromptTemplate("Otherwise")})
    assert prompt_ids(one.encoder) != before
    assert {prompt_ids(each.encoder) for each in (other, copied, embed_model)} == {before}
    assert prompt_ids(one.model_copy().encoder) == prompt_ids(one.encoder)


def test_new_words_survive_a_round_trip() -> None:
    """Serialised and read back: the same prompt, also after a second change."""
    rerank = E2RankRerank(model="embedded", device="cpu", rerank_instruction="First", template=OWN["braces"])
    for name, (text, _) in NEW.items():
        rerank.update_prompts({name: PromptTemplate(text)})
        again = E2RankRerank.from_dict(rerank.to_dict())
        assert prompt_ids(again.encoder) == prompt_ids(rerank.encoder)
    assert {name: prompt.template for name, prompt in again.get_prompts().items()} == {
        name: text for name, (text, _) in NEW.items()
    }


WRONG = {
    "unknown": {"text_qa_template": PromptTemplate("{query}")},
    "unknown beside a known one": {INSTRUCTION: PromptTemplate("Fine"), "rerank_instructions": PromptTemplate("x")},
    "no documents": {MESSAGE: PromptTemplate("{task}\nQ: {query}")},
    "documents twice": {MESSAGE: PromptTemplate("{task}\n{documents}{documents}Q: {query}")},
    "documents escaped": {MESSAGE: PromptTemplate("{task}\n{{documents}}Q: {query}")},
    "documents converted": {MESSAGE: PromptTemplate("{task}\n{documents!r}Q: {query}")},
    "documents formatted": {MESSAGE: PromptTemplate("{task}\n{documents:>5}Q: {query}")},
    "no query": {MESSAGE: PromptTemplate("{task}\n{documents}")},
    "query twice": {MESSAGE: PromptTemplate("{task}\n{documents}{query}{query}")},
    "query before the documents": {MESSAGE: PromptTemplate("{query}\n{documents}")},
    "query formatted": {MESSAGE: PromptTemplate("{task}\n{documents}{query!s}")},
    "stray field in the message": {MESSAGE: PromptTemplate("{task} {mood}\n{documents}{query}")},
    "partly filled": {MESSAGE: PromptTemplate("{mood}\n{documents}{query}").partial_format(mood="good")},
    "other names": {MESSAGE: PromptTemplate("{c}\n{documents}{q}", template_var_mappings={"query": "q", "task": "c"})},
    "field in the instruction": {INSTRUCTION: PromptTemplate("Rank {documents}")},
    "no document in the line": {LINE: PromptTemplate("[{position}]\n")},
    "document twice": {LINE: PromptTemplate("[{position}] {document} {document}\n")},
    "stray field in the line": {LINE: PromptTemplate("[{position}] {document} {source}\n")},
    "line that begins with a space": {LINE: PromptTemplate(" {document}\n")},
    "line that does not end": {LINE: PromptTemplate("[{position}] {document} ")},
    "message that runs into the first line": {MESSAGE: PromptTemplate("{task}: {documents}{query}")},
    "string": {INSTRUCTION: "Rank them"},
    "nothing": {INSTRUCTION: None},
    "chat": {INSTRUCTION: ChatPromptTemplate.from_messages([("user", "Rank them")])},
    "Jinja": {INSTRUCTION: RichPromptTemplate("Rank {{ these }}")},
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_words_are_refused(rerank: E2RankRerank, name: str) -> None:
    """At once, by a typed error; the reranker goes on in the words that it had."""
    found = found_nodes(["bread"])
    before, expected = prompt_ids(rerank.encoder), rerank.postprocess_nodes(found, query_str=QUERY)
    with pytest.raises(E2RankError):
        rerank.update_prompts(WRONG[name])
    assert prompt_ids(rerank.encoder) == before
    expect_alike(rerank.postprocess_nodes(found, query_str=QUERY), expected)
    expect_alike(await rerank.apostprocess_nodes(found, query_str=QUERY), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown", r"'text_qa_template'.*rerank_instruction"),
        ("unknown beside a known one", "'rerank_instructions'"),
        ("no documents", r"listwise_message.*\{documents\} once.*0 times"),
        ("documents twice", r"\{documents\} once.*2 times"),
        ("documents escaped", r"\{documents\} once.*0 times"),
        ("no query", r"\{query\} once"),
        ("stray field in the message", r"\{mood\}"),
        ("field in the instruction", "rerank_instruction"),
        ("stray field in the line", r"\{source\}"),
        ("string", "rerank_instruction.*str"),
        ("chat", "ChatPromptTemplate"),
    ],
)
def test_the_error_says_what_is_wrong(rerank: E2RankRerank, name: str, message: str) -> None:
    """By the prompt's name, the field, and what was expected."""
    with pytest.raises(ProfileError, match=message):
        rerank.update_prompts(WRONG[name])


# Through the retriever and an engine.


async def test_prompts_of_the_retriever(index: VectorStoreIndex, rerank: E2RankRerank, recording: Recording) -> None:
    """They are its reranker's, by LlamaIndex's way of naming them; new words are in its next prompt, sync and async."""
    retriever = E2RankRetriever(index, rerank)
    assert list(retriever.get_prompts()) == [f"reranker:{name}" for name in NAMES]
    before = retriever.retrieve(QUERY)
    retriever.update_prompts(retriever.get_prompts())
    expect_alike(retriever.retrieve(QUERY), before)
    retriever.update_prompts({f"reranker:{name}": PromptTemplate(text) for name, (text, _) in NEW.items()})
    assert {name: prompt.template for name, prompt in rerank.get_prompts().items()} == {
        name: text for name, (text, _) in NEW.items()
    }
    recording.calls.clear()
    found = retriever.retrieve(QUERY)
    await retriever.aretrieve(QUERY)
    shown = [item.text for item in index.as_retriever(similarity_top_k=24).retrieve(QUERY)]
    expected = rerank.encoder.listwise_input(QUERY, shown)[0].ids
    assert [prompt.ids for prompt in prompts(recording)] == [expected, expected]
    assert ids(found)


@pytest.mark.parametrize(
    "wrong",
    ["rerank_instruction", "bogus", "reranker:bogus", "rerankers:rerank_instruction"],
)  # fmt: skip
def test_unknown_prompts_of_the_retriever(index: VectorStoreIndex, wrong: str) -> None:
    """Are refused, by this package or by LlamaIndex, and never ignored."""
    retriever = E2RankRetriever(index)
    before = prompt_ids(retriever.reranker.encoder)
    with pytest.raises((ProfileError, ValueError), match=r"bogus|rerank_instruction|rerankers"):
        retriever.update_prompts({wrong: PromptTemplate("x")})
    assert prompt_ids(retriever.reranker.encoder) == before


async def test_prompts_in_a_query_engine(index: VectorStoreIndex, recording: Recording) -> None:
    """The engine's own prompts and ours do not mix; ours count for its next query."""
    engine = RetrieverQueryEngine.from_args(E2RankRetriever(index), llm=MockLLM())
    own = {name: prompt for name, prompt in engine.get_prompts().items() if not name.startswith("retriever")}
    assert own
    engine.update_prompts(own)
    engine.query(QUERY)
    before = prompts(recording)[-1].ids
    engine.retriever.update_prompts({"reranker:rerank_instruction": PromptTemplate("Put the bakers first")})
    recording.calls.clear()
    engine.query(QUERY)
    await engine.aquery(QUERY)
    one, other = prompts(recording)
    assert one.ids == other.ids != before
    assert recording.usage.documents == 0


def test_prompts_of_a_postprocessor_in_an_engine(
    index: VectorStoreIndex, embed_model: E2RankEmbedding, recording: Recording
) -> None:
    """A reranker that is told after it was handed to an engine reranks there in the new words."""
    rerank = E2RankRerank(embed_model=embed_model, vector_store=index)
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=6, node_postprocessors=[rerank])
    engine.query(QUERY)
    before = prompts(recording)[-1].ids
    rerank.update_prompts({LINE: PromptTemplate(NEW[LINE][0])})
    engine.query(QUERY)
    assert prompts(recording)[-1].ids != before


def test_the_default_words_are_the_profiles() -> None:
    """What is shown for a profile is what its template says, whatever the model."""
    shown: dict[str, Any] = {
        name: prompt.template for name, prompt in prompts_of(bundle_of("any/model").profile).items()
    }
    paper = TEMPLATES["paper"]
    assert shown[LINE] == paper.line
    assert shown[MESSAGE] == f"{paper.head}{{documents}}{paper.tail}"


def test_an_update_with_the_same_words_changes_nothing(rerank: E2RankRerank) -> None:
    """Not even the dump."""
    before = rerank.to_dict()
    rerank.update_prompts(rerank.get_prompts())
    assert rerank.to_dict() == before


def test_values_filled_beforehand_are_refused(rerank: E2RankRerank) -> None:
    """A partial template would lose its values."""
    partial = PromptTemplate("Rerank for {domain}").partial_format(domain="law")
    with pytest.raises(ProfileError, match="words alone"):
        rerank.update_prompts({"rerank_instruction": partial})
