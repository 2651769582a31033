"""First-stage scores in the listwise prompt: what is shown, what is refused, and that the budget stays exact."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2rank_integrations import Candidate, Reranker
from e2rank_integrations.errors import InputError, ProfileError
from e2rank_integrations.profiles import E2RANK, EMBEDDED, Caps, ListwiseTemplate
from e2rank_integrations.text.prompts import InputWriter
from tests.golden import reference
from tests.golden.inputs import TASKS
from tests.support.reranking import SECRET
from tests.text.oracle import rendered
from tests.text.strategies import benign, few

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from e2rank_integrations import E2RankEncoder
    from e2rank_integrations.text.tokenizer import LiteralTokenizer

QUERY = "Who wrote it?"
WINDOW = 32768


def writer(tokenizer: LiteralTokenizer, template: str | ListwiseTemplate = "insertrank", **changes: object):
    return InputWriter(replace(E2RANK.with_template(template), **changes), tokenizer, WINDOW)


def lines(writer: InputWriter, texts: list[str], scores: list[float]) -> list[str]:
    """The lines of the documents as the prompt shows them."""
    prompt, plan = writer.listwise(QUERY, texts, 20, scores)
    listed = rendered(prompt.ids[: plan.tokens - plan.query_tokens]).split("Documents:\n", 1)[1]
    return listed.splitlines()


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (12.3456, "12.35"), (7, "7.00"), (0.0, "0.00"), (-0.0, "0.00"), (-0.004, "0.00"), (-1.5, "-1.50"),
        (np.float32(2.5), "2.50"), (np.int64(3), "3.00"), (Fraction(1, 4), "0.25"), (1e6, "1000000.00"),
    ],
)  # fmt: skip
def test_a_score_is_shown_with_two_decimals(qwen: LiteralTokenizer, score: float, shown: str):
    """Of whatever kind of number it is; there is no minus zero."""
    assert lines(writer(qwen), ["a text"], [score]) == [f"[1] (BM25 score: {shown}) a text"]


def test_each_document_shows_its_own_score(qwen: LiteralTokenizer):
    """In the order of the candidates, for one writer asked twice."""
    ours = writer(qwen)
    assert lines(ours, ["a", "b"], [2.0, 1.0]) == ["[1] (BM25 score: 2.00) a", "[2] (BM25 score: 1.00) b"]
    assert lines(ours, ["a", "b"], [1.0, 30.5]) == ["[1] (BM25 score: 1.00) a", "[2] (BM25 score: 30.50) b"]


@pytest.mark.parametrize("template", ["paper", "readme", "training"])
def test_a_template_without_the_field_is_not_changed_by_scores(qwen: LiteralTokenizer, template: str):
    """Given or not, whatever they are: a template that shows none does not read them."""
    ours = writer(qwen, template)
    plain = ours.listwise(QUERY, ["a", "b"], 20)
    assert ours.listwise(QUERY, ["a", "b"], 20, [1.0, None]) == plain
    assert ours.listwise(QUERY, ["a", "b"], 20, [float("nan"), 2.0]) == plain


@pytest.mark.parametrize(
    ("score", "found"),
    [
        (None, "has none"), (float("nan"), "nan"), (float("inf"), "inf"), (10**400, "inf"), (True, "bool"),
        (SECRET, "str"), (1j, "complex"), ([1.0], "list"),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_score_that_cannot_be_shown_is_refused(qwen: LiteralTokenizer, score: object, found: str):
    """The message names the candidate and what was found, never a text."""
    with pytest.raises(InputError, match=rf"candidate 1\b.*{found}") as caught:
        writer(qwen).listwise(QUERY, ["a", SECRET], 20, [1.0, score])
    assert SECRET not in str(caught.value)


def test_only_listed_candidates_need_a_score(qwen: LiteralTokenizer):
    """Beyond the prompt's first k nobody looks."""
    writer(qwen).listwise(QUERY, ["a", "b", "c"], 2, [1.0, 2.0, None])
    with pytest.raises(InputError, match="candidate 2"):
        writer(qwen).listwise(QUERY, ["a", "b", "c"], 3, [1.0, 2.0, None])


def test_scores_that_do_not_pair_with_the_candidates_are_refused(qwen: LiteralTokenizer):
    """One short or one over would shift them by one; in every template it is an error."""
    for template in ("insertrank", "paper"):
        for scores in ([1.0], [1.0, 2.0, 3.0], []):
            with pytest.raises(InputError, match="2 candidates"):
                writer(qwen, template).listwise(QUERY, ["a", "b"], 20, scores)


def test_a_score_that_leaves_no_room_for_text_is_refused(qwen: LiteralTokenizer):
    """The floor holds for the line with its score; a number of a hundred digits is an error, not an empty line."""
    ours = writer(qwen)
    ours.listwise(QUERY, ["a", "b"], 20, [1.0, 1e9])
    with pytest.raises(InputError, match=r"candidate 1: .*floor of 64"):
        ours.listwise(QUERY, ["a", "b"], 20, [1.0, 1e100])


def test_the_floor_is_checked_with_a_score_in_the_line(qwen: LiteralTokenizer):
    """A floor that suits `paper` may be too low for a line with a score: it is refused at construction."""
    caps = Caps(listed=16, floor=12)
    writer(qwen, "paper", caps=caps)
    with pytest.raises(ProfileError, match="floor of 12"):
        writer(qwen, caps=caps)


