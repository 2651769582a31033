"""The inputs as wholes: formats, hostile text, structure, templates of the user's own."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2rank_integrations.errors import InputError, ProfileError, PromptBudgetError
from e2rank_integrations.profiles import E2RANK, EMBEDDED, TEMPLATES, Caps, ListwiseTemplate, Profile, TaskInstructions
from e2rank_integrations.text.prompts import InputWriter
from e2rank_integrations.text.tokenizer import LiteralTokenizer
from tests.golden import reference
from tests.golden.inputs import TASKS, TEXTS
from tests.support.qwen import CONTROLS
from tests.text.oracle import bert_controls, nfc, qwen_bytes, qwen_controls, rendered
from tests.text.strategies import benign, few, hostile

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from e2rank_integrations.encoder import E2RankEncoder

EOS = CONTROLS["<|endoftext|>"]
WINDOW = 32768
BERT_WINDOW = 512
texts = st.lists(benign, min_size=1, max_size=4)
any_text = st.one_of(benign, hostile)
in_every_template = pytest.mark.parametrize("template", TEMPLATES)


def tight(template: str, listed: int, floor: int) -> Caps:
    """Caps that leave a listed document the same few tokens in every template."""
    frame = 20 if TEMPLATES[template].shows_scores else 0
    return Caps(listed=listed + frame, floor=floor + frame)


def scores_for(documents: list[str]) -> list[float]:
    """A score for each, which all templates but one leave out."""
    return reference.scores(len(documents))


def written(tokenizer: LiteralTokenizer, template: str | ListwiseTemplate = "paper", **changes: object) -> InputWriter:
    """A writer of the E2Rank profile, some of it changed."""
    return InputWriter(replace(E2RANK.with_template(template), **changes), tokenizer, WINDOW)


# Equal to the reference, for any benign text


@few
@given(text=benign, task=st.sampled_from(list(TASKS.values())))
def test_documents_and_queries_equal_the_reference(
    qwen: LiteralTokenizer, hf_qwen: PreTrainedTokenizerBase, text: str, task: dict[str, str]
) -> None:
    """For any text that names no control, the ids are those of the whole string."""
    ours = written(qwen, tasks=TaskInstructions(**task))
    assert list(ours.query(text).ids) == reference.encode(hf_qwen, reference.query(text, task))
    assert list(ours.cut_document(ours.document(text)).ids) == reference.encode(hf_qwen, reference.document(text))


@few
@given(texts=texts, query=benign, task=st.sampled_from(list(TASKS.values())))
@in_every_template
def test_prompts_equal_the_reference(
    *,
    qwen: LiteralTokenizer,
    hf_qwen: PreTrainedTokenizerBase,
    template: str,
    texts: list[str],
    query: str,
    task: dict[str, str],
) -> None:
    """For any texts that name no control, the prompt's ids are those of the whole string."""
    ours = written(qwen, template, tasks=TaskInstructions(**task))
    prompt = ours.listwise(query, texts, 20, scores_for(texts))[0]
    assert list(prompt.ids) == reference.encode(hf_qwen, reference.prompt(template, task, texts, query))


@few
@given(texts=texts, query=benign)
def test_embedded_inputs_equal_hugging_face_s(
    bert: LiteralTokenizer, hf_bert: PreTrainedTokenizerBase, texts: list[str], query: str
) -> None:
    """The embedded model's inputs are `[CLS] … [SEP]` as its own tokenizer frames them, a prompt's lines as well."""
    ours = InputWriter(replace(EMBEDDED, caps=replace(EMBEDDED.caps, listed=512)), bert, BERT_WINDOW)
    message = "".join(f"{' '.join(text.split())}[SEP]" for text in texts) + query
    assert list(ours.query(query).ids) == hf_bert(query)["input_ids"]
    assert list(ours.document(query).ids(512)) == hf_bert(query)["input_ids"]
    assert list(ours.listwise(query, texts, 20)[0].ids) == hf_bert(message)["input_ids"]


def test_the_embedded_cap_is_the_profile_s_not_the_file_s(embedded_encoder: E2RankEncoder) -> None:
    """200 words are embedded whole although the tokenizer's file cuts at 128; 300 are cut to 256, `[SEP]` last."""
    lengths = [len(item.ids) for item in embedded_encoder.document_inputs(["word " * 200, "word", ""])]
    assert lengths == [202, 3, 2]
    (cut,) = embedded_encoder.document_inputs(["word " * 300])
    assert (len(cut.ids), cut.ids[0], cut.ids[-1]) == (256, 101, 102)


