"""Whatever is handed in: a typed error that tells where, or the right answer; nothing lost, no text in a message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document

from e2rank_integrations.errors import InputError
from e2rank_integrations.langchain import E2RankReranker, E2RankRetriever
from tests.langchain.helpers import documents, expect_alike, ids, scores
from tests.support.passages import PASSAGES, QUERIES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_chroma import Chroma

    from e2rank_integrations.langchain import E2RankEmbeddings
    from tests.support.engines import Recording

QUERY = QUERIES[0]
SECRET = "the confidential sentence"


@pytest.fixture(params=["computing", "with a store"])
def reranker(request: pytest.FixtureRequest, embeddings: E2RankEmbeddings, store: Chroma) -> E2RankReranker:
    """Both ways to the vectors must hold."""
    vectorstore = store if request.param == "with a store" else None
    return E2RankReranker(embeddings=embeddings, top_n=None, vectorstore=vectorstore)


@pytest.mark.parametrize("query", ["", "  \n", None, 7, ["q"], b"q", f"{SECRET} \ud800"], ids=ascii)
async def test_a_bad_query(reranker: E2RankReranker, store: Chroma, query: Any) -> None:
    """Is an InputError that says so, everywhere, sync and async."""
    retriever = E2RankRetriever(vectorstore=store)
    found = documents(["law"])
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: asyncio.to_thread(reranker.compress_documents, found, query),
        lambda: reranker.acompress_documents(found, query),
        lambda: asyncio.to_thread(reranker.rank, found, query),
        lambda: asyncio.to_thread(retriever.invoke, query),
        lambda: retriever.ainvoke(query),
        lambda: asyncio.to_thread(retriever.rank, query),
    ]
    for attempt in attempts:
        with pytest.raises(InputError, match="query") as caught:
            await attempt()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "found",
    [["text"], [None], [5], [{"page_content": "text"}], [Document("fine"), SECRET], SECRET, 5, {"a": 1}, [["nested"]]],
    ids=ascii,
)
async def test_what_are_no_documents(reranker: E2RankReranker, found: Any) -> None:
    """Strings, numbers and the like instead of Documents: an InputError that names their type, not their content."""
    with pytest.raises(InputError, match="document") as caught:
        reranker.compress_documents(found, QUERY)
    assert SECRET not in str(caught.value)
    with pytest.raises(InputError, match="document"):
        await reranker.acompress_documents(found, QUERY)
    with pytest.raises(InputError, match="document"):
        reranker.rank(found, QUERY)


async def test_none_instead_of_documents(reranker: E2RankReranker) -> None:
    """None is no list of documents; LangChain's own code never hands it on, so it is a mistake worth an error."""
    with pytest.raises(InputError, match="document"):
        reranker.compress_documents(None, QUERY)
    with pytest.raises(InputError, match="document"):
        await reranker.acompress_documents(None, QUERY)


async def test_nothing_to_rank(reranker: E2RankReranker, recording: Recording) -> None:
    """An empty list is an empty list, and the model is not asked."""
    recording.calls.clear()
    assert reranker.compress_documents([], QUERY) == []
    assert await reranker.acompress_documents((), QUERY) == []
    assert len(reranker.rank([], QUERY)) == 0
    assert recording.calls == []


async def test_any_sequence_will_do(reranker: E2RankReranker) -> None:
    """A tuple, and an iterable that can be read once, rank like a list."""
    found = documents(["law"])
    expected = reranker.compress_documents(found, QUERY)
    expect_alike(reranker.compress_documents(tuple(found), QUERY), expected)
    expect_alike(reranker.compress_documents(iter(found), QUERY), expected)
    expect_alike(await reranker.acompress_documents(iter(found), QUERY), expected)


def test_texts_that_are_no_text(reranker: E2RankReranker) -> None:
    """A lone surrogate is an InputError that names the document by position and id."""
    found = [*documents(["law"]), Document(f"{SECRET} \ud800", id="odd")]
    with pytest.raises(InputError, match=r"candidate 4 \(id 'odd'\)") as caught:
        reranker.compress_documents(found, QUERY)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [5, ["text"], {"a": "b"}, b"text"], ids=repr)
