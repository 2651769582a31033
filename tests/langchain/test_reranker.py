"""E2RankReranker: the core's order on copies of the documents, nothing lost, nothing written to."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from pydantic import Field, ValidationError

from e2rank_integrations import Candidate, Reranker
from e2rank_integrations.errors import EngineMemoryError, InputError, VectorError
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker
from tests.langchain.helpers import documents, ids, scores, snapshot
from tests.support.engines import Failing
from tests.support.passages import IDS, QUERIES, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_chroma import Chroma

    from e2rank_integrations import E2RankEncoder
    from tests.support.engines import Recording

QUERY = QUERIES[0]
TOPICS = ("bread", "orbit", "law")


class Page(Document):
    """A document of the user's own class."""

    number: int = 0
    state: dict[str, Any] = Field(default_factory=dict)


@pytest.fixture
def found() -> list[Document]:
    return documents(TOPICS)


async def test_order_and_scores_are_the_cores(
    reranker: E2RankReranker, encoder: E2RankEncoder, found: list[Document]
) -> None:
    """Sync and async: the core's ranking of the same texts, its cosines as Python floats under `relevance_score`."""
    expected = Reranker(encoder).rank(QUERY, [document.page_content for document in found])
    for ranked in (reranker.compress_documents(found, QUERY), await reranker.acompress_documents(found, QUERY)):
        assert [document.page_content for document in ranked] == [item.candidate.text for item in expected]
        assert scores(ranked) == pytest.approx([item.score for item in expected], abs=1e-5)
        assert {type(score) for score in scores(ranked)} == {float}


def test_scores_are_cosines_to_the_prompts_vector(reranker: E2RankReranker, found: list[Document]) -> None:
    """Recomputed from the vectors, in [-1, 1], falling."""
    ranking = reranker.rank(found, QUERY)
    ranked = reranker.compress_documents(found, QUERY)
    vectors = np.array(reranker.encoder.encode_documents([document.page_content for document in ranked]))
    assert scores(ranked) == pytest.approx([*(vectors @ ranking.query_vector)], abs=1e-5)
    assert scores(ranked) == sorted(scores(ranked), reverse=True)
    assert all(-1 <= score <= 1 for score in scores(ranked))


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(8)), top_n=st.integers(1, 10))
def test_top_n_of_whatever_order(embeddings: E2RankEmbeddings, order: list[int], top_n: int) -> None:
    """The first `top_n` of all, or all where there are fewer; each document once."""
    found = documents(TOPICS[:2])
    shuffled = [found[position] for position in order]
    everything = E2RankReranker(embeddings=embeddings, top_n=None).compress_documents(shuffled, QUERY)
    assert sorted(map(str, ids(everything))) == sorted(map(str, ids(found)))
    some = E2RankReranker(embeddings=embeddings, top_n=top_n).compress_documents(shuffled, QUERY)
    assert snapshot(some) == snapshot(everything[:top_n])


def test_documents_are_not_written_to(embeddings: E2RankEmbeddings, found: list[Document]) -> None:
    """The documents, their metadata and the list are as before, whatever happens to the result."""
    found[0].metadata["nested"] = {"list": [1, 2]}
    found[1].metadata["relevance_score"] = 99
    before = snapshot(found)
    ranked = E2RankReranker(embeddings=embeddings, top_n=None).compress_documents(found, QUERY)
    assert snapshot(found) == before
    for document in ranked:
        document.metadata["mine"] = "new"
    assert snapshot(found) == before
    assert not {map(id, ranked)} & {map(id, found)}


def test_ids_metadata_and_subclasses_survive(reranker: E2RankReranker) -> None:
    """A document comes back as its own class with all of its fields; only the score is new."""
    pages = [Page(page_content=text, id=id_, number=7, metadata={"a": [1], "b": None}) for id_, text in
             zip(IDS[:4], TEXTS, strict=False)]  # fmt: skip
    pages.append(Page(page_content="no id, no metadata"))
    for page in reranker.compress_documents(pages, QUERY):
        (given_,) = (other for other in pages if other.page_content == page.page_content)
        assert type(page) is Page
        assert page.metadata.pop("relevance_score")
        assert page == given_


def test_an_old_score_is_replaced(reranker: E2RankReranker, found: list[Document]) -> None:
    """What another reranker left under the same key neither counts nor survives, nor does an old failure."""
    expected = scores(reranker.compress_documents(found, QUERY))
    for document in found:
        document.metadata.update(relevance_score=1e9, rerank_error="TimeoutError")
    ranked = reranker.compress_documents(found, QUERY)
    assert scores(ranked) == expected
    assert not any("rerank_error" in document.metadata for document in ranked)


