"""The cache and the bar, as options of LangChain's components."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import ValidationError

from e2rank_integrations import DiskCache, E2RankEncoder, MemoryCache
from e2rank_integrations.errors import InputError
from e2rank_integrations.langchain import E2RankEmbeddings, E2RankReranker, E2RankRetriever
from tests.langchain.helpers import documents
from tests.support.passages import QUERIES, TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.engines import Recording

CPU: dict[str, Any] = {"device": "cpu", "dtype": "float32"}


@pytest.mark.parametrize("component", [E2RankEmbeddings, E2RankReranker])
def test_the_cache_reaches_the_encoder(component: Any) -> None:
    """Given beside a name, or with a ready encoder; the field shows it."""
    cache = MemoryCache()
    for made in (
        component(model="embedded", document_cache=cache),
        component(encoder=E2RankEncoder("embedded", document_cache=cache)),
        component(encoder=E2RankEncoder("embedded", document_cache=cache), document_cache=cache),
    ):
        assert made.encoder.document_cache is cache
        assert made.document_cache is cache
    assert component(model="embedded").document_cache is None


def test_the_cache_comes_along_with_the_embeddings() -> None:
    """A reranker or a retriever that takes its model from embeddings takes their cache."""
    cache = MemoryCache()
    embeddings = E2RankEmbeddings(model="embedded", document_cache=cache)
    assert E2RankReranker(embeddings=embeddings).document_cache is cache
    store = InMemoryVectorStore(embeddings)
    assert E2RankRetriever(vectorstore=store).reranker.encoder.document_cache is cache


@pytest.mark.parametrize("component", [E2RankEmbeddings, E2RankReranker])
@pytest.mark.parametrize("other", [None, MemoryCache()], ids=["none", "another"])
def test_a_cache_that_contradicts_the_encoder_is_refused(component: Any, other: MemoryCache | None) -> None:
    """As a name would be."""
    encoder = E2RankEncoder("embedded", document_cache=MemoryCache())
    with pytest.raises(ValidationError, match=r"another document_cache.*leave document_cache out"):
        component(encoder=encoder, document_cache=other)


def test_two_caches_of_one_folder_are_no_contradiction(tmp_path: Path) -> None:
    """They are the same cache."""
    encoder = E2RankEncoder("embedded", document_cache=DiskCache(tmp_path))
    assert E2RankEmbeddings(encoder=encoder, document_cache=DiskCache(tmp_path)).encoder == encoder


@pytest.mark.parametrize("found", ["folder", {}, 3])
def test_what_is_no_cache_is_refused(found: object) -> None:
    """With the name of the option."""
    with pytest.raises(ValidationError, match="document_cache"):
        E2RankEmbeddings(model="embedded", document_cache=found)


def test_the_cache_is_settled_with_the_model() -> None:
    """Set later, it would not be in force."""
    made = E2RankEmbeddings(model="embedded")
    with pytest.raises(InputError, match="document_cache"):
        made.document_cache = MemoryCache()
    with pytest.raises(InputError, match="document_cache"):
        made.model_copy(update={"document_cache": MemoryCache()})


def test_the_cache_is_not_in_dumps_and_repr(tmp_path: Path) -> None:
    """A folder's name is nobody's business in a trace."""
    made = E2RankEmbeddings(model="embedded", document_cache=DiskCache(tmp_path / "secret-folder"))
    assert "document_cache" not in made.model_dump()
    for shown in (repr(made), made.model_dump_json(), repr(made.encoder)):
        assert "secret-folder" not in shown


def test_reranking_reads_what_indexing_kept(encoder: E2RankEncoder, recording: Recording) -> None:
    """Documents from elsewhere, without stored vectors, cost no forward if their texts were embedded before."""
    embeddings = E2RankEmbeddings(encoder=replace(encoder, document_cache=MemoryCache()))
    embeddings.embed_documents(TEXTS)
    recording.calls.clear()
    found = E2RankReranker(embeddings=embeddings, top_n=None).compress_documents(documents(["law"]), QUERIES[0])
    assert len(found) == 4
    assert recording.usage.documents == 0


# The bar


async def test_the_bar_changes_no_vector(embeddings: E2RankEmbeddings, capsys: pytest.CaptureFixture[str]) -> None:
    """With it the same lists of floats, sync and async; it is off unless asked for."""
    expected = embeddings.embed_documents(TEXTS)
    assert capsys.readouterr().err == ""
    shown = E2RankEmbeddings(encoder=embeddings.encoder, show_progress=True)
    for asynchronous in (False, True):
        vectors = await shown.aembed_documents(TEXTS) if asynchronous else shown.embed_documents(TEXTS)
        assert all(type(row) is list and {*map(type, row)} == {float} for row in vectors)
        assert np.allclose(vectors, expected, atol=1e-6)
        bar = capsys.readouterr().err
        assert f"{len(TEXTS)}/{len(TEXTS)}" in bar
        assert "tokens/s" in bar
    assert shown.embed_documents([]) == await shown.aembed_documents([]) == []


@pytest.mark.parametrize("texts", [None, "text", [None], ["fine", b"bytes"]], ids=ascii)
async def test_what_is_not_text_is_refused_with_a_bar_too(embeddings: E2RankEmbeddings, texts: object) -> None:
    """The same typed error."""
    shown = E2RankEmbeddings(encoder=embeddings.encoder, show_progress=True)
    with pytest.raises(InputError):
        shown.embed_documents(texts)
    with pytest.raises(InputError):
        await shown.aembed_documents(texts)