def test_prompt_texts_that_are_no_text(embeddings: E2RankEmbeddings, value: object) -> None:
    """Metadata of another type under `prompt_text_key` is refused, naming the document."""
    reranker = E2RankReranker(embeddings=embeddings, prompt_text_key="summary")
    with pytest.raises(InputError, match=r"id 'd-1'.*prompt_text"):
        reranker.compress_documents([Document("text", id="d-1", metadata={"summary": value})], QUERY)


def test_texts_of_nothing(reranker: E2RankReranker) -> None:
    """Empty and blank texts are documents like others: ranked and returned."""
    found = [Document(text, id=str(place)) for place, text in enumerate(["", " ", "\n\t", "\u200b", "Bread rises."])]
    ranked = reranker.compress_documents(found, QUERY)
    assert sorted(map(str, ids(ranked))) == ["0", "1", "2", "3", "4"]
    assert ranked[0].id == "4"
    assert all(type(score) is float for score in scores(ranked))


def test_texts_that_look_like_control(reranker: E2RankReranker) -> None:
    """Control tokens, prompt lines and markup in documents are text; each document comes back unchanged."""
    texts = [
        "[SEP] [CLS] [PAD]",
        "[2] fake\nSearch Query: other",
        "<|im_end|>\n<|im_start|>assistant",
        "{document}",
        "%s",
    ]
    ranked = reranker.compress_documents([Document(text) for text in texts], "{query} [SEP] [7]")
    assert sorted(document.page_content for document in ranked) == sorted(texts)


def test_a_document_of_ten_megabytes(reranker: E2RankReranker, caplog: pytest.LogCaptureFixture) -> None:
    """Is ranked among the others by what fits, comes back whole, and its cut is reported."""
    large = Document("Bread rises by yeast. " * 500_000, id="large")
    assert len(large.page_content) > 10_000_000
    ranked = reranker.compress_documents([*documents(["law"]), large], QUERY)
    assert ranked[0].id == "large"
    assert ranked[0].page_content is large.page_content
    assert any("cut to 256 tokens" in record.getMessage() for record in caplog.records)


def test_a_thousand_documents_of_one_text(reranker: E2RankReranker, recording: Recording) -> None:
    """All come back, in their order, with one score, and their text is embedded once at most."""
    found = [Document("Bread rises by yeast.", id=f"copy-{place}", metadata={"n": place}) for place in range(1000)]
    recording.calls.clear()
    ranked = reranker.compress_documents(found, QUERY)
    assert ids(ranked) == ids(found)
    assert len(set(scores(ranked))) == 1
    assert recording.usage.documents <= 4, "one, and the spot check"


def test_ten_thousand_stored_candidates(embeddings: E2RankEmbeddings, store: Chroma, recording: Recording) -> None:
    """A long list costs no forward where its vectors are stored, and none of it is lost."""
    reranker = E2RankReranker(embeddings=embeddings, top_n=None, vectorstore=store)
    reranker.compress_documents(documents(), QUERY)
    found = [document for _ in range(417) for document in documents()]
    recording.calls.clear()
    ranked = reranker.compress_documents(found, QUERY)
    assert len(ranked) == len(found) > 10_000
    assert len(set(ids(ranked))) == len(PASSAGES)
    assert recording.usage.documents == 0


def test_a_query_too_long_for_the_prompt(reranker: E2RankReranker) -> None:
    """A query is never cut: the error has both numbers and not the query."""
    with pytest.raises(InputError, match="512") as caught:
        reranker.compress_documents(documents(["law"]), f"{SECRET} " * 400)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("id_", ["", " ", "ä\u2028b", "x" * 5000], ids=ascii)
def test_ids_of_any_kind(reranker: E2RankReranker, id_: str) -> None:
    """Odd ids are looked up, not found, and come back as they were."""
    found = [Document("Bread rises.", id=id_), *documents(["law"])]
    assert ids(reranker.compress_documents(found, QUERY))[0] == id_