def test_two_queries_on_one_list_do_not_mix(reranker: E2RankReranker, found: list[Document]) -> None:
    """The same documents reranked for another query and for the first again: as if each were the only one."""
    first = snapshot(reranker.compress_documents(found, QUERIES[0]))
    second = snapshot(reranker.compress_documents(documents(TOPICS), QUERIES[1]))
    assert snapshot(reranker.compress_documents(found, QUERIES[1])) == second
    assert snapshot(reranker.compress_documents(found, QUERIES[0])) == first
    assert first != second


def test_equal_texts_and_ids_stay_apart(reranker: E2RankReranker) -> None:
    """Documents that differ in their metadata alone all come back, in the order given."""
    twins = [Document("Rye bread is dense.", id="same", metadata={"n": number}) for number in range(6)]
    ranked = reranker.compress_documents([Document("Tides."), *twins], QUERY)
    assert len(ranked) == 7
    assert [document.metadata["n"] for document in ranked if document.id == "same"] == list(range(6))


def test_score_threshold_drops_what_is_below(embeddings: E2RankEmbeddings, found: list[Document]) -> None:
    """Only documents of at least that cosine are returned; that may be none."""
    everything = E2RankReranker(embeddings=embeddings, top_n=None).compress_documents(found, QUERY)
    least = scores(everything)[3]
    some = E2RankReranker(embeddings=embeddings, top_n=None, score_threshold=least).compress_documents(found, QUERY)
    assert ids(some) == ids(everything[:4])
    above = math.nextafter(scores(everything)[0], 1)
    assert E2RankReranker(embeddings=embeddings, score_threshold=above).compress_documents(found, QUERY) == []


@pytest.mark.parametrize("name", ["top_n", "num_input_docs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many"], ids=repr)
def test_counts_are_checked_at_construction(embeddings: E2RankEmbeddings, name: str, value: object) -> None:
    """Not at the first request."""
    with pytest.raises(ValidationError, match=name):
        E2RankReranker(embeddings=embeddings, **{name: value})


@pytest.mark.parametrize(
    "options", [{"query_weight": 1.5}, {"query_weight": -0.1}, {"score_threshold": 2}, {"on_error": "ignore"}], ids=str
)
def test_options_are_checked_at_construction(embeddings: E2RankEmbeddings, options: dict[str, Any]) -> None:
    """The message names the option."""
    with pytest.raises(ValidationError, match=next(iter(options))):
        E2RankReranker(embeddings=embeddings, **options)


def test_options_reach_the_core(embeddings: E2RankEmbeddings, found: list[Document]) -> None:
    """How many documents are listed, and how much the plain query counts."""
    reranker = E2RankReranker(embeddings=embeddings, num_input_docs=2, query_weight=0)
    ranking = reranker.rank(found, QUERY)
    assert ranking.plan is not None
    assert ranking.plan.documents_used == 2
    assert ranking.usage.queries == 0
    assert E2RankReranker(embeddings=embeddings, query_weight=0.5).rank(found, QUERY).usage.queries == 1


@pytest.mark.parametrize("change", ["assigned", "copied"])
def test_a_changed_option_counts(embeddings: E2RankEmbeddings, found: list[Document], change: str) -> None:
    """An option set on the component, or on a copy of it, is in force or refused, never shown and ignored."""
    reranker = E2RankReranker(embeddings=embeddings, top_n=3)
    if change == "copied":
        reranker = reranker.model_copy(update={"top_n": 1})
    else:
        try:
            reranker.top_n = 1
        except ValidationError:  # a frozen component
            return
    assert len(reranker.compress_documents(found, QUERY)) == reranker.top_n == 1