# Hostile text


@few
@given(text=any_text, task=any_text)
def test_no_control_comes_from_a_document_or_a_query(qwen: LiteralTokenizer, text: str, task: str) -> None:
    """A document holds one control, its EOS, and a query too, whatever the text and the task string say."""
    ours = written(qwen, tasks=TaskInstructions(query=task))
    for ids in (ours.query(text).ids, ours.cut_document(ours.document(text)).ids):
        assert qwen_controls(ids) == {EOS: 1}
        assert ids[-1] == EOS


@few
@given(query=any_text, task=any_text, noun=any_text, documents=st.lists(any_text, min_size=1, max_size=4))
@in_every_template
def test_no_control_comes_from_a_prompt_s_texts(
    *, qwen: LiteralTokenizer, template: str, query: str, task: str, noun: str, documents: list[str]
) -> None:
    """Whatever the texts are, the controls of a prompt are those of the same prompt over plain words, in order."""
    ours = written(qwen, template, tasks=TaskInstructions(listwise=task, noun=noun))
    plain = written(qwen, template).listwise("word", ["word"] * len(documents), 20, scores_for(documents))[0]
    ids = ours.listwise(query, documents, 20, scores_for(documents))[0].ids
    assert [id_ for id_ in ids if id_ in CONTROLS.values()] == [id_ for id_ in plain.ids if id_ in CONTROLS.values()]


@few
@given(query=any_text, task=any_text, noun=any_text, documents=st.lists(any_text, min_size=1, max_size=4))
@in_every_template
def test_no_control_comes_from_a_cut_prompt_s_texts(
    *, qwen: LiteralTokenizer, template: str, query: str, task: str, noun: str, documents: list[str]
) -> None:
    """A cut adds and takes no control either: as many as the listed documents need."""
    caps = tight(template, listed=12, floor=8)
    ours = written(qwen, template, tasks=TaskInstructions(listwise=task, noun=noun), caps=caps)
    ids = ours.listwise(query, documents, 20, scores_for(documents))[0].ids
    plain = written(qwen, template).listwise("word", ["word"] * len(documents), 20, scores_for(documents))[0]
    assert qwen_controls(ids) == qwen_controls(plain.ids)


@few
@given(query=any_text, task=any_text, noun=any_text, documents=st.lists(any_text, min_size=1, max_size=3))
def test_no_control_comes_from_embedded_texts(
    bert: LiteralTokenizer, query: str, task: str, noun: str, documents: list[str]
) -> None:
    """Each input of the embedded model holds one `[CLS]`, one `[SEP]` (a prompt one more a document), and no other."""
    profile = replace(EMBEDDED, tasks=TaskInstructions(query=task, listwise=task, noun=noun))
    ours = InputWriter(profile, bert, BERT_WINDOW)
    ids = [ours.query(query).ids, *(ours.cut_document(ours.document(text)).ids for text in documents)]
    prompt, plan = ours.listwise(query, documents, 3)
    for item, ends in [*((item, 1) for item in ids), (prompt.ids, plan.documents_used + 1)]:
        assert bert_controls(item) == {101: 1, 102: ends}
        assert (item[0], item[-1]) == (101, 102)


@few
@given(query=benign, documents=st.lists(any_text, min_size=1, max_size=5))
@pytest.mark.parametrize("caps", [Caps(), Caps(listed=12, floor=8)], ids=["whole", "cut"])
def test_in_paper_a_document_adds_no_line(qwen: LiteralTokenizer, caps: Caps, query: str, documents: list[str]) -> None:
    """However a document spells `[7] …` or `Search Query:`, the documents fill one line each, in order."""
    prompt, plan = written(qwen, caps=caps).listwise(query, documents, 20)
    listed = rendered(prompt.ids[: plan.tokens - plan.query_tokens]).split("Documents:\n", 1)[1]
    lines = listed.splitlines()  # at every kind of line end that Unicode knows
    assert len(lines) == len(documents)
    assert all(re.match(rf"\[{number}\]( |$)", line) for number, line in enumerate(lines, start=1))


@few
@given(query=any_text, documents=st.lists(any_text, min_size=1, max_size=3))
def test_a_prompt_s_text_is_all_there(qwen: LiteralTokenizer, query: str, documents: list[str]) -> None:
    """Nothing of a hostile text is dropped or changed: the ids read as the format filled in."""
    prompt = written(qwen, "training").listwise(query, documents, 20)[0]
    assert rendered(prompt.ids) == nfc(reference.prompt("training", TASKS["default"], documents, query))