@few
@given(
    texts=st.lists(benign, min_size=1, max_size=6),
    listed=st.integers(30, 60),
    prompt=st.integers(200, 400),
    scores=st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6),
)
def test_the_budget_is_exact(qwen: LiteralTokenizer, texts: list[str], listed: int, prompt: int, scores: list[float]):
    """However long the scores, no line is above its cap, none ends before its text begins, and the sum is right."""
    caps = Caps(prompt=prompt, listed=listed, floor=30)
    found, plan = writer(qwen, caps=caps).listwise(QUERY, texts, 20, scores[: len(texts)])
    assert plan.tokens == len(found.ids) <= prompt
    head = plan.tokens - plan.query_tokens - sum(slot.tokens_after for slot in plan.slots)
    place = head
    for position, slot in enumerate(plan.slots[: plan.documents_used]):
        line = rendered(found.ids[place : place + slot.tokens_after])
        assert slot.tokens_after <= plan.cap_used <= listed
        assert line.startswith(f"[{position + 1}] (BM25 score: {scores[position]:z.2f})")
        assert line.endswith("\n")
        place += slot.tokens_after


OWN = {
    "score first": "{score} | {document}\n",
    "score last": "- {document} (retrieved with {score})\n",
    "score twice": "[{position}] {score}/{score} {document}\n",
    "between control tokens": "{score}<|file_sep|>{document}<|file_sep|>",
}


@few
@given(documents=st.lists(benign, min_size=1, max_size=4), query=benign)
@pytest.mark.parametrize("line", OWN.values(), ids=list(OWN))
def test_an_own_template_with_scores_equals_the_whole_string(
    qwen: LiteralTokenizer, hf_qwen: PreTrainedTokenizerBase, line: str, documents: list[str], query: str
):
    """Wherever the score stands, negative or not, the ids are those of the message as one string."""
    template = ListwiseTemplate(name="own", line=line)
    scores = [-1.5, 20.25, 0.0, 3.125][: len(documents)]
    shown = ["-1.50", "20.25", "0.00", "3.12"]
    listed = [
        line.format(position=place + 1, document=text, score=shown[place]) for place, text in enumerate(documents)
    ]
    whole = reference.head(TASKS["default"]) + "".join(listed) + reference.tail("paper", query)
    assert list(writer(qwen, template).listwise(query, documents, 20, scores)[0].ids) == reference.encode(
        hf_qwen, whole
    )


def test_a_line_that_ends_with_a_score_is_refused(qwen: LiteralTokenizer):
    """It ends with no newline, so the next line's first token could reach back."""
    with pytest.raises(ProfileError, match="template 'own'"):
        writer(qwen, ListwiseTemplate(name="own", line="- {document} {score}"))


def test_the_embedded_model_reads_it_too(embedded_encoder: E2RankEncoder):
    """`insertrank` names no control token, so every tokenizer takes it, within the embedded profile's caps."""
    encoder = replace(embedded_encoder, profile=EMBEDDED.with_template("insertrank"))
    shown = encoder.listwise_input(QUERY, ["a text"], scores=[12.5])[0]
    assert shown != encoder.listwise_input(QUERY, ["a text"], scores=[12.0])[0]
    assert encoder.encode_listwise(QUERY, ["a text"], scores=[12.5])[0].shape == (1, 384)


# From the candidate into the prompt


def test_a_reranker_writes_its_candidates_scores(qwen_encoder: E2RankEncoder):
    """`Candidate.retrieval_score`, in the candidates' order."""
    encoder = replace(qwen_encoder, profile=qwen_encoder.profile.with_template("insertrank"))
    candidates = [Candidate("a", retrieval_score=9.5), Candidate("b", prompt_text="short", retrieval_score=-2.0)]
    job = Reranker(encoder).plan(QUERY, candidates)
    assert job.prompt == encoder.listwise_input(QUERY, ["a", "short"], scores=[9.5, -2.0])[0]
    assert "[2] (BM25 score: -2.00) short\n" in rendered(job.prompt.ids)


def test_a_candidate_without_a_score_is_named(qwen_encoder: E2RankEncoder):
    """Strings have none; what to do is in the message."""
    encoder = replace(qwen_encoder, profile=qwen_encoder.profile.with_template("insertrank"))
    with pytest.raises(InputError, match=r"candidate 1: .*'insertrank'.*retrieval_score"):
        Reranker(encoder).rank(QUERY, [Candidate("a", retrieval_score=1.0), "b"])


def test_a_score_that_is_not_shown_changes_nothing(qwen_encoder: E2RankEncoder):
    """With any other template the same prompt, whatever the score is."""
    plain = Reranker(qwen_encoder).plan(QUERY, ["a", "b"])
    scored = [Candidate("a", retrieval_score=float("nan")), Candidate("b", retrieval_score=3.0)]
    assert Reranker(qwen_encoder).plan(QUERY, scored).prompt == plain.prompt


def test_a_document_s_vector_does_not_depend_on_its_score(qwen_encoder: E2RankEncoder):
    """The score is in the prompt alone, so an index fits every template."""
    encoder = replace(qwen_encoder, profile=qwen_encoder.profile.with_template("insertrank"))
    assert encoder.fingerprint == qwen_encoder.fingerprint
    one, other = (Reranker(encoder).plan(QUERY, [Candidate("a", retrieval_score=score)]) for score in (1.0, 2.0))
    assert dict(one.slate.missing) == dict(other.slate.missing)
    assert one.prompt != other.prompt