async def test_keep_order_loses_nothing(encoder: E2RankEncoder, found: list[Document]) -> None:
    """After an absorbed failure: the retrieval order cut to `top_n`, without a score, saying what failed."""
    engine = Failing(encoder.engine, EngineMemoryError("out of memory"))
    broken = replace(encoder, custom_engine=engine)
    reranker = E2RankReranker(encoder=broken, top_n=5, on_error="keep_order")
    for document in found:
        document.metadata["relevance_score"] = 0.5
    before = snapshot(found)
    for kept in (reranker.compress_documents(found, QUERY), await reranker.acompress_documents(found, QUERY)):
        assert ids(kept) == ids(found[:5])
        assert all("relevance_score" not in document.metadata for document in kept)
        assert {document.metadata["rerank_error"] for document in kept} == {"EngineMemoryError"}
    assert snapshot(found) == before
    unlimited = E2RankReranker(encoder=broken, top_n=None, on_error="keep_order")
    assert ids(unlimited.compress_documents(found, QUERY)) == ids(found)
    with pytest.raises(EngineMemoryError):
        E2RankReranker(encoder=broken).compress_documents(found, QUERY)


def test_a_shorter_text_may_stand_in_the_prompt(
    embeddings: E2RankEmbeddings, encoder: E2RankEncoder, recording: Recording
) -> None:
    """`prompt_text_key` names the metadata that is listed; what is embedded is the document's text all the same."""
    found = [
        Document(TEXTS[0], metadata={"summary": "The Moon."}),
        Document(TEXTS[4], metadata={}),
        Document(TEXTS[5], metadata={"summary": None}),
    ]
    reranker = E2RankReranker(embeddings=embeddings, prompt_text_key="summary")
    ranked = reranker.compress_documents(found, QUERY)
    prompts = {item for call in recording.calls for item in call if item.role == "listwise"}
    assert prompts == {encoder.listwise_input(QUERY, ["The Moon.", TEXTS[4], TEXTS[5]])[0]}
    embedded = {item for call in recording.calls for item in call if item.role == "document"}
    assert embedded == {*encoder.document_inputs([TEXTS[0], TEXTS[4], TEXTS[5]])}
    assert {document.page_content for document in ranked} == {TEXTS[0], TEXTS[4], TEXTS[5]}


def test_the_first_stages_score_may_stand_in_the_prompt(encoder: E2RankEncoder, recording: Recording) -> None:
    """`retrieval_score_key` names the metadata that a template with `{score}` shows; without it such a prompt fails."""
    found = [Document(text, metadata={"bm25": score}) for text, score in zip(TEXTS[:2], (12.345, 7.0), strict=True)]
    scored = replace(encoder, profile=encoder.profile.with_template("insertrank"))
    E2RankReranker(encoder=scored, retrieval_score_key="bm25").compress_documents(found, QUERY)
    prompts = {item for call in recording.calls for item in call if item.role == "listwise"}
    assert prompts == {scored.listwise_input(QUERY, TEXTS[:2], scores=[12.345, 7.0])[0]}
    with pytest.raises(InputError, match="score"):
        E2RankReranker(encoder=scored).compress_documents(found, QUERY)


async def test_stored_vectors_are_used(
    embeddings: E2RankEmbeddings, store: Chroma, found: list[Document], recording: Recording
) -> None:
    """With `vectorstore`, documents that it holds cost no forward, and the order is that without it."""
    reranker = E2RankReranker(embeddings=embeddings, top_n=None, vectorstore=store)
    reranker.compress_documents(found, QUERY)  # the spot check of an index without a fingerprint
    expected = E2RankReranker(embeddings=embeddings, top_n=None).compress_documents(found, QUERY)
    recording.calls.clear()
    shuffled = found[::-1]
    before = snapshot(shuffled)
    ranked = reranker.compress_documents(found, QUERY)
    again = await reranker.acompress_documents(found, QUERY)
    assert recording.usage.documents == 0
    assert ids(ranked) == ids(again) == ids(expected)
    assert scores(ranked) == pytest.approx(scores(expected), abs=1e-5)
    assert {item.vector_source for item in reranker.rank(shuffled, QUERY)} == {"store"}
    assert snapshot(shuffled) == before


def test_what_the_store_lacks_is_computed(embeddings: E2RankEmbeddings, store: Chroma, recording: Recording) -> None:
    """Hits of several origins mix: stored ones, ones without an id, and ones whose id is unknown. None is lost."""
    found = [
        *documents(["bread"]),
        Document("Yeast is a fungus."),
        Document("Ovens are hot.", id="unknown"),
        Document(TEXTS[0]),
    ]
    reranker = E2RankReranker(embeddings=embeddings, top_n=None, vectorstore=store)
    reranker.compress_documents(found, QUERY)
    recording.calls.clear()
    ranking = reranker.rank(found, QUERY)
    assert recording.usage.documents == 3
    sources = {item.candidate.id or item.candidate.text: item.vector_source for item in ranking}
    assert sources == {
        "bread-1": "store", "bread-2": "store", "bread-3": "store", "bread-4": "store",
        "Yeast is a fungus.": "computed", "unknown": "computed", TEXTS[0]: "computed",
    }  # fmt: skip