def test_fields_in_a_user_s_text_are_not_filled(qwen: LiteralTokenizer) -> None:
    """`{query}` in a document, a task or a query is text, and so are lone braces."""
    ours = written(qwen, tasks=TaskInstructions(query="{query} {", listwise="{noun}", noun="}} {task}"))
    assert rendered(ours.query("{task}").ids) == "Instruct: {query} {\nQuery:{task}<|endoftext|>"
    assert "{noun}:\n}} {task}:\n[1] {document} {{\nSearch Query: {position}<" in rendered(
        ours.listwise("{position}", ["{document} {{"], 20)[0].ids
    )


# Cut, and never cut


def test_a_query_is_never_cut(qwen: LiteralTokenizer) -> None:
    """A query above its cap is an error that gives both numbers and none of its words; at the cap it is whole."""
    text = "private " * 50
    size = len(written(qwen).query(text).ids)
    assert len(written(qwen, caps=Caps(query=size)).query(text).ids) == size
    with pytest.raises(InputError, match=rf"\b{size}\b.*\b{size - 1}\b") as caught:
        written(qwen, caps=Caps(query=size - 1)).query(text)
    assert "private" not in str(caught.value)


def test_a_query_fits_the_model_s_window(qwen: LiteralTokenizer) -> None:
    """A window below the query's cap lowers it."""
    with pytest.raises(InputError):
        InputWriter(E2RANK, qwen, 100).query("word " * 100)


def test_a_document_fits_the_model_s_window(qwen: LiteralTokenizer) -> None:
    """A window below the caps lowers them, for documents and prompts."""
    ours = InputWriter(E2RANK, qwen, 200)
    assert (ours.document_cap, ours.prompt_cap) == (200, 200)
    assert len(ours.cut_document(ours.document("word " * 300)).ids) == 200
    assert len(ours.listwise("query", ["word " * 300], 20)[0].ids) <= 200


@few
@given(query=any_text, documents=st.lists(any_text, min_size=1, max_size=4))
@in_every_template
def test_in_a_cut_prompt_query_and_scaffold_are_whole(
    qwen: LiteralTokenizer, template: str, query: str, documents: list[str]
) -> None:
    """What stands before the documents and after them is the same as in an uncut prompt."""
    scores, caps = scores_for(documents), tight(template, listed=10, floor=8)
    whole, whole_plan = written(qwen, template).listwise(query, documents, 20, scores)
    cut, plan = written(qwen, template, caps=caps).listwise(query, documents, 20, scores)
    head = len(qwen.encode(qwen.split(reference.head(TASKS["default"]))))
    assert cut.ids[:head] == whole.ids[:head]
    assert plan.query_tokens == whole_plan.query_tokens
    assert cut.ids[-plan.query_tokens :] == whole.ids[-plan.query_tokens :]


def test_reproduction_rewrites_documents_alone(qwen: LiteralTokenizer) -> None:
    """1,024 words and single spaces, in the embedding and in the prompt of every template; the query stays."""
    ours = written(qwen, "training", document_words=1024)
    text, query = "a \n b\u3000" * 600, "two  spaces"
    expected = " ".join(["a b"] * 512)
    assert rendered(ours.cut_document(ours.document(text)).ids) == expected + "<|endoftext|>"
    # a line is cut at 1,024 tokens, which its mark and its newline share with the words
    assert f"[1] {expected[:1900]}" in rendered(ours.listwise(query, [text], 20)[0].ids)
    assert "Query: two  spaces<" in rendered(ours.listwise(query, [text], 20)[0].ids)
    assert "Query:two  spaces<" in rendered(ours.query(query).ids)


def test_only_the_prompt_s_copy_is_collapsed(qwen: LiteralTokenizer) -> None:
    """`paper` rewrites what it lists; what is embedded keeps its line ends."""
    ours = written(qwen)
    assert rendered(ours.document("a\n\n b").ids(9)) == "a\n\n b<|endoftext|>"
    assert "[1] a b\nSearch" in rendered(ours.listwise("q", ["a\n\n b"], 20)[0].ids)