def test_a_changed_text_is_embedded_anew(embeddings: E2RankEmbeddings, store: Chroma, recording: Recording) -> None:
    """A text that was rewritten between retrieval and rerank does not get the vector of what is stored."""
    found = documents(["bread"])
    found[1] = found[1].model_copy(update={"page_content": "The Danube is a river."})
    reranker = E2RankReranker(embeddings=embeddings, top_n=None, vectorstore=store)
    expected = E2RankReranker(embeddings=embeddings, top_n=None).compress_documents(found, QUERY)
    reranker.compress_documents(found, QUERY)
    recording.calls.clear()
    ranked = reranker.compress_documents(found, QUERY)
    assert recording.usage.documents == 1
    assert ids(ranked) == ids(expected)
    assert scores(ranked) == pytest.approx(scores(expected), abs=1e-5)


def test_state_is_used_where_it_is_trusted(embeddings: E2RankEmbeddings, recording: Recording) -> None:
    """A vector that a filter left on the document spares its forward; by default it is not used."""
    pages = [
        Page(page_content=text, id=id_, state={"embedded_doc": vector})
        for id_, text, vector in zip(IDS[:5], TEXTS, embeddings.embed_documents(TEXTS[:5]), strict=False)
    ]
    pages.append(Page(page_content=TEXTS[5], id=IDS[5]))
    expected = E2RankReranker(embeddings=embeddings, top_n=None).rank(pages, QUERY)
    assert {item.vector_source for item in expected} == {"computed"}
    recording.calls.clear()
    trusting = E2RankReranker(embeddings=embeddings, top_n=None, trust_document_state=True)
    ranking = trusting.rank(pages, QUERY)
    assert recording.usage.documents == 1
    assert [item.candidate.id for item in ranking] == [item.candidate.id for item in expected]
    assert {item.vector_source for item in ranking if item.candidate.id != IDS[5]} == {"document"}
    before = snapshot(pages)
    assert all(type(page) is Page and page.state is not None for page in trusting.compress_documents(pages, QUERY))
    assert snapshot(pages) == before


@pytest.mark.parametrize(
    "vector",
    [[0.0] * 384, [float("nan")] * 384, [1.0, 2.0], "text", [[1.0] * 384]],
    ids=["of length zero", "not finite", "of another width", "no vector", "a matrix"],
)
def test_a_broken_state_is_refused(embeddings: E2RankEmbeddings, vector: object) -> None:
    """It names the document by position and id."""
    page = Page(page_content="text", id="p-9", state={"embedded_doc": vector})
    with pytest.raises(VectorError, match="p-9"):
        E2RankReranker(embeddings=embeddings, trust_document_state=True).compress_documents([page], QUERY)


def test_ranking_says_what_happened(reranker: E2RankReranker, found: list[Document]) -> None:
    """`rank` gives the core's report on the same documents, in the order of `compress_documents`."""
    ranking = reranker.rank(found, QUERY)
    assert [item.candidate.id for item in ranking] == ids(reranker.compress_documents(found, QUERY))
    assert ranking.plan is not None
    assert ranking.usage.prompts == 1
    assert isinstance(ranking[0].candidate, Candidate)


def test_any_store_of_the_collection_will_do(
    embeddings: E2RankEmbeddings, make_store: Callable[..., Chroma], found: list[Document]
) -> None:
    """LangChain's store, and the native collection behind it, give the same."""
    store = make_store()
    by_store = E2RankReranker(embeddings=embeddings, vectorstore=store).rank(found, QUERY)
    by_collection = E2RankReranker(embeddings=embeddings, vectorstore=store._collection).rank(found, QUERY)
    assert [item.score for item in by_store] == [item.score for item in by_collection]
    assert {item.vector_source for item in (*by_store, *by_collection)} == {"store"}


def test_metadata_of_any_kind_is_carried(reranker: E2RankReranker) -> None:
    """Objects in the metadata are neither read nor copied to pieces."""
    thing = object()
    (ranked,) = reranker.compress_documents([Document("text", metadata={"thing": thing})], QUERY)
    assert ranked.metadata["thing"] is thing
    assert copy.copy(ranked).metadata["relevance_score"] == ranked.metadata["relevance_score"]