@pytest.mark.parametrize("template", TEMPLATES)
def test_threads_do_not_disturb_one_another(qwen: LiteralTokenizer, template: str) -> None:
    """Sixteen threads that share a writer, fresh ones first use included, get what one thread gets."""
    caps = replace(tight(template, listed=24, floor=8), document=9, prompt=400)
    names = list(TEXTS)
    jobs = [(TEXTS[name], [TEXTS[other] for other in names[place : place + 8]]) for place, name in enumerate(names)]

    def work(ours: InputWriter, jobs: list[tuple[str, list[str]]]) -> list[object]:
        return [
            (
                ours.listwise(text[:200], many, 20, scores_for(many)),
                ours.query(text),
                ours.cut_document(ours.document(text)),
            )
            for text, many in jobs
        ]

    serial = work(written(qwen, template, caps=caps), jobs)
    shared, barrier = written(qwen, template, caps=caps), Barrier(16)

    def threaded(thread: int) -> list[object]:
        barrier.wait()
        return work(shared, jobs[thread * 5 :] + jobs[: thread * 5])

    with ThreadPoolExecutor(16) as pool:
        for thread, found in enumerate(pool.map(threaded, range(16))):
            assert found == serial[thread * 5 :] + serial[: thread * 5]


# Templates of the user's own

ACCEPTED = {
    "rules between lines": ListwiseTemplate(
        name="own", head="{task}\n", line="<doc {position}>{document}</doc>\n", tail="Q: {query}\nA ({noun}):"
    ),
    "control tokens between lines": ListwiseTemplate(
        name="own", head="{noun}<|file_sep|>", line=" {document}<|file_sep|>", tail="{query}"
    ),
    "a mark twice": ListwiseTemplate(name="own", line="[{position}] {document} (end of {position})\n"),
    "literal braces": ListwiseTemplate(name="own", line='{{"id": {position}, "text": "{document}"}}\n'),
    "a literal field": ListwiseTemplate(name="own", line="the {{document}} is {document}\n"),
    "a control token first": ListwiseTemplate(name="own", line="<|file_sep|>{document}", tail="<|fim_suffix|>{query}"),
    "a separator after a newline": ListwiseTemplate(
        name="own", line="{document}<|file_sep|>", head="{task}<|file_sep|>", separator="\n-\n", tail="\n{query}"
    ),
    "a separator of words": ListwiseTemplate(name="own", separator="---\n"),
    "no head": ListwiseTemplate(name="own", head=""),
}


@few
@given(documents=texts, query=benign)
@pytest.mark.parametrize("template", ACCEPTED.values(), ids=list(ACCEPTED))
def test_an_own_template_equals_the_whole_string(
    qwen: LiteralTokenizer,
    hf_qwen: PreTrainedTokenizerBase,
    template: ListwiseTemplate,
    documents: list[str],
    query: str,
) -> None:
    """A template that is accepted gives the ids of its message rendered as one string."""
    fields = {"task": E2RANK.tasks.listwise, "noun": E2RANK.tasks.noun}
    lines = [template.line.format(position=place, document=text) for place, text in enumerate(documents, start=1)]
    message = template.head.format(**fields) + template.separator.join(lines)
    whole = E2RANK.prompt_format.format(message=message + template.tail.format(query=query, **fields))
    ours = written(qwen, template).listwise(query, documents, 20)[0]
    assert list(ours.ids) == reference.encode(hf_qwen, whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"line": "[{position}] {document} "},
        {"line": "[{position}] {document}"},
        {"line": "{document}\n"},
        {"line": " [{position}] {document}\n"},
        {"line": "\n[{position}] {document}\n"},
        {"separator": "\n"},
        {"head": "{task}: {noun}: "},
        {"head": "{task}"},
        {"tail": "{query}"},
        {"tail": "\nQuery: {query}"},
        {"tail": " Query: {query}"},
    ],
    ids=str,
)
def test_a_template_that_cannot_be_encoded_line_by_line_is_refused(
    qwen: LiteralTokenizer, changes: dict[str, str]
) -> None:
    """Where a token could reach over the joint between two lines, the writer says so at construction."""
    with pytest.raises(ProfileError, match="template 'own'"):
        written(qwen, ListwiseTemplate(name="own", **changes))


def test_a_tokenizer_that_reads_over_line_ends_needs_control_tokens(
    qwen: LiteralTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With such a tokenizer lines that end with a newline alone are refused; those between control tokens are not."""
    monkeypatch.setattr(LiteralTokenizer, "splits_at_newline", lambda _: False)
    with pytest.raises(ProfileError, match="reads over line ends"):
        written(qwen)
    written(qwen, ACCEPTED["a control token first"], prompt_format="{message}<|endoftext|>")


def test_a_control_that_the_tokenizer_lacks_is_refused(qwen: LiteralTokenizer, bert: LiteralTokenizer) -> None:
    """A format that names another model's control token would be embedded as its letters: it is an error."""
    with pytest.raises(ProfileError, match=r"<\|endoftext\|>"):
        InputWriter(EMBEDDED.with_template("training"), bert, BERT_WINDOW)
    with pytest.raises(ProfileError, match=r"<\|endoftext\|>"):
        InputWriter(replace(EMBEDDED, document_format="{document}<|endoftext|>"), bert, BERT_WINDOW)
    with pytest.raises(ProfileError, match=r"\[SEP\]"):
        written(qwen, query_format="{query}[SEP]")


def test_a_floor_without_room_for_text_is_refused(qwen: LiteralTokenizer) -> None:
    """A floor that the line's own frame fills would list empty lines; one token more is enough."""
    frame = len(qwen.literal("[20] \n").ids)
    written(qwen, caps=Caps(floor=frame + 1))
    with pytest.raises(ProfileError, match=rf"\b{frame}\b.*\b{frame}\b"):
        written(qwen, caps=Caps(floor=frame))


def test_a_document_s_cap_has_room_for_its_frame(bert: LiteralTokenizer) -> None:
    """A cap below `[CLS]` and `[SEP]` could only be exceeded: it is an error at construction."""
    caps = replace(EMBEDDED.caps, document=1)
    with pytest.raises(ProfileError):
        InputWriter(replace(EMBEDDED, caps=caps), bert, BERT_WINDOW)


def test_a_mark_is_never_cut(qwen: LiteralTokenizer) -> None:
    """Asked for more documents than the profile lists, marks grow longer; a floor below the longest is an error."""
    texts = ["long enough a text to be cut"] * 1000
    prompt, plan = written(qwen, num_input_docs=3, caps=Caps(listed=8, floor=8)).listwise("query", texts, 1000)
    lines = rendered(prompt.ids[: plan.tokens - plan.query_tokens]).splitlines()[3:]
    assert len(lines) == 1000
    assert all(line.startswith(f"[{number}] long") for number, line in enumerate(lines, start=1))
    tight = written(qwen, num_input_docs=3, caps=Caps(listed=6, floor=6))
    with pytest.raises(ProfileError):
        tight.listwise("query", texts, 1000)


# Another model's profile

E5 = Profile(
    name="e5",
    architecture="bert",
    pooling="mean",
    document_format="[CLS]passage: {document}[SEP]",
    query_format="[CLS]query: {query}[SEP]",
    prompt_format="[CLS]query: {message}[SEP]",
    caps=Caps(document=512, listed=128, prompt=512, query=512, floor=16, query_step=32),
    num_input_docs=5,
    query_weight=0.5,
)


@few
@given(texts=texts, query=benign)
def test_a_user_s_profile_for_another_model(
    bert: LiteralTokenizer, hf_bert: PreTrainedTokenizerBase, texts: list[str], query: str
) -> None:
    """An E5-like profile needs formats and nothing else; its ids are those of the prefixed texts."""
    ours = InputWriter(E5, bert, BERT_WINDOW)
    listed = "".join(f"[{number}] {' '.join(text.split())}\n" for number, text in enumerate(texts, start=1))
    message = f"query: {E5.tasks.listwise}:\nDocuments:\n{listed}Search Query: {query}"
    assert list(ours.query(query).ids) == hf_bert(f"query: {query}")["input_ids"]
    assert list(ours.document(query).ids(512)) == hf_bert(f"passage: {query}")["input_ids"]
    if len(hf_bert(message)["input_ids"]) <= 400 and all(len(text) < 100 for text in texts):
        assert list(ours.listwise(query, texts, 20)[0].ids) == hf_bert(message)["input_ids"]


def test_a_user_s_profile_without_control_tokens(qwen: LiteralTokenizer) -> None:
    """A prompt may be the bare message, and the message may begin with its first line."""
    bare = ListwiseTemplate(name="bare", head="")
    ours = written(qwen, bare, prompt_format="{message}")
    assert qwen_bytes(ours.listwise("q", ["a", "b"], 20)[0].ids) == b"[1] a\n[2] b\nSearch Query: q"


def test_nothing_to_list_is_not_a_lack_of_room(qwen: LiteralTokenizer) -> None:
    """Without a document there is no prompt, and the message says that, not that the query is too long."""
    for texts, asked in (([], 20), (["a"], 0), (["a"], -1)):
        with pytest.raises(InputError) as caught:
            written(qwen).listwise("query", texts, asked)
        assert not isinstance(caught.value, PromptBudgetError)
